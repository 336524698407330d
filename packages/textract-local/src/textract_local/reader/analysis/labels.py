"""Tell labels from values of fields by their text alone.

The rules accept what a form prints, such as ``Due date:``, ``REF #`` and ``01/31/2016``; a sentence is
neither. They depend on no language.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

# A label is a few words; the longest of the recordings that are not sentences have this many.
LABEL_WORDS = 7

_COLON = re.compile(r"[:\uff1a]$")
_NUMBER_SIGN = re.compile(r"[A-Za-z]{0,5}#$")
_DASH = re.compile(r"[-\u2013\u2014]$")
_LETTERS = re.compile(r"[^\W\d_]{2,}")
_VALUE = re.compile(r"[\W_]*[A-Z]{0,3}[\W_]*\d[\d\W]*[A-Za-z%]{0,3}[\W_]*$")
_BULLET = re.compile(r"(?:[\u2022\u25aa\u25cf\u25e6\u2023\u00b7*\u2013\u2014-]|\d{1,2}[.)]|[a-zA-Z][.)]|\(\w{1,3}\))$")


def is_label(words: Sequence[str]) -> bool:
    """Tell whether words could be a field's label: few, with letters, and not a sentence."""
    text = " ".join(words)
    return (
        0 < len(words) <= LABEL_WORDS
        and bool(_LETTERS.search(text))
        and not any(word.endswith((".", ";", "!")) and len(word) > 5 for word in words[:-1])
        and not any(word.endswith(",") for word in words)
    )


def is_value(words: Sequence[str]) -> bool:
    """Tell whether words are an amount, a date, a number or the like."""
    digits = sum(letter.isdigit() for word in words for letter in word)
    letters = sum(letter.isalpha() for word in words for letter in word)
    return 0 < len(words) <= LABEL_WORDS and digits > 0 and (digits >= letters or bool(_VALUE.match(" ".join(words))))


def has_digit(words: Sequence[str]) -> bool:
    """Tell whether any of the words contains a digit."""
    return any(letter.isdigit() for word in words for letter in word)


def is_bullet(word: str) -> bool:
    """Tell whether a word begins an item of a list: a bullet, ``1.``, ``b)``, ``(iii)``."""
    return bool(_BULLET.match(word))


def label_ends(words: Sequence[str]) -> list[int]:
    """Return the indices of words that end a label: with a colon, a number sign before digits, a dash before digits."""
    return [index for index in range(len(words)) if _ends_label(words, index)]


def ends_with_colon(word: str) -> bool:
    """Tell whether a word ends with a colon, also a full-width one."""
    return bool(_COLON.search(word))


def _ends_label(words: Sequence[str], index: int) -> bool:
    word, after = words[index], words[index + 1 : index + 2]
    if ends_with_colon(word):
        numbered = word[:-1].isdigit()
        # Digits and a colon are a time or a step, unless they end a name such as "Year 2:".
        named = 0 < index <= 3 and len(word) <= 3 and words[index - 1][:1].isupper() and not has_digit(words[:index])
        if numbered and not named:
            return False
        return bool(_LETTERS.search(" ".join(words[: index + 1])))
    if _NUMBER_SIGN.match(word):
        return index + len(word) > 1 and (not after or has_digit(after))
    if _DASH.match(word) and len(word) == 1:
        before = words[:index]
        return 0 < index <= 3 and all(part.isupper() and part.isalpha() for part in before) and len(words) == index + 2
    return False
