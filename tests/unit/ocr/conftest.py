"""The reader that the tests of this directory share."""

from __future__ import annotations

from textract_support.shared_reader import reader

__all__ = ["reader"]
