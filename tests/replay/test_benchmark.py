"""The benchmark of the gate: the gate accepts the copies that it makes, including the allow list."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from benchmarks import replay
from temporal_replay_gate.defaults import ALLOW_LIST


@pytest.mark.timeout(180)
def test_benchmark_run_replays_each_copied_history() -> None:
    measured = replay.run(count=1, rounds=1)
    assert measured["histories"] == len(replay.originals())
    assert all(label and value for label, value in replay.table(measured))


def test_benchmark_copies_include_allow_list_unchanged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The benchmark must not parse the allow list: another release may have other fields in it."""
    site = tmp_path / "site"
    shutil.copytree(replay.HISTORIES, site / "histories" / replay.HISTORIES.name)
    (site / ALLOW_LIST).write_text("[[drift]]\nfields = 'of another release'\n", encoding="utf-8")
    monkeypatch.setattr(replay, "HISTORIES", site / "histories" / replay.HISTORIES.name)
    replay.copies(tmp_path / "copies" / "histories", 3)
    assert (tmp_path / "copies" / ALLOW_LIST).read_text(encoding="utf-8") == (site / ALLOW_LIST).read_text()
    assert len(list((tmp_path / "copies" / "histories").rglob("*.provenance.json"))) == 3
