from __future__ import annotations

from scripts.make_reference import PAGES, pages


def test_the_reference_pages_say_what_the_code_says() -> None:
    stale = [name for name, text in pages().items() if (PAGES / name).read_text(encoding="utf-8") != text]
    assert stale == [], "run: python scripts/make_reference.py"
