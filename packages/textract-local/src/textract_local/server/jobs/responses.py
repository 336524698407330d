"""Builds the answers of the Get operations, with members in the order of real answers.

Observed on the real service (O): the order ``DocumentMetadata``, ``JobStatus``, ``Blocks``, the model's version;
a job in progress has only ``JobStatus`` and the version; no member is null. The positions of ``NextToken``,
``Warnings`` and ``StatusMessage`` are those of the model (D). Of a failed job's answer it is only known that it
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
    """Return the answer for a job without blocks: in progress, or failed."""
    answer: dict[str, Any] = {"JobStatus": job.status.value}
    if job.status_message is not None:
        answer["StatusMessage"] = job.status_message
    return answer | {job.kind.version_member: MODEL_VERSION}


def finished(
    job: AnalysisJob,
    status: JobStatus,
    message: str | None,
    blocks: list[dict[str, Any]],
    next_token: str | None = None,
) -> dict[str, Any]:
    """Return the answer with some of a job's blocks and the given status."""
    answer: dict[str, Any] = {"DocumentMetadata": {"Pages": job.pages or 0}, "JobStatus": status.value}
    if next_token is not None:
        answer["NextToken"] = next_token
    answer["Blocks"] = blocks
    warnings = warnings_of(job.unread or {})
    if warnings:
        answer["Warnings"] = warnings
    if message is not None:
        answer["StatusMessage"] = message
    return answer | {job.kind.version_member: MODEL_VERSION}


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
