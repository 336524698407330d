"""The two corpora of recorded histories, each with its scenarios."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from photo_worker.bootstrap import workflow_classes
from temporal_replay_gate.histories import discover
from temporal_replay_gate.record import history_paths
from temporal_replay_gate.scenarios import Scenario
from tests.replay.features.scenarios import SCENARIOS as FEATURE_SCENARIOS
from tests.replay.features.workflows import WORKFLOWS
from tests.replay.scenarios.images import SCENARIOS as IMAGE_SCENARIOS
from tests.replay.scenarios.images_before_lifetime import ACROSS_RELEASES_SCENARIOS, BEFORE_LIFETIME_SCENARIOS

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Corpus:
    root: Path
    scenarios: Sequence[Scenario]
    workflows: Sequence[type]

    def files(self) -> list[Path]:
        return discover([self.root])

    def releases(self, scenario: Scenario) -> Iterator[list[Path]]:
        """Yield the histories of a scenario, run by run, for each release that recorded it."""
        for directory in sorted((self.root / scenario.workflow).iterdir()):
            paths = history_paths(self.root, scenario, directory.name)
            if paths[0].exists():
                yield paths


_IMAGE_SCENARIOS = {one.name: one for one in (*BEFORE_LIFETIME_SCENARIOS, *ACROSS_RELEASES_SCENARIOS, *IMAGE_SCENARIOS)}
PRODUCT = Corpus(HERE / "histories", tuple(_IMAGE_SCENARIOS.values()), workflow_classes())
FEATURES = Corpus(HERE / "features" / "histories", FEATURE_SCENARIOS, WORKFLOWS)
CORPORA = (PRODUCT, FEATURES)


def load(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return document
