"""The hooks of ``replay-gate``: from ``[tool.replay-gate]`` of pyproject.toml, an entry point, or a dotted path."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from temporal_replay_gate.dotted import NotImportable, described, imported, why_not
from temporal_replay_gate.errors import ConfigInvalid, ReportedError
from temporal_replay_gate.hooks import Hooks, Options
from temporal_replay_gate.vocabulary import Vocabulary

ENTRY_POINTS = "temporal_replay_gate.hooks"
PYPROJECT = Path("pyproject.toml")

_WORDS = ("words", "fields", "forms")


def read_hooks(file: Path = PYPROJECT, name: str | None = None) -> Hooks:
    """Return the hooks that the table ``[tool.replay-gate]`` of a file describes; the defaults if it has none.

    ``name`` replaces the table's ``hooks``: an entry point of the group ``temporal_replay_gate.hooks``, or a dotted
    path. The other keys replace single fields of these hooks. Raises ``ConfigInvalid``.
    """
    table = _table(file)
    source = str(file) if name is None else "--hooks"
    named = name if name is not None else _text(file, "hooks", table.pop("hooks", ""))
    table.pop("hooks", None)
    hooks = _named(source, named) if named else Hooks()
    if unknown := sorted(set(table) - set(_READERS)):
        known = ", ".join(sorted(["hooks", *_READERS]))
        raise ConfigInvalid(path=str(file), reason=f"it has no key {unknown[0]!r}; known are {known}")
    for key, value in table.items():
        hooks = replace(hooks, **{key.replace("-", "_"): _READERS[key](file, key, value)})
    return hooks


def _table(file: Path) -> dict[str, Any]:
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if file == PYPROJECT:
            return {}
        raise ConfigInvalid(path=str(file), reason="there is no such file") from None
    except (OSError, ValueError) as error:
        raise ConfigInvalid(path=str(file), reason=str(error)) from error
    tools = document.get("tool", {})
    table = tools.get("replay-gate", {}) if isinstance(tools, dict) else {}
    if not isinstance(table, dict):
        raise ConfigInvalid(path=str(file), reason="[tool.replay-gate] is no table")
    return dict(table)


def _named(source: str, name: str) -> Hooks:
    if ":" in name:
        found = _object(source, "hooks", name)
    else:
        known = {entry.name: entry for entry in entry_points(group=ENTRY_POINTS)}
        if name not in known:
            listed = ", ".join(sorted(known)) or "none"
            raise ConfigInvalid(path=source, reason=f"no package has hooks of the name {name!r}; known are {listed}")
        try:
            found = known[name].load()
        except (Exception, SystemExit) as error:
            why = why_not(error, known[name].module)
            raise ConfigInvalid(path=source, reason=f"the hooks {name!r} cannot be imported: {why}") from error
    if callable(found) and not isinstance(found, Hooks):
        found = _made(source, "hooks", name, found)
    if not isinstance(found, Hooks):
        raise ConfigInvalid(path=source, reason=f"the hooks {name!r} are {type(found).__name__}, not Hooks")
    return found


def _text(file: Path, key: str, value: Any) -> str:
    if not isinstance(value, str):
        raise ConfigInvalid(path=str(file), reason=f"{key} is no string")
    return value


def _texts(file: Path, key: str, value: Any) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise ConfigInvalid(path=str(file), reason=f"{key} is no list of strings")
    return value


def _object(source: str, key: str, value: str) -> Any:
    try:
        return imported(value)
    except NotImportable as error:
        raise ConfigInvalid(path=source, reason=f"{key} = {value!r}: {error}") from error


def _made(source: str, key: str, value: str, make: Callable[[], Any]) -> Any:
    """Return what the function at a dotted path makes; errors with a code and a hint of their own pass."""
    try:
        return make()
    except (Exception, SystemExit) as error:
        if isinstance(error, ReportedError):
            raise
        reason = f"{key} = {value!r}: calling it without arguments fails, {described(error)}"
        raise ConfigInvalid(path=source, reason=reason) from error


def _workflows(file: Path, key: str, value: Any) -> str:
    return ",".join(_texts(file, key, value)) if isinstance(value, list) else _text(file, key, value)


def _histories(file: Path, key: str, value: Any) -> Path:
    return Path(_text(file, key, value))


def _release(file: Path, key: str, value: Any) -> str:
    text = _text(file, key, value)
    return str(_object(str(file), key, text)) if ":" in text else text


def _vocabulary(file: Path, key: str, value: Any) -> Callable[[], Vocabulary]:
    if isinstance(value, dict):
        made = _words(file, value)
        return lambda: made
    text = _text(file, key, value)

    def load() -> Vocabulary:
        found = _object(str(file), key, text)
        found = _made(str(file), key, text, found) if callable(found) else found
        if not isinstance(found, Vocabulary):
            raise ConfigInvalid(path=str(file), reason=f"{key} = {text!r} is {type(found).__name__}, not Vocabulary")
        return found

    return load


def _words(file: Path, table: Mapping[str, Any]) -> Vocabulary:
    if unknown := sorted(set(table) - set(_WORDS)):
        raise ConfigInvalid(
            path=str(file), reason=f"vocabulary has no key {unknown[0]!r}; known are {', '.join(_WORDS)}"
        )
    found = {name: _texts(file, f"vocabulary.{name}", table.get(name, [])) for name in _WORDS}
    default = Vocabulary()
    try:
        forms = tuple(re.compile(form) for form in found["forms"])
    except re.error as error:
        raise ConfigInvalid(path=str(file), reason=f"vocabulary.forms holds no regular expression: {error}") from error
    return Vocabulary(
        words=default.words.union(found["words"]),
        fields=default.fields.union(found["fields"]),
        forms=default.forms + forms,
    )


def _scenarios(file: Path, key: str, value: Any) -> Callable[[Options], Any]:
    text = _text(file, key, value)

    def load(options: Options) -> Any:
        from temporal_replay_gate.scenarios import ScenarioSuite

        found = _object(str(file), key, text)
        found = _made(str(file), key, text, found) if callable(found) else found
        if not isinstance(found, ScenarioSuite):
            raise ConfigInvalid(path=str(file), reason=f"{key} = {text!r} is {type(found).__name__}, not ScenarioSuite")
        return found

    return load


def _function(file: Path, key: str, value: Any) -> Callable[..., Any]:
    text = _text(file, key, value)

    def call(*given: Any) -> Any:
        found = _object(str(file), key, text)
        if not callable(found):
            raise ConfigInvalid(path=str(file), reason=f"{key} = {text!r} is {type(found).__name__}, not a function")
        return found(*given)

    return call


_READERS: Mapping[str, Callable[[Path, str, Any], Any]] = {
    "command": _text,
    "connect": _function,
    "converter": _text,
    "histories": _histories,
    "release": _release,
    "scenarios": _scenarios,
    "vocabulary": _vocabulary,
    "worker": _function,
    "worker-options": _text,
    "workflows": _workflows,
}
