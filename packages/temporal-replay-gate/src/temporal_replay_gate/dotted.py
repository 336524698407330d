"""Imports the object at a dotted path, ``MODULE:ATTRIBUTE``, from the working directory as ``python -m`` does."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from operator import attrgetter
from pathlib import Path
from typing import Any


class NotImportable(Exception):
    """A dotted path names nothing that can be imported; the message tells why."""


def imported(path: str) -> Any:
    """Return the object at a dotted path. Raises ``NotImportable``, whatever the module raises or if it exits."""
    module_name, _, attribute = path.partition(":")
    if not module_name or not attribute:
        raise NotImportable("it is not of the form module:attribute")
    with working_directory_importable():
        try:
            return attrgetter(attribute)(import_module(module_name))
        except (Exception, SystemExit) as error:
            raise NotImportable(why_not(error, module_name)) from error


def why_not(error: BaseException, module: str) -> str:
    """Return what a message says of an error that the import of a module raised."""
    if isinstance(error, SystemExit):
        return f"the module {module} ends the process when it is imported (SystemExit: {error.code})"
    if isinstance(error, ImportError | AttributeError) and str(error):
        return str(error)
    return described(error)


def described(error: BaseException) -> str:
    """Return the type of an error and its message, if it has one."""
    return f"{type(error).__name__}: {error}".removesuffix(": ")


@contextmanager
def working_directory_importable() -> Iterator[None]:
    """Let modules of the working directory be imported inside the context."""
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        yield
    finally:
        sys.path.remove(here)
