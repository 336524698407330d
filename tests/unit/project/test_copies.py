"""Distributions import nothing of each other's private modules, so that some are copied: the copies stay equal."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
GATE = ROOT / "packages" / "temporal-replay-gate" / "src" / "temporal_replay_gate"


@pytest.mark.parametrize("name", ["files.py", "printable.py"])
def test_copied_module_is_unchanged(name: str) -> None:
    assert (GATE / name).read_text("utf-8") == (ROOT / "photo_worker" / name).read_text("utf-8")
