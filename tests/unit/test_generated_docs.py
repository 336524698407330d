"""Generated pages name their source, and generating them replaces all that differ."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import pytest

from scripts import generated_docs, make_command_pages
from scripts.error_classes import error_classes

AGAIN = "run: python3 dev.py nox -s docs"


def test_generated_docs_are_up_to_date() -> None:
    assert [path.name for path in generated_docs.stale(generated_docs.texts())] == [], AGAIN


def test_error_classes_of_page_have_unique_codes() -> None:
    """Programs match the code, so two errors must not share one."""
    codes = Counter(kind.code for kind in error_classes())
    assert [code for code, count in codes.items() if count > 1] == []


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Directories of two generated pages, with an outdated page and one of a removed command."""
    docs = tmp_path / "docs"
    monkeypatch.setattr(generated_docs, "ROOT", tmp_path)
    monkeypatch.setattr(make_command_pages, "PAGES", docs / "commands")
    pages = {docs / "errors.md": "errors\n", docs / "commands" / "up.md": "up\n"}
    monkeypatch.setattr(generated_docs, "texts", lambda: pages)
    (docs / "commands").mkdir(parents=True)
    (docs / "errors.md").write_text("old\n")
    (docs / "commands" / "gone.md").write_text("gone\n")
    return docs


def test_generated_docs_main_reports_and_writes_stale_pages(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["docs/commands/gone.md", "docs/commands/up.md", "docs/errors.md"]
    monkeypatch.setattr(sys, "argv", ["generated_docs", "--check"])
    assert generated_docs.main() == 1
    assert capsys.readouterr().out.splitlines() == [f"stale: {name}" for name in names]
    assert (elsewhere / "errors.md").read_text() == "old\n"
    monkeypatch.setattr(sys, "argv", ["generated_docs"])
    assert generated_docs.main() == 0
    said = ["deleted", "written", "written"]
    assert capsys.readouterr().out.splitlines() == [f"{how}: {name}" for how, name in zip(said, names, strict=True)]
    assert {path: path.read_text() for path in elsewhere.rglob("*.md")} == generated_docs.texts()
    monkeypatch.setattr(sys, "argv", ["generated_docs", "--check"])
    assert generated_docs.main() == 0
