"""Masks for text: a text of the same length and form from which the original cannot be recovered."""

from __future__ import annotations

import random
import string

# Shorter strings occur inside others by chance.
_SHORTEST_PART = 3
_TRIES = 20


class MaskTable:
    """The masks of one history. The mask of the n-th text depends only on n and on the text's form."""

    def __init__(self) -> None:
        self._masks: dict[str, str] = {}
        self._taken: set[str] = set()

    def mask(self, text: str) -> str:
        """Return the text's mask: letters for letters, digits for digits, everything else as it is.

        Different texts get different masks if they are long enough for that.
        """
        if text not in self._masks:
            number = len(self._masks)
            made = ""
            for attempt in range(_TRIES):
                made = _like(text, random.Random(number * _TRIES + attempt))  # noqa: S311
                if made not in self._taken and made != text:
                    break
            self._masks[text] = made
            self._taken.add(made)
        return self._masks[text]

    def substitute(self, text: str) -> str | None:
        """Return ``text`` with every masked text in it replaced, longest first; None if it contains none."""
        if text in self._masks:
            return self._masks[text]
        changed = text
        for known in sorted(self._masks, key=len, reverse=True):
            if len(known) >= _SHORTEST_PART:
                changed = changed.replace(known, self._masks[known])
        return None if changed == text else changed


def _like(text: str, chooser: random.Random) -> str:
    return "".join(_character(character, chooser) for character in text)


def _character(character: str, chooser: random.Random) -> str:
    if character.isdigit():
        return chooser.choice(string.digits)
    if character.isupper():
        return chooser.choice(string.ascii_uppercase)
    if character.isalpha() or not character.isascii():
        return chooser.choice(string.ascii_lowercase)
    return character
