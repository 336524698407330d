"""Every error that is shown to users, in one class hierarchy.

The docstring of a class is the message that the user reads: a format string for the keyword arguments with which the
error is raised. ``code`` is stable, and programs may match it; ``hint`` says what to do.

    TextractLocalError
    ├── DocumentError     the document cannot be read; reading it again changes nothing
    ├── ReadingError      this machine cannot read at this moment, or lacks what reading needs
    └── ServerError       the server cannot start
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Mapping
from typing import ClassVar, Self


class TextractLocalError(Exception):
    """Something went wrong in textract-local."""

    code: ClassVar[str] = "error"
    hint: ClassVar[str] = "This is a defect: report it with the document, if you may."

    wrong_use: bool = False
    """Whether an option or an argument of the command is wrong: the command then exits with 2, otherwise with 1."""

    def __init__(self, **context: object) -> None:
        self.context = context
        template = inspect.cleandoc(type(self).__doc__ or self.code).replace("\n", " ")
        self.message = template.format(**_without_full_stops(template, context))
        super().__init__(self.message)

    def from_option(self) -> Self:
        """Mark the error as caused by an option or an argument, and return it; it may have other causes elsewhere."""
        self.wrong_use = True
        return self

    def report(self) -> int:
        """Print the message and the hint on standard error, and return the exit code of the command."""
        print(f"error [{self.code}]: {self.message}\nhint: {self.hint}", file=sys.stderr)  # noqa: T201
        return 2 if self.wrong_use else 1

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.context)


def _rebuild(kind: type[TextractLocalError], context: dict[str, object]) -> TextractLocalError:
    return kind(**context)


def _without_full_stops(template: str, values: Mapping[str, object]) -> dict[str, object]:
    """Return the values without their full stop if the template adds one: libraries write whole sentences."""
    return {
        name: value[:-1]
        if isinstance(value, str) and re.search(r"(?<!\.)\.\Z", value) and f"{{{name}}}." in template
        else value
        for name, value in values.items()
    }


class DocumentError(TextractLocalError):
    """The document cannot be read."""

    code = "document_invalid"
    hint = "Read another document."


class DocumentMissing(DocumentError):
    """The file {path!r} cannot be read: {reason}."""

    code = "document_missing"
    wrong_use = True
    hint = "Check the path, and that you may read the file."


class FeatureUnknown(DocumentError):
    """There is no feature {feature!r}; known are {known}."""

    code = "feature_unknown"
    wrong_use = True
    hint = "Name features as FeatureTypes of AnalyzeDocument does."


class UnsupportedDocument(DocumentError):
    """The document {name!r} is {actual}, which OCR does not read."""

    code = "document_unsupported"
    hint = "Convert it to PNG, JPEG, TIFF or PDF."


class UnreadableDocument(DocumentError):
    """The document {name!r} is damaged or cut off: {reason}."""

    code = "document_unreadable"
    hint = "Open it in an image viewer and save it again."


class DocumentProtected(DocumentError):
    """The document {name!r} is protected by {by}."""

    code = "document_protected"
    hint = "Save it without a password or other protection."


class DocumentTooCostly(DocumentError):
    """The document {name!r} takes more {what} to be opened than it may."""

    code = "document_too_costly"
    hint = "Save it again with an ordinary program, smaller or with less in it."


class DocumentTooLarge(DocumentError):
    """The document {name!r} has {size_bytes} bytes; OCR reads at most {limit_bytes}."""

    code = "document_too_large"
    hint = "Scale the image down or save it with stronger JPEG compression."


class ImageTooLarge(DocumentError):
    """The image {name!r} is {width} x {height} pixels; {limit}."""

    code = "image_too_large"
    hint = "Scale the image down; 1,500 to 4,000 pixels on the longer side are enough for OCR."


class ReadingError(TextractLocalError):
    """This machine cannot read documents at this moment."""

    code = "reading_failed"
    hint = "Try again."


class EngineUnavailable(ReadingError):
    """The OCR engine {engine!r} cannot be used here: {reason}."""

    code = "engine_unavailable"
    hint = "Install the extra it needs: pip install 'textract-local[ocr]'."


class EngineFailed(ReadingError):
    """The OCR engine {engine!r} failed on the document {name!r}: {reason}."""

    code = "engine_failed"
    hint = (
        "The system refused the engine something; the document is not the cause. Give it what is missing, such as disk "
        "space, memory, open files, a file of its own or a permission, and read the document again."
    )


class OcrThrottled(ReadingError):
    """The reader {engine!r} has more documents than it can read at once: {reason}."""

    code = "ocr_throttled"
    hint = "Read fewer documents at once."


class DecoderUnavailable(ReadingError):
    """Documents cannot be opened at this moment: {reason}."""

    code = "decoder_unavailable"
    hint = (
        "The machine has no processor time, memory or processes to spare, or the libraries that open documents are "
        "broken: install pillow and pypdfium2 again."
    )


class ServerError(TextractLocalError):
    """The server cannot start."""

    code = "server_error"
    hint = "See the message."


class AddressUnusable(ServerError):
    """The Textract emulator cannot listen on {host}:{port}: {reason}."""

    code = "address_unusable"
    hint = (
        "Name an address of this machine with --host, such as 127.0.0.1; if the port is taken, end the process that "
        "has it, or choose another one with --port: 0 takes a free one."
    )


class DataUnwritable(ServerError):
    """The server cannot use {path!r}: {reason}."""

    code = "data_unwritable"
    hint = "Make the path writable for your user, or name another one with --data."


class DataMismatch(ServerError):
    """The data in {path!r} cannot be used: {reason}."""

    code = "data_mismatch"
    hint = "Go back to the version that wrote it, or delete the data."


class DataInUse(ServerError):
    """Another Textract emulator uses the data folder {path!r}."""

    code = "data_in_use"
    hint = "End that one first, or give this one a folder of its own with --data."


class ExtraMissing(ServerError):
    """The server needs a package that is not installed: {reason}."""

    code = "extra_missing"
    hint = "Install what it needs: pip install 'textract-local[server]'."
