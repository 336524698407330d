"""Jobs: the asynchronous operations, kept in a database until they expire."""

from photo_worker.devkit.textract.jobs.service import Jobs

__all__ = ["Jobs"]
