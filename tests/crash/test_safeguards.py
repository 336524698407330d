"""Layer 5: the named tests of each safeguard fail if it is switched off."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from tests.conftest import STACK_VARIABLES
from tests.crash.mutants import Mutants, Outcome
from tests.crash.report import RED, SURVIVED, UNTESTED, SafeguardOutcome, record_safeguard
from tests.crash.safeguard import Safeguard
from tests.crash.safeguards import SAFEGUARDS
from tests.support.mutation import Mutation, MutationError, line_of, mutated
from tests.support.resources import TEMPLATE_VARIABLE

TABLE = "tests/crash/safeguards*.py"

# The number of parts in which the named tests run on the unchanged product.
_SHARES = 3

_EACH = pytest.mark.parametrize("safeguard", [pytest.param(found, id=found.name) for found in SAFEGUARDS])


@pytest.fixture(scope="session")
def mutants() -> Iterator[Mutants]:
    with Mutants() as made:
        yield made


def test_safeguards_have_unique_names() -> None:
    names = [safeguard.name for safeguard in SAFEGUARDS]
    assert sorted(set(names)) == sorted(names)


@_EACH
def test_safeguard_code_is_found_once(safeguard: Safeguard) -> None:
    try:
        mutated(safeguard.edits)
    except MutationError as moved:
        pytest.fail(
            f"The safeguard {safeguard.name!r} ({safeguard.title}) is gone or has moved. Without it, "
            f"{safeguard.otherwise}.\n{moved}\nPut it back; or where its code only changed, say in {TABLE} how it is"
            " switched off now."
        )


@pytest.mark.timeout(120)
@pytest.mark.parametrize("share", range(_SHARES))
def test_safeguards_all_present_pass_their_tests(share: int, mutants: Mutants, request: pytest.FixtureRequest) -> None:
    ordered = sorted(SAFEGUARDS, key=lambda safeguard: (safeguard.needs_stack, safeguard.tests))
    each = -(-len(ordered) // _SHARES)
    chosen = ordered[share * each : (share + 1) * each]
    tests = list(dict.fromkeys(test for safeguard in chosen for test in safeguard.tests))
    outcome = mutants.run([], tests, environment=_shared_variables(request, chosen[-1]))
    assert outcome.green, f"a red test proves nothing while it is red anyway:\n{outcome.output}"
    assert outcome.passed >= len(tests)


@pytest.mark.timeout(120)
@_EACH
def test_safeguard_switched_off_fails_its_tests(
    safeguard: Safeguard, mutants: Mutants, request: pytest.FixtureRequest
) -> None:
    environment = _shared_variables(request, safeguard)
    began = time.monotonic()
    outcome = mutants.run(
        safeguard.edits, safeguard.tests, environment=environment, limit_seconds=safeguard.limit_seconds
    )
    found = _judged(safeguard, outcome, time.monotonic() - began, request.node.nodeid)
    record_safeguard(found)
    assert found.outcome == RED, (
        f"The safeguard {safeguard.name!r} ({safeguard.title}) was switched off ({safeguard.off}), and "
        f"{' and '.join(safeguard.tests)} did not notice: {found.outcome}. Without it, {safeguard.otherwise}.\n"
        f"{' '.join(outcome.errors)}\n{outcome.output}"
    )


def _shared_variables(request: pytest.FixtureRequest, safeguard: Safeguard) -> dict[str, str]:
    """Return variables for a child's tests to share this run's stack and, unless migrations change, its template."""
    if not safeguard.needs_stack:
        return {}
    shared = {STACK_VARIABLES: json.dumps(request.getfixturevalue("stack_env"))}
    if not any("/migrations/" in edit.file for edit in safeguard.edits):
        shared[TEMPLATE_VARIABLE] = request.getfixturevalue("template_database")
    return shared


def _judged(safeguard: Safeguard, outcome: Outcome, seconds: float, test: str) -> SafeguardOutcome:
    verdict = RED if outcome.red else SURVIVED if outcome.green else UNTESTED
    return SafeguardOutcome(
        name=safeguard.name,
        protects=safeguard.title,
        invariant=", ".join(map(str, safeguard.invariants)),
        where=", ".join(sorted({_line(edit) for edit in safeguard.edits})),
        test=", ".join(safeguard.tests),
        outcome=verdict,
        seconds=round(seconds, 3),
        command=f"python3 dev.py nox --session crash -- '{test}'",
        detail=(outcome.failures or outcome.errors or [""])[0].partition("\n")[0],
    )


def _line(edit: Mutation) -> str:
    return f"{edit.file}:{line_of(edit)}"


class TestTheMechanism:
    """The mechanism itself: a mutant is red if its test fails by itself, and for no other reason."""

    HARMLESS = Mutation(
        "photo_worker/activities/ocr.py",
        "OcrActivities._read",
        "self._kept($key, $document)",
        "self._kept($key, $document) or None",
    )
    TEST = "tests/unit/test_activities.py::TestOcr::test_ocr_textract_later_attempt_reuses_stored_response"
    IN_A_JOB = "tests/crash/test_job_outcomes.py::test_job_whose_worker_dies_in_ocr_takes_under_40s_more"
    IN_THE_SANDBOX = "tests/replay/test_histories.py::test_sdk_replayer_accepts_history[object-missing]"

    def test_mutant_without_effect_survives(self, mutants: Mutants) -> None:
        outcome = mutants.run([self.HARMLESS], [self.TEST])
        assert outcome.green
        assert not outcome.red

    def test_mutant_that_cannot_be_imported_is_not_red(self, mutants: Mutants) -> None:
        broken = Mutation(self.HARMLESS.file, "", "from __future__ import annotations", "import no_such_module")
        outcome = mutants.run([broken], [self.TEST])
        assert not outcome.red
        assert not outcome.green

    @pytest.mark.parametrize(
        ("old", "new", "kind"),
        [
            ("self._kept($key, $document)", "self._kapt($key, $document)", "AttributeError"),
            ("self._kept($key, $document)", "self._kept(keys, $document)", "NameError"),
            ("$info = activity.info()", "from photo_worker import none", "ImportError"),
        ],
    )
    @pytest.mark.parametrize("test", [TEST, IN_A_JOB], ids=["told", "as a job's reason"])
    def test_mutant_whose_functions_cannot_run_is_not_red(
        self, mutants: Mutants, old: str, new: str, kind: str, test: str
    ) -> None:
        outcome = mutants.run([Mutation(self.HARMLESS.file, self.HARMLESS.within, old, new)], [test])
        assert outcome.failures
        assert f"the mutant itself is broken: {kind}: " in outcome.errors[0]
        assert not outcome.red
        assert not outcome.green

    def test_mutant_whose_workflow_cannot_run_is_not_red(self, mutants: Mutants) -> None:
        broken = Mutation(
            "photo_worker/workflows/image.py",
            "ImageProcessingWorkflow.run",
            "await_ignoring_cancellation",
            "_to_the_and",
        )
        outcome = mutants.run([broken], [self.IN_THE_SANDBOX])
        assert outcome.failures
        assert "the mutant itself is broken: NameError: " in outcome.errors[0]
        assert not outcome.red

    def test_mutant_whose_callee_raises_is_red(self, mutants: Mutants) -> None:
        harm = Mutation(
            self.HARMLESS.file,
            "OcrActivities._document",
            "media.media_type($found.content_type)",
            "media.media_type(None)",
        )
        outcome = mutants.run([harm], [self.TEST])
        assert "AttributeError" in outcome.failures[0]
        assert outcome.red, outcome.errors

    def test_mutant_that_ends_its_process_is_not_red(self, mutants: Mutants) -> None:
        ends = Mutation(self.HARMLESS.file, "", "from __future__ import annotations", "import os\nos._exit(1)")
        outcome = mutants.run([ends], [self.TEST])
        assert not outcome.red
        assert not outcome.green
        assert mutants.run([], [self.TEST]).green

    def test_mutant_with_differing_photo_is_red_in_time_in_ci(self, mutants: Mutants) -> None:
        kept = next(safeguard for safeguard in SAFEGUARDS if safeguard.name == "original-is-kept")
        outcome = mutants.run(kept.edits, kept.tests, environment={"CI": "true"}, limit_seconds=10)
        assert outcome.red, outcome.output

    def test_mutant_with_missing_test_is_not_red(self, mutants: Mutants) -> None:
        outcome = mutants.run([self.HARMLESS], [self.TEST + "_no_more"])
        assert not outcome.red
        assert not outcome.green

    def test_mutant_whose_module_is_never_imported_is_an_error(self, mutants: Mutants) -> None:
        view = "packages/temporal-replay-gate/src/temporal_replay_gate/view.py"
        unseen = Mutation(view, "", "from __future__ import annotations", "import not_here")
        outcome = mutants.run([unseen], ["tests/unit/test_media.py"])
        assert f"never import {view}" in outcome.errors[0]
