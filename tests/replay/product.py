"""The replay gate as the product uses it: with its code, its words and its release."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from photo_worker.cli.replay import HOOKS
from temporal_replay_gate import scrub as gate_scrub
from temporal_replay_gate.replay_pool import CodeUnderTest

RELEASE = HOOKS.release
WORKFLOWS = HOOKS.workflows
CONVERTER = HOOKS.converter


def product_code(workflows: str = WORKFLOWS, converter: str = CONVERTER, path: tuple[str, ...] = ()) -> CodeUnderTest:
    """Return code under test; by default the product's, read with the product's data converter."""
    return CodeUnderTest(workflows, converter, path, HOOKS.command)


def scrub(history: Mapping[str, Any], **options: Any) -> dict[str, Any]:
    """Return a history scrubbed with the product's vocabulary."""
    return gate_scrub.scrub(history, vocabulary=HOOKS.vocabulary(), **options)
