"""Validation of Textract's requests and responses by botocore's service model.

There are two kinds of errors: a value of the wrong type (``WrongType``), which the real service's
parser refuses, and a value that a constraint forbids (``Violation``), which the service refuses
after parsing. Patterns must match the whole string: some of the model's are not anchored, and whether
the real service searches or matches is not known.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cbor2
from botocore.loaders import Loader
from botocore.model import ListShape, MapShape, OperationModel, ServiceModel, Shape, StringShape, StructureShape

from textract_local.server.codecs import Timestamp

_INTEGERS = {"integer": 1 << 31, "long": 1 << 63}

# Python's regular expressions have no Unicode categories. The model uses letters and numbers only together with
# the underscore, which is the class of word characters; the rest are the separators of Unicode 15.
_CATEGORIES = {
    r"\p{L}": r"\w",
    r"\p{N}": r"\w",
    r"\p{Z}": " \u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000",
}


class WrongType(Exception):
    """A value does not have the type that its shape requires."""


@dataclass(frozen=True)
class Violation:
    """A value of the right type that a constraint forbids. ``path`` is like ``Document.S3Object.Bucket``."""

    path: str
    rule: str
    kind: str
    text: str

    @property
    def oversized_blob(self) -> bool:
        """Whether the value is binary data above its maximum length."""
        return self.kind == "blob" and self.rule == "max"

    def __str__(self) -> str:
        return f"{self.path}: {self.text}"


class TextractModel:
    """The operations of Amazon Textract, API version 2018-06-27."""

    def __init__(self) -> None:
        # The default search path includes a directory of the user's, whose model would replace botocore's.
        loader = Loader(extra_search_paths=[Loader.BUILTIN_DATA_PATH], include_default_search_paths=False)
        self._service = ServiceModel(loader.load_service_model("textract", "service-2"), "textract")
        self.operations: tuple[str, ...] = tuple(self._service.operation_names)
        self.target_prefix: str = str(self._service.metadata["targetPrefix"])

    def operation(self, name: str) -> OperationModel:
        """Return botocore's model of an operation."""
        return self._service.operation_model(name)

    def lists_error(self, operation: str, code: str) -> bool:
        """Return whether the model lists an error code for an operation."""
        return any(shape.name == code for shape in self.operation(operation).error_shapes)

    def read_request(
        self, operation: str, body: object, *, binary: bool = False
    ) -> tuple[dict[str, Any], list[Violation]]:
        """Return the operation's input from a decoded body, with binary data as bytes, and its violations.

        ``binary`` is True if the encoding has types for bytes and timestamps, which JSON has not. Members
        that are null or unknown to the model are dropped. Raises ``WrongType``.
        """
        shape = self.operation(operation).input_shape
        if shape is None:
            return {}, []
        value = _Reader(binary=binary, unknown_members=True).read(shape, body, "")
        return value, list(_violations(shape, value, ""))

    def check_response(self, operation: str, response: Mapping[str, Any]) -> None:
        """Raise ``WrongType`` or ``ValueError`` if a response does not fit the operation's model."""
        shape = self.operation(operation).output_shape
        if shape is None:
            return
        value = _Reader(binary=False, unknown_members=False).read(shape, response, "")
        for violation in _violations(shape, value, ""):
            raise ValueError(str(violation))


