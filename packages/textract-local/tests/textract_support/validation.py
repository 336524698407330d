"""Has ``response_schema.validate`` called for every response of every Textract client in a process."""

from __future__ import annotations

from botocore import handlers

from textract_support.response_schema import validate

_HANDLER = ("after-call.textract", validate)


def start() -> None:
    """Add the validation to what botocore registers in each new session, wherever it is created."""
    if _HANDLER not in handlers.BUILTIN_HANDLERS:
        handlers.BUILTIN_HANDLERS.append(_HANDLER)


def end() -> None:
    """Remove the validation from what new sessions get."""
    if _HANDLER in handlers.BUILTIN_HANDLERS:
        handlers.BUILTIN_HANDLERS.remove(_HANDLER)
