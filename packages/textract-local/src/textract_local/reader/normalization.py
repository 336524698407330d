"""Normalise an engine's text to Textract's spelling, and tell which text Textract never returns."""

from __future__ import annotations

# Code points for two characters, which Textract writes as two, and dashes that it does not use.
_SPELLING = str.maketrans({"\u2103": "\u00b0C", "\u2109": "\u00b0F", "\u2013": "-", "\u2014": "-"})

# Textract reads English, French, German, Italian, Portuguese and Spanish (Amazon Textract FAQ, "Which languages
# does it support"): Latin letters with their accents, punctuation, currency, trade marks and fractions.
_WRITTEN = ((0x21, 0x24F), (0x2010, 0x205E), (0x20A0, 0x20CF), (0x2100, 0x218F))


def normalize_text(text: str) -> str:
    """Return a text in Textract's spelling, without whitespace at its ends."""
    return text.translate(_SPELLING).strip()


def is_supported_text(text: str) -> bool:
    """Tell whether a word has any character that Textract can return; a word of pictograms alone has none."""
    return any(first <= ord(character) <= last for character in text for first, last in _WRITTEN)
