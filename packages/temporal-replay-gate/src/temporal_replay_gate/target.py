"""The code that replays the histories: workflow classes and a data converter, loaded by dotted path."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from operator import attrgetter
from pathlib import Path
from types import ModuleType
from typing import Any

from temporalio import workflow
from temporalio.converter import DataConverter
from temporalio.worker import Interceptor
from temporalio.worker.workflow_sandbox import SandboxRestrictions

from temporal_replay_gate.defaults import CONVERTER


class TargetInvalid(Exception):
    """A dotted path does not name workflow classes or a data converter."""


@dataclass(frozen=True)
class WorkerOptions:
    """The options of a worker, beside its workflows, on which a replay depends.

    ``failure_types`` are the exceptions that fail a workflow and not only its task.
    """

    converter: DataConverter = DataConverter.default
    interceptors: tuple[Interceptor, ...] = ()
    restrictions: SandboxRestrictions = SandboxRestrictions.default
    failure_types: tuple[type[BaseException], ...] = ()


@dataclass(frozen=True)
class Target:
    """The code under test: its workflow classes and the worker options."""

    workflows: tuple[type, ...]
    worker_options: WorkerOptions

    @property
    def types(self) -> dict[str, type]:
        """Return the workflow classes by their type names."""
        return {name_of(cls): cls for cls in self.workflows}


def name_of(cls: type) -> str:
    """Return the type name of a workflow class; for a dynamic workflow, the name of its class."""
    return workflow._Definition.must_from_class(cls).name or cls.__name__


def load(workflows: str, converter: str = CONVERTER, options: str = "") -> Target:
    """Import the workflow classes at the dotted paths ``workflows``, separated by commas, and the data converter.

    A path is ``MODULE:ATTRIBUTE`` and names a class, a sequence of classes, or a function that returns either; or it
    is a module, of which all classes with ``@workflow.defn`` are taken that it defines. Raises ``TargetInvalid`` if a
    path names something else; errors of the imported code are not caught.
    """
    classes = [cls for path in workflows.split(",") for cls in _classes(path.strip())]
    return Target(tuple(classes), worker_options(converter, options))


def _classes(path: str) -> Sequence[type]:
    if not path:
        raise TargetInvalid("the list of workflows has an empty path: it is empty, or has a comma too many")
    if ":" not in path:
        module = _module(path, path)
        inside = f"{module.__name__}."
        own = [
            cls for cls in vars(module).values() if isinstance(cls, type) and f"{cls.__module__}.".startswith(inside)
        ]
        classes: tuple[Any, ...] = tuple(cls for cls in own if workflow._Definition.from_class(cls) is not None)
    else:
        found = _attribute(path)
        if callable(found) and not isinstance(found, type):
            found = found()
        classes = (found,) if isinstance(found, type) else tuple(found) if isinstance(found, Iterable) else ()
    if not classes:
        raise TargetInvalid(f"{path} holds no workflow classes")
    for cls in classes:
        if not isinstance(cls, type) or workflow._Definition.from_class(cls) is None:
            raise TargetInvalid(f"{path} holds {cls!r}, which is no class with @workflow.defn")
    return classes


def worker_options(converter: str = CONVERTER, options: str = "") -> WorkerOptions:
    """Return the worker options at the dotted path ``options``, or the SDK's defaults, with the named data converter.

    The defaults suit a worker with interceptors only for activities, the SDK's sandbox, and no failure types.
    ``options`` names ``WorkerOptions``, or a function that returns them; their data converter is used if ``converter``
    is the default. Raises ``TargetInvalid`` if a path names something else.
    """
    found = WorkerOptions()
    if options:
        found = _attribute(options)
        found = found() if callable(found) else found
        if not isinstance(found, WorkerOptions):
            raise TargetInvalid(f"{options} is {type(found).__name__}, not WorkerOptions")
        if converter == CONVERTER:
            return found
    data_converter = _attribute(converter)
    if not isinstance(data_converter, DataConverter):
        raise TargetInvalid(f"{converter} is {type(data_converter).__name__}, not a temporalio DataConverter")
    return replace(found, converter=data_converter)


def _attribute(path: str) -> Any:
    module_name, _, attribute = path.partition(":")
    if not module_name or not attribute:
        raise TargetInvalid(f"{path!r} is not of the form MODULE:ATTRIBUTE")
    module = _module(module_name, path)
    try:
        return attrgetter(attribute)(module)
    except AttributeError as error:
        raise TargetInvalid(f"the module {module_name} has no {attribute}") from error


def _module(name: str, path: str) -> ModuleType:
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise
        raise TargetInvalid(f"there is no module {error.name} (asked for by {path})") from error


def patches_in(cls: type) -> dict[str, str]:
    """Return the patch ids in ``patched("...")`` calls inside the source of ``cls``, each with its ``FILE:LINE``."""
    try:
        file = inspect.getsourcefile(cls)
        tree = ast.parse(Path(file).read_text(encoding="utf-8")) if file else None
    except (OSError, TypeError, SyntaxError):
        return {}
    found: dict[str, str] = {}
    for node in ast.walk(tree) if tree else ():
        if isinstance(node, ast.ClassDef) and node.name == cls.__name__:
            for call in ast.walk(node):
                patch = _patch_of(call)
                if patch is not None:
                    found.setdefault(patch, f"{file}:{getattr(call, 'lineno', 0)}")
    return found


def _patch_of(node: ast.AST) -> str | None:
    if not isinstance(node, ast.Call) or not node.args:
        return None
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", None)
    first = node.args[0]
    if name == "patched" and isinstance(first, ast.Constant) and isinstance(first.value, str):
        return first.value
    return None
