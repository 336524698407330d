"""Layer 1: no random sequence of events in a deployment violates an invariant, and at the end all of them hold.

Longer: ``PHOTO_WORKER_MODEL_EXAMPLES=2000 python3 dev.py nox -s crash -- tests/crash/test_model.py``; other examples
with ``PHOTO_WORKER_CRASH_SEED``. The same seed and number give the same examples.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.crash.model import Deployment
from tests.crash.report import VIOLATED, Cell, record, record_run
from tests.crash.simulation.gate import OUTAGES, Mode

EXAMPLES_VARIABLE = "PHOTO_WORKER_MODEL_EXAMPLES"
# 0 does not shrink a failure: enough to learn whether there is one.
SHRINK_VARIABLE = "PHOTO_WORKER_MODEL_SHRINK"
_EXAMPLES = 200
_RULES = 30
# Each mode of outage, by its name in the report's figures.
_MODES = tuple(mode.replace("-", "_") for mode in (*OUTAGES, Mode.REPLACE))
_SEED_VARIABLE = "PHOTO_WORKER_CRASH_SEED"


# Shrinking a failure takes minutes.
@pytest.mark.timeout(900)
def test_model_any_sequence_of_events_ends_every_job(tmp_path: Path) -> None:
    chosen = int(os.environ.get(_SEED_VARIABLE, "0"))
    examples = int(os.environ.get(EXAMPLES_VARIABLE, _EXAMPLES))
    command = (
        f"{_SEED_VARIABLE}={chosen} {EXAMPLES_VARIABLE}={examples} "
        "python3 dev.py nox -s crash -- tests/crash/test_model.py"
    )
    shrinks = os.environ.get(SHRINK_VARIABLE, "1") != "0"
    tally: Counter[str] = Counter()

    @seed(chosen)
    def deployment() -> Deployment:
        return Deployment(tmp_path, tally, command)

    began = time.perf_counter()
    try:
        run_state_machine_as_test(
            deployment,  # type: ignore[arg-type]
            settings=settings(
                max_examples=examples,
                stateful_step_count=_RULES,
                deadline=None,
                database=None,
                # Explaining a failure would trace every line of every thread.
                phases=(Phase.generate, Phase.shrink) if shrinks else (Phase.generate,),
                suppress_health_check=list(HealthCheck),
                print_blob=False,
            ),
        )
    except Exception as error:
        detail = str(error).splitlines()
        seconds = time.perf_counter() - began
        record(Cell("model", "any", 0, "", "", "any", "", VIOLATED, seconds, command, detail=" ".join(detail[:3])))
        raise
    record_run("model", seed=chosen, command=command, **tally)
    # Every kind of event must occur.
    for name in ("submissions", "erasures", "cancellations", "kills", "pauses", "faults", "throttled", *_MODES):
        assert tally[name] > 0, f"none of {name} in {examples} examples"
