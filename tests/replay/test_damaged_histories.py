"""Random damage to recorded histories: the gate always returns, and damage makes no failing history green."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gate_support.broken import GOOD, good
from temporal_replay_gate.findings import Finding
from temporal_replay_gate.preflight import inspect, unknown_type
from temporal_replay_gate.replay_pool import ReplayPool, ReplayTask
from tests.replay.code_mutations.mutations import CODE_MUTATIONS
from tests.replay.code_mutations.variants import lay_out
from tests.replay.product import product_code

LIMIT_SECONDS = 10.0
_JUNK = st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=5), st.just([]), st.just({}))


def _places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every value in a document."""
    if at:
        yield at
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _places(inner, (*at, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _places(inner, (*at, index))


PLACES = list(_places(good()))
EVENTS = len(good()["events"])

_Mutation = tuple[str, Any, Any]
mutations = st.lists(
    st.one_of(
        st.tuples(st.just("drop event"), st.integers(0, EVENTS - 1), st.none()),
        st.tuples(st.just("swap events"), st.integers(0, EVENTS - 1), st.integers(0, EVENTS - 1)),
        st.tuples(st.just("double event"), st.integers(0, EVENTS - 1), st.none()),
        st.tuples(st.just("cut at"), st.integers(1, EVENTS - 1), st.none()),
        st.tuples(st.just("drop value"), st.sampled_from(PLACES), st.none()),
        st.tuples(st.just("put value"), st.sampled_from(PLACES), _JUNK),
        st.tuples(st.just("renumber"), st.none(), st.none()),
    ),
    min_size=1,
    max_size=4,
)


def mutated(document: dict[str, Any], changes: list[_Mutation]) -> dict[str, Any]:
    """Apply changes one by one; a change whose path does not exist any more has no effect."""
    document = copy.deepcopy(document)
    for kind, where, what in changes:
        events = document["events"] if isinstance(document.get("events"), list) else []
        if kind == "renumber":
            for number, event in enumerate(events, start=1):
                if isinstance(event, dict):
                    event["eventId"] = str(number)
        elif kind == "cut at":
            del events[where:]
        elif kind in {"drop event", "double event", "swap events"} and where < len(events):
            if kind == "drop event":
                del events[where]
            elif kind == "double event":
                events.insert(where, copy.deepcopy(events[where]))
            elif what < len(events):
                events[where], events[what] = events[what], events[where]
        elif kind in {"drop value", "put value"}:
            _change(document, where, kind == "drop value", what)
    return document


def _change(document: Any, where: tuple[Any, ...], drop: bool, what: Any) -> None:
    holder = document
    for key in where[:-1]:
        try:
            holder = holder[key]
        except (KeyError, IndexError, TypeError):
            return
    try:
        if drop:
            del holder[where[-1]]
        else:
            holder[where[-1]] = what
    except (KeyError, IndexError, TypeError):
        return


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ReplayPool, ReplayPool]]:
    """Return a pool with the right code, and one with a mutation that the good history reveals."""
    directory = tmp_path_factory.mktemp("wrong")
    mutation = next(mutation for mutation in CODE_MUTATIONS if mutation.name == "activity renamed")
    workflows, _ = lay_out([mutation], {"kitchen": GOOD}, directory)
    root = str(Path(__file__).resolve().parents[2])
    right = product_code("gate_support.kitchen:Kitchen", path=(root,))
    wrong = product_code(workflows, path=(str(directory), root))
    with (
        ReplayPool(right, limit_seconds=LIMIT_SECONDS, jobs=1) as engine,
        ReplayPool(wrong, limit_seconds=LIMIT_SECONDS, jobs=1) as diverging,
    ):
        yield engine, diverging


def judged(engine: ReplayPool, document: dict[str, Any], path: Path, workflow_type: str) -> tuple[Finding, ...]:
    """Return the findings for one file, from the preflight or from its replay."""
    path.write_text(json.dumps(document), encoding="utf-8")
    history, faults = inspect(path)
    if history is None:
        return tuple(faults)
    unknown = unknown_type(history, [workflow_type])
    if unknown is not None:
        return (unknown,)
    (outcome,) = engine.run([ReplayTask(path)])
    return outcome.findings


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(changes=mutations)
@pytest.mark.timeout(600)
def test_damaged_history_ends_in_finding_or_replay(
    engines: tuple[ReplayPool, ReplayPool], tmp_path: Path, changes: list[_Mutation]
) -> None:
    engine, _ = engines
    path = tmp_path / f"{uuid4()}.json"
    findings = judged(engine, mutated(good(), changes), path, "planted_kitchen")
    for finding in findings:
        assert finding.code
        assert finding.what
        assert finding.fix
    # The next good history is replayed, whatever came before it.
    assert judged(engine, good(), tmp_path / "good.json", "planted_kitchen") == ()


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(changes=mutations)
@pytest.mark.timeout(600)
def test_damaged_history_of_diverging_code_stays_red(
    engines: tuple[ReplayPool, ReplayPool], tmp_path: Path, changes: list[_Mutation]
) -> None:
    """The code renames the activity that event 5 records: only a history without that event may pass."""
    _, diverging = engines
    document = json.loads(json.dumps(good()).replace('"planted_kitchen"', '"planted_kitchen_00"'))
    damaged = mutated(document, changes)
    findings = judged(diverging, damaged, tmp_path / f"{uuid4()}.json", "planted_kitchen_00")
    if not findings:
        scheduled = [event for event in damaged["events"] if event["eventType"] == "EVENT_TYPE_ACTIVITY_TASK_SCHEDULED"]
        names = [event["activityTaskScheduledEventAttributes"]["activityType"]["name"] for event in scheduled]
        assert "wash" not in names
