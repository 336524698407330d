"""The jobs on disk: one SQLite database in a directory that only one emulator uses at a time.

Every method is one transaction, so that a killed process leaves no partial changes. Writes are not synced to the
disk: they survive the process, but the last ones may be lost if the machine crashes.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import sqlite3
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from textract_local.errors import DataInUse, DataMismatch, DataUnwritable
from textract_local.reader.responses import paged
from textract_local.server.failures import IDEMPOTENT_PARAMETER_MISMATCH, LIMIT_EXCEEDED, ServiceError
from textract_local.server.faults import JobFault
from textract_local.server.jobs.records import (
    EXPIRY_SECONDS,
    AnalysisJob,
    JobStatus,
    canonical,
    fault_from_json,
    fault_to_json,
)
from textract_local.server.jobs.tokens import new_key

SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE settings (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT;
CREATE TABLE jobs (
    id TEXT PRIMARY KEY,
    operation TEXT NOT NULL,
    token TEXT,
    input TEXT NOT NULL,
    created REAL NOT NULL,
    status TEXT NOT NULL,
    fault TEXT,
    hold_until REAL NOT NULL,
    engine TEXT NOT NULL DEFAULT '',
    sha256 TEXT NOT NULL DEFAULT '',
    status_message TEXT,
    pages INTEGER,
    blocks INTEGER,
    notified INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE UNIQUE INDEX jobs_by_token ON jobs (operation, token) WHERE token IS NOT NULL;
CREATE INDEX jobs_by_age ON jobs (created);
CREATE INDEX jobs_by_status ON jobs (status);
CREATE TABLE pages (
    job TEXT NOT NULL REFERENCES jobs ON DELETE CASCADE,
    number INTEGER NOT NULL,
    error TEXT,
    count INTEGER NOT NULL,
    first INTEGER,
    blocks BLOB,
    PRIMARY KEY (job, number)
) STRICT;
CREATE TABLE notifications (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    job TEXT NOT NULL REFERENCES jobs ON DELETE CASCADE,
    topic TEXT NOT NULL,
    message TEXT NOT NULL,
    due REAL NOT NULL,
    copies INTEGER NOT NULL,
    held INTEGER NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX notifications_by_job ON notifications (job);
"""
_COLUMNS = (
    "id, operation, input, created, status, fault, hold_until, engine, sha256, status_message, pages, blocks, notified"
)
_KEY = "page token key"


@dataclass(frozen=True)
class Notification:
    """A notification of which copies remain to be sent."""

    id: int
    job_id: str
    topic: str
    message: str
    attempts: int


@dataclass(frozen=True)
class NewNotification:
    """To be sent ``copies`` times from ``due`` (seconds since 1970) on; if ``held``, after the next other one."""

    topic: str
    message: str
    due: float
    copies: int = 1
    held: bool = False


