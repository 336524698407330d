"""Text of others, such as a file's name, as a message or a table may hold it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping

# Of input that is too long to be right, what a message repeats.
_REPEATED = 80


def printable(text: str, *, keep: str = "") -> str:
    """Return the text with what a terminal would obey or break a line at written as an escape, as ``repr`` does.

    ``keep`` names characters that stay. Spaces stay, those of other scripts too.
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
    """Return the text, or of one that is longer its beginning and how many characters it has."""
    return text if len(text) <= length else f"{text[:length]}... ({len(text)} characters)"


def before_points(template: str, values: Mapping[str, object]) -> dict[str, object]:
    """Return the values without their full stop where the template has one: services write whole sentences."""
    return {
        name: value[:-1]
        if isinstance(value, str) and re.search(r"(?<!\.)\.\Z", value) and f"{{{name}}}." in template
        else value
        for name, value in values.items()
    }
