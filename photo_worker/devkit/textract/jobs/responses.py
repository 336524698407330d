"""What the Get operations say of a job, member by member in the order of real answers.

Known of the real service (O): the order ``DocumentMetadata``, ``JobStatus``, ``Blocks``, the model's version;
a job in progress has ``JobStatus`` and the version alone; nothing is null. Where ``NextToken``, ``Warnings``
and ``StatusMessage`` stand is the model's order (D). Nothing is known of a failed job's answer but that it
has a ``StatusMessage``, and of the words in it nothing (?); that a job of which a part failed has one is a choice (?).
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from photo_worker.devkit.textract.jobs.records import AnalysisJob, Status

MODEL_VERSION = "1.0"


def unfinished(job: AnalysisJob) -> dict[str, Any]:
    """Return the answer for a job without blocks: in progress, or failed."""
    answer: dict[str, Any] = {"JobStatus": job.status.value}
    if job.status_message is not None:
        answer["StatusMessage"] = job.status_message
    return answer | {job.kind.version_member: MODEL_VERSION}


def finished(
    job: AnalysisJob, status: Status, message: str | None, blocks: list[dict[str, Any]], next_token: str | None = None
) -> dict[str, Any]:
    """Return the answer with some of a job's blocks, as of the given status."""
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
    """Return an exception's code as the ErrorCode of a warning, of which only the spelling is known (?)."""
    words = re.findall(r"[A-Z]+(?![a-z])\d?|[A-Z][a-z]+", code.removesuffix("Exception"))
    return "_".join(word.upper() for word in words)
