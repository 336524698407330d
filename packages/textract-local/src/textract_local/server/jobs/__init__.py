"""Jobs: the asynchronous operations, kept in a database until they expire."""

from textract_local.server.jobs.service import Jobs

__all__ = ["Jobs"]
