"""Errors in the options of a submission: part of the hierarchy of ``photo_worker.errors``."""

from __future__ import annotations

from photo_worker.errors import InputError


class InvalidEngine(InputError):
    """The engine {engine!r} cannot be used: {reason}."""

    code = "engine_invalid"
    wrong_use = True
    hint = "Name an OCR backend that the workers have, such as textract, or leave it out: then they take their own."
