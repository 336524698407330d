"""Lowers the level of the log of psycopg's pool, which writes a line for each attempt to connect, to DEBUG."""

from __future__ import annotations

import logging


def quiet_pool() -> None:
    """Give the pool's log records the level DEBUG: the error that a caller gets says why there is no connection."""
    pool = logging.getLogger("psycopg.pool")
    if _for_debugging not in pool.filters:
        pool.addFilter(_for_debugging)


def _for_debugging(record: logging.LogRecord) -> bool:
    # A logger checks the level before its filters run, and handlers check only their own.
    record.levelno, record.levelname = logging.DEBUG, logging.getLevelName(logging.DEBUG)
    return logging.getLogger().isEnabledFor(logging.DEBUG)
