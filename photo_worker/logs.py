"""Structured logs on stderr: one JSON object per line, or coloured text on a terminal.

Records made inside a workflow or activity carry workflow_id, run_id and activity_id, taken from
what Temporal's loggers add to each record.
"""

from __future__ import annotations

import logging
import sys
from typing import Literal

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from photo_worker.userinfo import without_userinfo

_WORKFLOW_FIELDS = ("workflow_id", "run_id", "workflow_type", "attempt", "task_queue")
_ACTIVITY_FIELDS = ("workflow_id", "workflow_run_id", "activity_id", "activity_type", "attempt", "task_queue")
_RENAMED = {"workflow_run_id": "run_id"}


def _temporal_context(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Lift the ids out of the dictionaries that Temporal attaches to a record."""
    record = event.get("_record")
    for attribute, fields in (("temporal_workflow", _WORKFLOW_FIELDS), ("temporal_activity", _ACTIVITY_FIELDS)):
        details = getattr(record, attribute, None)
        if isinstance(details, dict):
            for field in fields:
                if field in details:
                    event[_RENAMED.get(field, field)] = details[field]
    return event


def _fields_of_library(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Show what textract-local adds to a record under the product's own name."""
    if "textract_local" in event:
        event["photo"] = event.pop("textract_local")
    return event


def _tracebacks() -> Processor:
    # By default each frame lists its local variables, which may hold passwords and the text of documents. The console
    # uses plain tracebacks for the same reason.
    return structlog.processors.ExceptionRenderer(structlog.tracebacks.ExceptionDictTransformer(show_locals=False))


class _Formatter(structlog.stdlib.ProcessorFormatter):
    """Removes user names and passwords of URLs from every line: messages of libraries may contain them."""

    def format(self, record: logging.LogRecord) -> str:
        """Render a record."""
        return without_userinfo(super().format(record))


def configure_logging(level: str, style: Literal["json", "console"]) -> None:
    """Send every log record of this process to stderr in one style."""
    # Temporal also appends its context to the message as text; the fields already have it.
    from temporalio import activity, workflow

    activity.logger.activity_info_on_message = False
    workflow.logger.workflow_info_on_message = False

    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(allow=["photo", "textract_local"]),
        _fields_of_library,
        _temporal_context,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    last: list[Processor]
    if style == "json":
        last = [_tracebacks(), structlog.processors.JSONRenderer()]
    else:
        plain = structlog.dev.plain_traceback
        last = [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain)]
    formatter = _Formatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # These log every request at INFO or DEBUG, with signed headers at DEBUG, which are secrets.
    for noisy in ("botocore", "boto3", "urllib3", "s3transfer"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
