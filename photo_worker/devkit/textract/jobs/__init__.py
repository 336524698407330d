"""Jobs: the asynchronous operations, kept in a database until they expire."""

from photo_worker.devkit.textract.jobs.service import MOST_OPEN_JOBS, Jobs

__all__ = ["MOST_OPEN_JOBS", "Jobs"]
