"""Finds out why connecting to Postgres fails, with one attempt for all callers that wait for the reason."""

from __future__ import annotations

import threading
from concurrent.futures import Future

import psycopg

from photo_worker.adapters.postgres.connection import connect
from photo_worker.adapters.times import PostgresTimes


class Explainer:
    """Opens a connection to see which error it raises. One at a time: concurrent callers share its outcome.

    If each caller opened a connection, they would take the last ones of a server that is slow or short of them.
    """

    def __init__(self, database_url: str, times: PostgresTimes | None = None) -> None:
        self._database_url = database_url
        self._times = times
        self._lock = threading.Lock()
        self._asked: Future[psycopg.Error | None] | None = None

    def ask(self) -> psycopg.Error | None:
        """Return the error that connecting raises, or None if it works; takes up to the timeout for connecting."""
        with self._lock:
            asked = self._asked
            if asked is None:
                mine = self._asked = Future[psycopg.Error | None]()
        if asked is not None:
            return asked.result()
        try:
            mine.set_result(self._connect())
        except BaseException as error:
            mine.set_exception(error)
            raise
        finally:
            with self._lock:
                self._asked = None
        return mine.result()

    def _connect(self) -> psycopg.Error | None:
        try:
            connect(self._database_url, times=self._times).close()
        except psycopg.Error as error:
            return error
        return None
