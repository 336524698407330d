"""Additive changes of a contract: keys that the recording lacks and today's code writes with the model's default.

If a field is added with a default, recorded arguments lack it and the same call of today's code contains
it. Only the model knows the default, and the model is known only when its instance is converted to a
payload. The trace records its shape at that moment, and the comparison looks it up by the payload's value.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field
from typing import Any

# Deeper than any payload that can be serialised as JSON and parsed again.
_DEEPEST = 200


@dataclass(frozen=True)
class Shape:
    """What is known of one JSON value.

    ``defaults`` are the keys that hold their model's default, ``inside`` are the shapes of the nested values, and
    ``is_set`` tells whether the list was written from a set, whose order is irrelevant.
    """

    defaults: frozenset[str] = frozenset()
    inside: Mapping[str | int, Shape] = field(default_factory=dict)
    is_set: bool = False


_NOTHING = Shape()
_SET = Shape(is_set=True)


@dataclass
class Shapes:
    """The shapes of the payloads of one run, by their JSON value."""

    _known: dict[str, Shape] = field(default_factory=dict)

    def note(self, value: Any, written: Any) -> None:
        """Record the shape of ``value``, which was converted to a payload with the JSON value ``written``."""
        if not isinstance(written, (dict, list)):
            return
        found, key = shape_of(value), canonical(written)
        # If two models have the same JSON value, only what applies to both is kept.
        self._known[key] = _common(self._known[key], found) if key in self._known else found

    def of(self, written: Any) -> Shape:
        """Return the shape of a payload's JSON value; an empty one if none is known."""
        if not self._known or not isinstance(written, (dict, list)):
            return _NOTHING
        return self._known.get(canonical(written), _NOTHING)


def canonical(value: Any) -> str:
    """Return canonical JSON text: equal for equal values, and different for 1 and true."""
    return json.dumps(value, sort_keys=True)


def shape_of(value: Any, depth: int = 0) -> Shape:
    """Return the shape of a Python value: a pydantic model, a dataclass, or a container of them."""
    if depth > _DEEPEST or isinstance(value, (str, bytes, int, float)) or value is None:
        return _NOTHING
    cls = type(value)
    if getattr(cls, "__pydantic_root_model__", False):
        return shape_of(value.root, depth)
    inside: dict[str | int, Shape] = {}
    defaults: set[str] = set()
    if isinstance(value, (set, frozenset)):
        return _SET
    fields = _fields(cls)
    if fields is not None:
        for name, (keys, about) in fields.items():
            held = getattr(value, name, MISSING)
            if held is MISSING:
                continue
            if _is_default(held, about):
                defaults |= keys
            _put(inside, keys, shape_of(held, depth + 1))
    elif isinstance(value, Mapping):
        for key, held in value.items():
            _put(inside, {str(key)}, shape_of(held, depth + 1))
    elif isinstance(value, Sequence):
        for number, held in enumerate(value):
            _put(inside, {number}, shape_of(held, depth + 1))
    return Shape(frozenset(defaults), inside) if defaults or inside else _NOTHING


def _put(inside: dict[str | int, Shape], keys: set[Any], shape: Shape) -> None:
    if shape is not _NOTHING:
        inside.update(dict.fromkeys(keys, shape))


def _fields(cls: type) -> dict[str, tuple[set[str], Any]] | None:
    """Return a model's fields: for each the keys it may be written under, and the object that knows its default."""
    # The sandbox imports classes again, so models are recognised by their attributes, not by isinstance.
    models = getattr(cls, "model_fields", None) or getattr(cls, "__pydantic_fields__", None)
    if isinstance(models, Mapping):
        return {
            name: ({str(key) for key in (name, about.alias, about.serialization_alias) if key}, about)
            for name, about in models.items()
        }
    plain = getattr(cls, "__dataclass_fields__", None)
    return None if plain is None else {name: ({name}, about) for name, about in plain.items()}


def _is_default(held: Any, about: Any) -> bool:
    try:
        if hasattr(about, "get_default"):
            if about.is_required():
                return False
            default = about.get_default(call_default_factory=True)
        elif about.default is not MISSING:
            default = about.default
        elif about.default_factory is not MISSING:
            default = about.default_factory()
        else:
            return False
        return bool(held == default) and isinstance(held, bool) == isinstance(default, bool)
    except Exception:
        # A factory that needs the other fields, or a value that cannot be compared, gives no known default.
        return False


def _common(one: Shape, other: Shape) -> Shape:
    keys = one.inside.keys() & other.inside.keys()
    return Shape(
        one.defaults & other.defaults,
        {key: _common(one.inside[key], other.inside[key]) for key in keys},
        one.is_set and other.is_set,
    )


@dataclass
class Passed:
    """What a comparison ignored: keys ``added`` with a default, by path, and the paths of ``sets``."""

    added: dict[str, Any] = field(default_factory=dict)
    sets: list[str] = field(default_factory=list)


def alike(old: Any, new: Any, shapes: Shapes) -> tuple[Any, Passed]:
    """Return ``new`` without keys that were only added with a default and with sets in the order of ``old``.

    The second value tells what was ignored.
    """
    passed = Passed()
    return _strip(old, new, _NOTHING, shapes, "", passed), passed


def _strip(old: Any, new: Any, shape: Shape, shapes: Shapes, path: str, passed: Passed) -> Any:
    if shape is _NOTHING:
        shape = shapes.of(new)
    if shape.is_set and isinstance(new, list):
        if len(new) > 1:
            passed.sets.append(path)
        same = isinstance(old, list) and sorted(map(canonical, old)) == sorted(map(canonical, new))
        return old if same else sorted(new, key=canonical)
    if isinstance(old, dict) and isinstance(new, dict):
        kept = {}
        for key, value in new.items():
            below = f"{path}.{key}" if path else str(key)
            if key not in old and key in shape.defaults:
                passed.added[below] = value
            elif key in old:
                kept[key] = _strip(old[key], value, shape.inside.get(key, _NOTHING), shapes, below, passed)
            else:
                kept[key] = value
        return kept
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        return [
            _strip(was, now, shape.inside.get(number, _NOTHING), shapes, f"{path}[{number}]", passed)
            for number, (was, now) in enumerate(zip(old, new, strict=True))
        ]
    return new


def in_order(value: Any, shapes: Shapes, shape: Shape = _NOTHING) -> Any:
    """Return a JSON value with every list that was written from a set sorted."""
    if shape is _NOTHING:
        shape = shapes.of(value)
    if shape.is_set and isinstance(value, list):
        return sorted(value, key=canonical)
    if isinstance(value, dict):
        return {key: in_order(held, shapes, shape.inside.get(key, _NOTHING)) for key, held in value.items()}
    if isinstance(value, list):
        return [in_order(held, shapes, shape.inside.get(number, _NOTHING)) for number, held in enumerate(value)]
    return value
