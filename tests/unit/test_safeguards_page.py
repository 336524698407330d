from __future__ import annotations

from scripts.make_safeguards import PAGE, page


def test_the_page_says_which_safeguards_there_are() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run: python scripts/make_safeguards.py"
