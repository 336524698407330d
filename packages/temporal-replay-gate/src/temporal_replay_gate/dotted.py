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
    """A dotted path names nothing that can be imported."""


def imported(path: str) -> Any:
    """Return the object at a dotted path. Raises ``NotImportable``."""
    module_name, _, attribute = path.partition(":")
    if not module_name or not attribute:
        raise NotImportable("it is not of the form module:attribute")
    with working_directory_importable():
        try:
            return attrgetter(attribute)(import_module(module_name))
        except (ImportError, AttributeError, TypeError, ValueError) as error:
            raise NotImportable(str(error)) from error


@contextmanager
def working_directory_importable() -> Iterator[None]:
    """Let modules of the working directory be imported inside the context."""
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        yield
    finally:
        sys.path.remove(here)
