"""Copies of the documents of jobs in progress, so that S3 is not asked again after a restart.

The object may be another by then, or gone; pages of two documents must not end up in one answer.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Collection, Iterable
from pathlib import Path

from photo_worker.devkit.textract.documents import Document
from photo_worker.devkit.textract.jobs.records import AnalysisJob
from photo_worker.devkit.textract.spool import Spool, private_folder


class DocumentStore:
    """A folder with one file a job. Its methods may wait for the disk, and raise ``OSError``."""

    def __init__(self, folder: Path, spool: Spool) -> None:
        self._folder = folder
        self._spool = spool

    def open(self, known: Collection[str]) -> None:
        """Make the folder, and remove what belongs to none of the known jobs."""
        private_folder(self._folder)
        self.remove({path.name for path in self._folder.iterdir()} - set(known))

    def keep(self, job_id: str, document: Document) -> None:
        """Keep a document for a job, in place of an earlier one."""
        with document.file(self._spool) as path:
            _link(path, self._folder / job_id)

    def get(self, job: AnalysisJob) -> Document | None:
        """Return the document of which the job has read, None where there is none or it was never noted."""
        kept = self._folder / job.id
        if not job.sha256 or not kept.is_file():
            return None
        # A document's own file goes when the document does, the kept one when the job ends.
        own = self._spool.folder / secrets.token_hex(16)
        _link(kept, own)
        return Document(job.document_name, job.sha256, own.stat().st_size, own)

    def remove(self, job_ids: Iterable[str]) -> None:
        """Remove what is kept for these jobs."""
        for job_id in job_ids:
            (self._folder / job_id).unlink(missing_ok=True)


def _link(path: Path, new: Path) -> None:
    """Give a file another name, or copy it where file systems differ; the new name never shows half of it."""
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
