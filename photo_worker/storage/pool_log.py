"""What psycopg's pool logs by itself, a line for each attempt: kept for those who log everything."""

from __future__ import annotations

import logging


def quiet_pool() -> None:
    """Make the pool's records ones of level DEBUG. Why there is no connection says the error that a caller gets."""
    pool = logging.getLogger("psycopg.pool")
    if _for_debugging not in pool.filters:
        pool.addFilter(_for_debugging)


def _for_debugging(record: logging.LogRecord) -> bool:
    # A logger asks for levels before its filters, and handlers by their own alone.
    record.levelno, record.levelname = logging.DEBUG, logging.getLevelName(logging.DEBUG)
    return logging.getLogger().isEnabledFor(logging.DEBUG)
