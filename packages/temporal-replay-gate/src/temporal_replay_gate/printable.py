"""Makes untrusted text, such as a file name, safe to print in messages and tables."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping

# Characters of too long input that a message repeats.
_REPEATED = 80


def printable(text: str, *, keep: str = "") -> str:
    """Return the text with control characters and line breaks escaped as ``repr`` does.

    ``keep`` lists characters that stay. Spaces of all scripts stay too.
    """
    if text.isprintable():
        return text
    return "".join(
        character
        if character.isprintable() or character in keep or unicodedata.category(character) == "Zs"
        else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


def cut(text: str, length: int = _REPEATED) -> str:
    """Return the text; if it is longer than ``length``, its beginning and its number of characters."""
    return text if len(text) <= length else f"{text[:length]}... ({len(text)} characters)"


def without_full_stops(template: str, values: Mapping[str, object]) -> dict[str, object]:
    """Return the values without their full stop if the template adds one: services write whole sentences."""
    return {
        name: value[:-1]
        if isinstance(value, str) and re.search(r"(?<!\.)\.\Z", value) and f"{{{name}}}." in template
        else value
        for name, value in values.items()
    }
