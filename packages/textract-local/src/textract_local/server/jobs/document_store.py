"""Copies of the documents of jobs in progress, so that they need not be downloaded again after a restart.

The object may have been replaced or deleted by then, and a response must not mix pages of two documents.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Collection, Iterable
from pathlib import Path

from textract_local.server.documents import Document
from textract_local.server.jobs.records import AnalysisJob
from textract_local.server.spool import Spool, private_directory


class DocumentStore:
    """A directory with one file per job. Its methods block on the disk, and raise ``OSError``."""

    def __init__(self, directory: Path, spool: Spool) -> None:
        self._directory = directory
        self._spool = spool

    def open(self, known: Collection[str]) -> None:
        """Create the directory, and delete the files of jobs that are not known."""
        private_directory(self._directory)
        self.remove({path.name for path in self._directory.iterdir()} - set(known))

    def keep(self, job_id: str, document: Document) -> None:
        """Save a job's document, replacing an earlier one."""
        with document.file(self._spool) as path:
            _link(path, self._directory / job_id)

    def get(self, job: AnalysisJob) -> Document | None:
        """Return the document that the job has begun to read; None if no file or no hash of it was saved."""
        kept = self._directory / job.id
        if not job.sha256 or not kept.is_file():
            return None
        # A separate link: the file of a ``Document`` is deleted with the object, the stored one when the job ends.
        own = self._spool.directory / secrets.token_hex(16)
        _link(kept, own)
        return Document(job.document_name, job.sha256, own.stat().st_size, own)

    def remove(self, job_ids: Iterable[str]) -> None:
        """Delete the files of these jobs."""
        for job_id in job_ids:
            (self._directory / job_id).unlink(missing_ok=True)


def _link(path: Path, new: Path) -> None:
    """Link a file, or copy it if the file systems differ; the new name appears only when the copy is complete."""
    beside = new.with_name(f"{new.name}.{secrets.token_hex(4)}")
    try:
        try:
            os.link(path, beside)
        except OSError as error:
            if error.errno not in {errno.EXDEV, errno.EPERM, errno.ENOTSUP}:
                raise
            shutil.copyfile(path, beside)
        beside.replace(new)
    finally:
        beside.unlink(missing_ok=True)
