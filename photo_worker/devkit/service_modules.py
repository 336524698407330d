"""Imports the modules of the package ``photo_worker.devkit.services``: a new service needs no other entry.

They are imported by name when a table is first read, so that they may use everything that the tables are part of.
"""

from __future__ import annotations

import pkgutil
from functools import cache
from importlib import import_module
from types import ModuleType

_PACKAGE = "photo_worker.devkit.services"


@cache
def service_modules() -> tuple[ModuleType, ...]:
    """Return every module of a service; each has ``PORTS`` and ``SERVICES``."""
    found = pkgutil.iter_modules(import_module(_PACKAGE).__path__)
    return tuple(import_module(f"{_PACKAGE}.{entry.name}") for entry in sorted(found, key=lambda entry: entry.name))
