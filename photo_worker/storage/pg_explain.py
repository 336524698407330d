"""Why there is no connection: asked once, however many callers wait to hear it."""

from __future__ import annotations

import threading
from concurrent.futures import Future

import psycopg

from photo_worker.storage.pg_connection import connect


class Explainer:
    """Opens a connection to see what comes of it. One at a time: callers that come meanwhile share its outcome.

    Each caller with a connection of its own would take those that the server has left, in the moment in which it
    is slow or short of them.
    """

    def __init__(self, database_url: str) -> None:
        self._database_url = database_url
        self._lock = threading.Lock()
        self._asked: Future[psycopg.Error | None] | None = None

    def ask(self) -> psycopg.Error | None:
        """Return what connecting raises, or None where it works; takes as long as connecting may take."""
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
            connect(self._database_url).close()
        except psycopg.Error as error:
            return error
        return None
