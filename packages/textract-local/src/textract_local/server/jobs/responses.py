"""Builds the responses of the Get operations, with members in the order of real responses.

Observed on the real service (O): the order ``DocumentMetadata``, ``JobStatus``, ``Blocks``, the model's version;
a job in progress has only ``JobStatus`` and the version; no member is null. The positions of ``NextToken``,
``Warnings`` and ``StatusMessage`` are those of the model (D). Of a failed job's response it is only known that it
has a ``StatusMessage``, but not its text (?); that a job of PARTIAL_SUCCESS has one is a choice (?).
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from textract_local.reader.blocks import MODEL_VERSION
from textract_local.server.jobs.records import AnalysisJob, JobStatus


def unfinished(job: AnalysisJob) -> dict[str, Any]:
    """Return the response for a job without blocks: in progress, or failed."""
    response: dict[str, Any] = {"JobStatus": job.status.value}
    if job.status_message is not None:
        response["StatusMessage"] = job.status_message
    return response | {job.kind.version_member: MODEL_VERSION}


def finished(
    job: AnalysisJob,
    status: JobStatus,
    message: str | None,
    blocks: list[dict[str, Any]],
    next_token: str | None = None,
) -> dict[str, Any]:
    """Return the response with some of a job's blocks and the given status."""
    response: dict[str, Any] = {"DocumentMetadata": {"Pages": job.pages or 0}, "JobStatus": status.value}
    if next_token is not None:
        response["NextToken"] = next_token
    response["Blocks"] = blocks
    warnings = warnings_of(job.unread or {})
    if warnings:
        response["Warnings"] = warnings
    if message is not None:
        response["StatusMessage"] = message
    return response | {job.kind.version_member: MODEL_VERSION}


def warnings_of(unread: Mapping[int, str]) -> list[dict[str, Any]]:
    """Return the Warnings for pages that could not be read, one for each code."""
    pages: dict[str, list[int]] = defaultdict(list)
    for number in sorted(unread):
        pages[unread[number]].append(number)
    return [{"ErrorCode": code, "Pages": numbers} for code, numbers in pages.items()]


def warning_code(code: str) -> str:
    """Return the ErrorCode of a warning for an exception's code; only the spelling of such codes is known (?)."""
    words = re.findall(r"[A-Z]+(?![a-z])\d?|[A-Z][a-z]+", code.removesuffix("Exception"))
    return "_".join(word.upper() for word in words)
