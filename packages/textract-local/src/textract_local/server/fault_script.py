"""Reads a fault script from JSON, and reports the first mistake in one line."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from textract_local.server.faults import (
    DEFAULT_STATUS_MESSAGE,
    REQUEST_KINDS,
    TIMED_KINDS,
    FaultKind,
    FaultRule,
    FaultScript,
)

MOST_RULES = 1000
MOST_SECONDS = 86_400

_FAILING_JOBS = frozenset({FaultKind.JOB_FAILS, FaultKind.JOB_PARTIAL})
_FIELDS = (
    "kind",
    "operation",
    "operations",
    "document",
    "probability",
    "calls",
    "times",
    "seconds",
    "message",
    "pages",
)


class WrongScript(Exception):
    """A script is invalid; the text names the field and the reason."""


def read_script(given: object, operations: Sequence[str]) -> FaultScript:
    """Return the script of a JSON value; ``operations`` are the names that rules may be about.

    Raises ``WrongScript``.
    """
    script = _object(given, "the script", ("seed", "rules"))
    rules = _list(script.get("rules", []), "rules")
    check_amount(len(rules))
    return FaultScript(
        seed=_integer(script.get("seed", 0), "seed", least=-(1 << 63)),
        rules=tuple(_rule(rule, f"rules[{index}]", operations) for index, rule in enumerate(rules)),
    )


def check_amount(rules: int) -> None:
    """Raise ``WrongScript`` if ``rules`` is more than a script may have."""
    if rules > MOST_RULES:
        raise WrongScript(f"rules: {rules} are more than {MOST_RULES}")


def _rule(given: object, where: str, operations: Sequence[str]) -> FaultRule:
    rule = _object(given, where, _FIELDS)
    kinds = ", ".join(FaultKind)
    if "kind" not in rule:
        raise WrongScript(f"{where}: kind is missing; it is one of {kinds}")
    if rule["kind"] not in list(FaultKind):
        raise WrongScript(f"{where}.kind: {_shown(rule['kind'])} is none of {kinds}")
    kind = FaultKind(rule["kind"])
    _meaningful(rule, kind, where)
    return FaultRule(
        kind=kind,
        operations=_operations(rule, where, operations),
        document=_text(rule.get("document", ""), f"{where}.document"),
        probability=_number(rule.get("probability", 1), f"{where}.probability", most=1),
        calls=tuple(
            _integer(call, f"{where}.calls[{index}]", least=1)
            for index, call in enumerate(_list(rule.get("calls", []), f"{where}.calls"))
        ),
        times=_integer(rule["times"], f"{where}.times", least=1) if "times" in rule else None,
        seconds=_number(rule.get("seconds", 0), f"{where}.seconds", most=MOST_SECONDS),
        message=_text(rule.get("message", DEFAULT_STATUS_MESSAGE), f"{where}.message"),
        pages=_integer(rule.get("pages", 1), f"{where}.pages", least=0),
    )


def _meaningful(rule: Mapping[str, Any], kind: FaultKind, where: str) -> None:
    """Raise if a field would be ignored: a test with a rule that does less than it says passes by mistake."""
    if "calls" in rule and "probability" in rule:
        raise WrongScript(f"{where}: calls and probability exclude each other")
    if "operation" in rule and "operations" in rule:
        raise WrongScript(f"{where}: operation and operations say the same; give one of them")
    if "document" in rule and kind in REQUEST_KINDS:
        raise WrongScript(f"{where}.document: {kind} happens before the document is known")
    if ("seconds" in rule) != (kind in TIMED_KINDS):
        problem = "needs seconds" if kind in TIMED_KINDS else "has no use for seconds"
        raise WrongScript(f"{where}.seconds: {kind} {problem}")
    if "message" in rule and kind not in _FAILING_JOBS:
        raise WrongScript(f"{where}.message: {kind} has no use for it")
    if rule.get("message") == "":
        raise WrongScript(f"{where}.message: must not be empty; clients read it")
    if "pages" in rule and kind is not FaultKind.JOB_PARTIAL:
        raise WrongScript(f"{where}.pages: {kind} has no use for it")


def _operations(rule: Mapping[str, Any], where: str, known: Sequence[str]) -> tuple[str, ...]:
    """Return the operations that match a rule's names and shell patterns."""
    field = "operation" if "operation" in rule else "operations"
    if field not in rule:
        return ()
    patterns = [rule[field]] if field == "operation" else _list(rule[field], f"{where}.{field}")
    found: dict[str, None] = {}
    for pattern in patterns:
        matching = [name for name in known if fnmatchcase(name, _text(pattern, f"{where}.{field}"))]
        if not matching:
            raise WrongScript(f"{where}.{field}: there is no operation {_shown(pattern)}")
        found |= dict.fromkeys(matching)
    if not found:
        raise WrongScript(f"{where}.{field}: is empty; leave it out for all operations")
    return tuple(found)


def _object(value: object, where: str, fields: Sequence[str]) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise WrongScript(f"{where}: must be an object, not {_shown(value)}")
    for name in value:
        if name not in fields:
            raise WrongScript(f"{where}: has no field {_shown(name)}; there are {', '.join(fields)}")
    return value


def _list(value: object, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise WrongScript(f"{where}: must be a list, not {_shown(value)}")
    return value


def _text(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise WrongScript(f"{where}: must be a string, not {_shown(value)}")
    return value


def _integer(value: object, where: str, *, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value < 1 << 63:
        raise WrongScript(f"{where}: must be an integer from {least}, not {_shown(value)}")
    return value


def _number(value: object, where: str, *, most: int) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise WrongScript(f"{where}: must be a number, not {_shown(value)}")
    if not 0 <= value <= most:
        raise WrongScript(f"{where}: must be from 0 to {most}, not {_shown(value)}")
    return float(value)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
