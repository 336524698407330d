from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from temporal_replay_gate.scenarios import Expected, Scenario, ScenarioSuite, joined


class First:
    pass


class Second:
    pass


def _act() -> None:
    pass


def suite(name: str, kind: type, **more: Any) -> ScenarioSuite:
    async def prepare(scenario: Scenario, application: Any, workflow_id: str) -> Any:
        return (name, scenario.name, application, workflow_id)

    scenario = Scenario(f"{name}-ends", name, "It ends.", Expected("success"))
    activities = [_act] if kind is First else []
    return ScenarioSuite([scenario], lambda: [kind], lambda scenario, application: activities, prepare, **more)


async def test_joined_scenarios_run_as_in_their_own_suites() -> None:
    first, second = suite("first", First, application=True), suite("second", Second, workflow_id=lambda _: "fixed")
    both = joined([first, second])
    one, other = both.scenarios
    assert both.application
    assert list(both.workflows()) == [First, Second]
    assert [list(both.activities(each, None)) for each in both.scenarios] == [[_act], []]
    assert await both.prepare(one, "app", "id") == ("first", "first-ends", "app", "id")
    assert await both.prepare(other, None, "id") == ("second", "second-ends", None, "id")
    assert both.workflow_id is not None
    assert both.workflow_id(other) == "fixed"
    assert both.workflow_id(one) != both.workflow_id(one)


def test_joined_single_suite_is_itself() -> None:
    alone = suite("first", First)
    assert joined([alone]) is alone


def test_joined_suites_that_disagree_raise() -> None:
    first = suite("first", First)
    with pytest.raises(ValueError, match="'first-ends'"):
        joined([first, suite("first", Second)])
    with pytest.raises(ValueError, match="code and raised"):
        joined([first, replace(suite("second", Second), code="other:WORKFLOWS")])
