"""The hooks that the product gives to the replay gate."""

from __future__ import annotations

from pathlib import Path

from photo_worker import __version__
from photo_worker.cli.replay import HOOKS
from photo_worker.errors import ObjectMissing
from temporal_replay_gate.config import read_hooks

ROOT = Path(__file__).resolve().parents[2]


def test_read_hooks_of_checkout_are_the_products() -> None:
    assert read_hooks(ROOT / "pyproject.toml") is HOOKS
    assert HOOKS.release == __version__


def test_vocabulary_keeps_codes_and_keys_of_jobs_and_no_content() -> None:
    words = HOOKS.vocabulary()
    assert words.keeps(ObjectMissing.code)
    assert words.keeps(f"raw/{'0' * 64}.png")
    assert words.keeps("artifacts/8c5b4f0e-7a51-4a52-9f3a-2f6f3c1d9b77/text.json")
    assert not words.keeps("raw/grandmas-pie.png")
    assert not words.keeps("flour, butter and sugar")
