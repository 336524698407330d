from __future__ import annotations

from scripts.make_conformance import PAGE, page


def test_the_page_says_what_the_suite_expects() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run: python scripts/make_conformance.py"