@dataclass(frozen=True)
class _Reader:
    """Converts decoded values to the types of their shapes."""

    binary: bool
    unknown_members: bool

    def read(self, shape: Shape, value: object, path: str) -> Any:
        """Return a value as the type of its shape, or raise ``WrongType``."""
        if isinstance(shape, StructureShape):
            given = _expect(dict, value, path, "an object")
            for name in given:
                if name not in shape.members and not self.unknown_members:
                    raise WrongType(f"{path or 'the response'} has a member {name!r} that the model does not know")
            return {
                name: self.read(member, given[name], _join(path, name))
                for name, member in shape.members.items()
                if not _absent(given.get(name))
            }
        if isinstance(shape, ListShape):
            items = _expect(list, value, path, "a list")
            return [self.read(shape.member, item, f"{path}[{index}]") for index, item in enumerate(items)]
        if isinstance(shape, MapShape):
            entries = _expect(dict, value, path, "an object")
            return {
                _text(key, path): self.read(shape.value, item, _join(path, str(key))) for key, item in entries.items()
            }
        return self._scalar(shape.type_name, value, path)

    def _scalar(self, kind: str, value: object, path: str) -> Any:
        match kind:
            case "string" | "char":
                return _text(value, path)
            case "blob":
                return _expect(bytes, value, path, "binary data") if self.binary else _decoded(value, path)
            case "integer" | "long":
                if isinstance(value, bool) or not isinstance(value, int):
                    raise WrongType(f"{path} must be an integer")
                if not -_INTEGERS[kind] <= value < _INTEGERS[kind]:
                    raise WrongType(f"{path} is too large for an integer")
                return value
            case "float" | "double" | "timestamp":
                if kind == "timestamp" and self.binary:
                    value = _expect(Timestamp, value, path, "a timestamp").seconds
                # A timestamp is seconds since 1970, in JSON without a tag.
                if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                    raise WrongType(f"{path} must be a number")
                return value
            case "boolean":
                return _expect(bool, value, path, "true or false")
        raise WrongType(f"{path} is of a type that is not known here: {kind}")


def _absent(value: object) -> bool:
    return value is None or value is cbor2.undefined


def _decoded(value: object, path: str) -> bytes:
    try:
        return base64.b64decode(_text(value, path).encode("ascii"), validate=True)
    except (UnicodeEncodeError, binascii.Error) as error:
        raise WrongType(f"{path} is not base64: {error}") from error


def _expect(kind: type, value: object, path: str, shown: str) -> Any:
    if not isinstance(value, kind):
        raise WrongType(f"{path or 'the body'} must be {shown}")
    return value


def _text(value: object, path: str) -> str:
    text: str = _expect(str, value, path, "a string")
    if not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text):
        raise WrongType(f"{path} holds half of a character")
    return text


def _violations(shape: Shape, value: Any, path: str) -> Iterator[Violation]:
    """Yield the violations of the shape's constraints in a value of the right type."""
    if isinstance(shape, StructureShape):
        for name in shape.required_members:
            if name not in value:
                yield Violation(_join(path, name), "required", shape.type_name, "is missing")
        for name, item in value.items():
            yield from _violations(shape.members[name], item, _join(path, name))
        return
    outside = _outside(shape, value, path)
    if outside is not None:
        # The pattern is not checked: it may be slow on text that is too long.
        yield outside
        return
    if isinstance(shape, ListShape):
        for index, item in enumerate(value):
            yield from _violations(shape.member, item, f"{path}[{index}]")
    elif isinstance(shape, MapShape):
        for key, item in value.items():
            yield from _violations(shape.key, key, f"{path} key")
            yield from _violations(shape.value, item, _join(path, key))
    elif isinstance(shape, StringShape):
        if shape.enum and value not in shape.enum:
            yield Violation(path, "enum", shape.type_name, f"is none of {', '.join(shape.enum)}")
        pattern = shape.metadata.get("pattern")
        if pattern is not None and not whole(pattern).fullmatch(value):
            yield Violation(path, "pattern", shape.type_name, f"does not match {pattern}")


def _outside(shape: Shape, value: Any, path: str) -> Violation | None:
    """Return the violation if a number, or a length, is outside the shape's range."""
    measured = value if isinstance(value, int | float) else len(value)
    least, most = shape.metadata.get("min"), shape.metadata.get("max")
    if least is not None and measured < least:
        return Violation(path, "min", shape.type_name, f"{measured} is below the least, {least}")
    if most is not None and measured > most:
        return Violation(path, "max", shape.type_name, f"{measured} is above the greatest, {most}")
    return None


@lru_cache(maxsize=256)
def whole(pattern: str) -> re.Pattern[str]:
    """Return a pattern of the model as a Python pattern, for use with ``fullmatch``.

    ``\\d``, ``\\s`` and ``\\w`` mean ASCII, as they do in the model's own dialect.
    """
    translated = pattern
    for category, letters in _CATEGORIES.items():
        translated = translated.replace(category, letters)
    return re.compile(translated, re.ASCII if translated == pattern else re.UNICODE)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