class JobStore:
    """The database. All methods must be called in the thread that opens it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._lock: IO[str] | None = None
        self._database: sqlite3.Connection | None = None

    def open(self) -> None:
        """Create the directory if it is missing, lock it, and open the database.

        Raises ``DataInUse`` if another process has locked it, ``DataUnwritable``, and ``DataMismatch`` if
        the file is not a database, or one of a later release.
        """
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = (self.directory / "jobs.lock").open("a")
        except OSError as error:
            raise DataUnwritable(
                path=str(error.filename or self.directory), reason=error.strerror or str(error)
            ) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            raise DataInUse(path=str(self.directory)) from None
        path = self.directory / "jobs.sqlite3"
        try:
            self._database = sqlite3.connect(path, isolation_level=None)
            self._prepare(self._database)
        except sqlite3.Error as error:
            self.close()
            kind = DataUnwritable if isinstance(error, sqlite3.OperationalError) else DataMismatch
            raise kind(path=str(path), reason=str(error)) from error
        except DataMismatch:
            self.close()
            raise

    def close(self) -> None:
        """Close the database and unlock the directory."""
        if self._database is not None:
            self._database.close()
            self._database = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def page_token_key(self) -> bytes:
        """Return the key of this store's NextTokens."""
        return bytes(self._one("SELECT value FROM settings WHERE name = ?", _KEY)[0])

    def known(self, operation: str, token: str, given: Mapping[str, Any], now: float) -> str | None:
        """Return the id of the job that was started with a token, or None.

        Raises IdempotentParameterMismatchException if that job has another input.
        """
        row = self._row(
            "SELECT id, input FROM jobs WHERE operation = ? AND token = ? AND created > ?",
            *(operation, token, now - EXPIRY_SECONDS),
        )
        if row is None:
            return None
        if row[1] != canonical(given):
            raise ServiceError(IDEMPOTENT_PARAMETER_MISMATCH, f"the token began the job {row[0]} with another input")
        return str(row[0])

    def require_room(self, most_open: int, now: float) -> None:
        """Raise LimitExceededException if ``most_open`` jobs are in progress."""
        counted = "SELECT count(*) FROM jobs WHERE status = ? AND created > ?"
        if self._one(counted, JobStatus.IN_PROGRESS, now - EXPIRY_SECONDS)[0] >= most_open:
            raise ServiceError(LIMIT_EXCEEDED, f"{most_open} jobs are in progress")

    def begin(self, job: AnalysisJob, token: str | None, most_open: int) -> str:
        """Save a new job and return its id, or that of its token's job. Raises like ``known`` and ``require_room``."""
        with self._transaction():
            # An expired job that has not been deleted yet must not keep its token.
            self._delete_expired(job.created)
            if token is not None:
                known = self.known(job.operation, token, job.given, job.created)
                if known is not None:
                    return known
            self.require_room(most_open, job.created)
            self._run(
                "INSERT INTO jobs (id, operation, token, input, created, status, fault, hold_until)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                *(job.id, job.operation, token, canonical(job.given), job.created, job.status),
                *(fault_to_json(job.fault), job.hold_until),
            )
        return job.id

    def job(self, job_id: str, now: float) -> AnalysisJob | None:
        """Return a job, or None if there is none or it has expired."""
        row = self._row(f"SELECT {_COLUMNS} FROM jobs WHERE id = ? AND created > ?", job_id, now - EXPIRY_SECONDS)  # noqa: S608
        return None if row is None else self._job(row)

    def jobs(self) -> list[AnalysisJob]:
        """Return all jobs, the oldest first."""
        return [self._job(row) for row in self._rows(f"SELECT {_COLUMNS} FROM jobs ORDER BY created, rowid")]  # noqa: S608

    def done(self, job_id: str) -> dict[int, str | None]:
        """Return the finished pages of a job, with the warning code of those that could not be read."""
        return dict(self._rows("SELECT number, error FROM pages WHERE job = ?", job_id))

    def begin_document(self, job_id: str, engine: str, sha256: str, pages: int) -> None:
        """Record a job's document and engine. Pages of another document or engine are deleted."""
        with self._transaction():
            row = self._row("SELECT engine, sha256 FROM jobs WHERE id = ?", job_id)
            if row is not None and row != (engine, sha256):
                self._run("DELETE FROM pages WHERE job = ?", job_id)
            self._run("UPDATE jobs SET engine = ?, sha256 = ?, pages = ? WHERE id = ?", engine, sha256, pages, job_id)

    def put_page(self, job_id: str, number: int, blocks: list[dict[str, Any]]) -> None:
        """Save a page, counted from 1, of a job in progress; each block gets its ``Page``."""
        blocks_of_page = [paged(block, number) for block in blocks]
        packed = zlib.compress(json.dumps(blocks_of_page, ensure_ascii=False, separators=(",", ":")).encode(), 1)
        self._put(job_id, number, None, len(blocks), packed)

    def put_unread(self, job_id: str, number: int, code: str) -> None:
        """Save the warning code of a page that could not be read."""
        self._put(job_id, number, code, 0, None)

    def count_blocks(self, job_id: str) -> int:
        """Assign positions to the blocks of a job whose pages are all read, and return their number."""
        with self._transaction():
            position = 0
            places = []
            for number, count in self._rows("SELECT number, count FROM pages WHERE job = ? ORDER BY number", job_id):
                places.append((position, job_id, number))
                position += count
            self._connected.executemany("UPDATE pages SET first = ? WHERE job = ? AND number = ?", places)
            self._run("UPDATE jobs SET blocks = ? WHERE id = ?", position, job_id)
        return position

    def blocks(self, job_id: str, first: int, most: int) -> list[dict[str, Any]]:
        """Return up to ``most`` blocks from position ``first`` (from 0) on, after ``count_blocks``."""
        found: list[dict[str, Any]] = []
        for start, packed in self._rows(
            "SELECT first, blocks FROM pages WHERE job = ? AND count > 0 AND first < ? AND first + count > ?"
            " ORDER BY first",
            *(job_id, first + most, first),
        ):
            page = json.loads(zlib.decompress(packed))
            found += page[max(0, first - start) : first + most - start]
        return found

    def finish(self, job_id: str, status: JobStatus, message: str | None, notification: NewNotification | None) -> bool:
        """End a job and queue its notification; return False if the job is not in progress."""
        with self._transaction():
            changed = self._run(
                "UPDATE jobs SET status = ?, status_message = ? WHERE id = ? AND status = ?",
                *(status, message, job_id, JobStatus.IN_PROGRESS),
            )
            if not changed.rowcount:
                return False
            if status is JobStatus.FAILED:
                self._run("DELETE FROM pages WHERE job = ?", job_id)
            if notification is not None and notification.copies:
                self._run(
                    "INSERT INTO notifications (job, topic, message, due, copies, held) VALUES (?, ?, ?, ?, ?, ?)",
                    *(job_id, notification.topic, notification.message, notification.due),
                    *(notification.copies, int(notification.held)),
                )
        return True

    def next_notification(self, now: float) -> tuple[Notification | None, float | None]:
        """Return the notification to send now, or when the next one is due; both are None if there is none."""
        row = self._row(
            "SELECT id, job, topic, message, attempts, due FROM notifications WHERE held = 0 ORDER BY due, id LIMIT 1"
        )
        if row is None:
            return None, None
        return (Notification(*row[:5]), None) if row[5] <= now else (None, row[5])

    def sent(self, notification: Notification) -> None:
        """Record that a notification was sent once, and release the held ones."""
        with self._transaction():
            self._run("UPDATE jobs SET notified = notified + 1 WHERE id = ?", notification.job_id)
            self._run("UPDATE notifications SET copies = copies - 1, attempts = 0 WHERE id = ?", notification.id)
            self._run("DELETE FROM notifications WHERE id = ? AND copies <= 0", notification.id)
            self._run("UPDATE notifications SET held = 0")

    def postpone(self, notification: Notification, due: float) -> None:
        """Set the next attempt of a notification after one that failed."""
        self._run("UPDATE notifications SET due = ?, attempts = attempts + 1 WHERE id = ?", due, notification.id)

    def give_up(self, notification: Notification) -> None:
        """Delete a notification without sending it."""
        self._run("DELETE FROM notifications WHERE id = ?", notification.id)

    def age(self, job_id: str | None, seconds: float) -> int:
        """Make a job, or all, older by ``seconds``; return the number of jobs changed."""
        return self._run(
            "UPDATE jobs SET created = created - ? WHERE ? IS NULL OR id = ?", seconds, job_id, job_id
        ).rowcount

    def expire(self, now: float) -> list[str]:
        """Delete the expired jobs, and return their ids."""
        with self._transaction():
            gone = self._delete_expired(now)
        if gone:
            self._shrink()
        return gone

    def clear(self) -> None:
        """Delete all jobs. The key of the tokens stays; without jobs they are invalid anyway."""
        self._run("DELETE FROM jobs")
        self._shrink()

    def _prepare(self, database: sqlite3.Connection) -> None:
        # It has an effect only before the first table is created.
        database.execute("PRAGMA auto_vacuum = INCREMENTAL")
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")
        database.execute("PRAGMA foreign_keys = ON")
        version = database.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            with self._transaction():
                for statement in _SCHEMA.split(";\n"):
                    database.execute(statement)
                database.execute("INSERT INTO settings VALUES (?, ?)", (_KEY, new_key()))
                database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        elif version != SCHEMA_VERSION:
            raise DataMismatch(
                path=str(self.directory), reason=f"its jobs have the form {version}, not {SCHEMA_VERSION}"
            )

    def _job(self, row: tuple[Any, ...]) -> AnalysisJob:
        job_id, operation, given, created, status, fault, *rest = row
        unread = self._rows("SELECT number, error FROM pages WHERE job = ? AND error IS NOT NULL", job_id)
        known_fault: JobFault | None = fault_from_json(fault)
        hold_until, engine, sha256, message, pages, blocks, notified = rest
        return AnalysisJob(
            *(job_id, operation, json.loads(given), created, JobStatus(status), known_fault, hold_until),
            *(engine, sha256, message, pages, blocks, dict(unread), notified),
        )

    def _put(self, job_id: str, number: int, code: str | None, count: int, packed: bytes | None) -> None:
        self._run(
            "INSERT OR REPLACE INTO pages (job, number, error, count, blocks)"
            " SELECT id, ?, ?, ?, ? FROM jobs WHERE id = ? AND status = ?",
            *(number, code, count, packed, job_id, JobStatus.IN_PROGRESS),
        )

    def _delete_expired(self, now: float) -> list[str]:
        return [row[0] for row in self._rows("DELETE FROM jobs WHERE created <= ? RETURNING id", now - EXPIRY_SECONDS)]

    def _shrink(self) -> None:
        # ``execute`` would free only one page of the file: it stops after the first step of a statement without rows.
        self._connected.executescript("PRAGMA incremental_vacuum")

    @property
    def _connected(self) -> sqlite3.Connection:
        if self._database is None:
            raise RuntimeError("the store of the jobs is closed")
        return self._database

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connected.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connected.execute("COMMIT")
        except BaseException:
            # A full disk either ends the transaction by itself, or leaves it open if the commit fails.
            if self._connected.in_transaction:
                self._connected.execute("ROLLBACK")
            raise

    def _run(self, statement: str, *values: object) -> sqlite3.Cursor:
        return self._connected.execute(statement, values)

    def _rows(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        return self._run(statement, *values).fetchall()

    def _row(self, statement: str, *values: object) -> tuple[Any, ...] | None:
        rows = self._rows(statement, *values)
        return rows[0] if rows else None

    def _one(self, statement: str, *values: object) -> tuple[Any, ...]:
        return self._rows(statement, *values)[0]
