"""Imports the object at a dotted path, ``MODULE:ATTRIBUTE``, from the working directory as ``python -m`` does."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from operator import attrgetter
from pathlib import Path
from traceback import walk_tb
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
        said = f"the module {module} ends the process when it is imported (SystemExit: {error.code})"
        return said + _place_of(error)
    if isinstance(error, ImportError | AttributeError) and str(error):
        return str(error) + _place_of(error)
    return described(error)


def described(error: BaseException) -> str:
    """Return the type of an error, its message, if it has one, and the line of the project's code that raised it."""
    said = error.msg if isinstance(error, SyntaxError) else str(error)
    return f"{type(error).__name__}: {said}".removesuffix(": ") + _place_of(error)


# Code of Python, the SDK and the gate is not the project's.
_STDLIB = Path(os.__file__).parent
_SITE = {"site-packages", "dist-packages"}


def _place_of(error: BaseException) -> str:
    """Return the innermost line of the project's code in the traceback of an error or of its cause; empty if none."""
    if isinstance(error, SyntaxError) and error.filename:
        return f" ({_short(error.filename)}:{error.lineno})"
    reached: BaseException | None = error
    while reached is not None:
        frames = [(frame, line) for frame, line in walk_tb(reached.__traceback__) if _is_own(frame.f_code.co_filename)]
        if frames:
            frame, line = frames[-1]
            return f" (in {frame.f_globals.get('__name__')}, {_short(frame.f_code.co_filename)}:{line})"
        reached = reached.__cause__
    return ""


def _is_own(filename: str) -> bool:
    path = Path(filename)
    if not path.is_absolute() or path.is_relative_to(Path(__file__).parent):
        return False
    if path.is_relative_to(_STDLIB) and _SITE.isdisjoint(path.relative_to(_STDLIB).parts):
        return False
    return not (_SITE.intersection(path.parts) and "temporalio" in path.parts)


def _short(filename: str) -> str:
    try:
        return filename.removeprefix(f"{Path.cwd()}{os.sep}")
    except OSError:
        # The directory is gone.
        return filename


@contextmanager
def working_directory_importable() -> Iterator[None]:
    """Let modules of the working directory be imported inside the context."""
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        yield
    finally:
        sys.path.remove(here)
