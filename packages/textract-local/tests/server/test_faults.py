"""The fault script: the calls that it affects, its reproducibility, and invalid scripts."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from textract_local.server.failures import THROTTLED
from textract_local.server.fault_script import MOST_RULES, WrongScript, read_script
from textract_local.server.faults import FaultInjector, FaultKind, JobFault, NotificationFault, RequestFault
from textract_local.server.model import TextractModel

OPERATIONS = TextractModel().operations
DETECT, START = "DetectDocumentText", "StartDocumentTextDetection"


def faults(*rules: dict[str, Any], seed: int = 0) -> FaultInjector:
    return FaultInjector(read_script({"seed": seed, "rules": list(rules)}, OPERATIONS))


def codes(script: FaultInjector, calls: int, operation: str = DETECT) -> list[str | None]:
    """Return the error codes of this number of calls in a row."""
    found = [script.for_request(operation) for _ in range(calls)]
    return [fault.failure.code if fault and fault.failure else None for fault in found]


def test_fault_injector_without_script_injects_nothing() -> None:
    script = FaultInjector()
    assert script.for_request(DETECT) is None
    assert script.for_job(START, "s3://photos/a.png") is None
    assert script.for_notification(START) is None


@pytest.mark.parametrize(
    ("kind", "code", "status"),
    [
        ("throttle", "ThrottlingException", 500),
        ("provisioned-throughput", "ProvisionedThroughputExceededException", 400),
        ("internal-error", "InternalServerError", 500),
    ],
)
def test_fault_kind_has_code_and_status_of_service(kind: str, code: str, status: int) -> None:
    fault = faults({"kind": kind}).for_request(DETECT)
    assert fault is not None
    assert fault.failure is not None
    assert (fault.failure.code, fault.failure.status) == (code, status)


def test_fault_rule_calls_affects_only_listed_calls() -> None:
    script = faults({"kind": "throttle", "operation": DETECT, "calls": [1, 3]})
    assert script.for_request("AnalyzeDocument") is None
    assert [code is not None for code in codes(script, 5)] == [True, False, True, False, False]
    assert script.shown()["rules"][0] | {"seen": 5, "taken": 2} == script.shown()["rules"][0]


def test_fault_rule_times_limits_number_of_faults() -> None:
    assert [code is not None for code in codes(faults({"kind": "throttle", "times": 2}), 4)] == [
        True,
        True,
        False,
        False,
    ]


def test_fault_rule_operation_pattern_matches_operations() -> None:
    script = faults({"kind": "throttle", "operations": ["Start*", "DetectDocumentText"]})
    taken = [name for name in OPERATIONS if script.for_request(name)]
    assert taken == [name for name in OPERATIONS if name.startswith("Start") or name == DETECT]


def test_fault_rules_sum_delays_and_stop_at_first_failure() -> None:
    script = faults(
        {"kind": "slow", "seconds": 1},
        {"kind": "slow", "seconds": 0.5},
        {"kind": "throttle", "calls": [2]},
        {"kind": "internal-error", "calls": [1, 2]},
    )
    first, second = script.for_request(DETECT), script.for_request(DETECT)
    assert first is not None
    assert second is not None
    assert (first.seconds, first.failure and first.failure.code) == (1.5, "InternalServerError")
    assert second.failure is not None
    assert second.failure.code == "ThrottlingException"
    # The throttled call did not reach the last rule, which has therefore counted only one call.
    assert script.shown()["rules"][3]["seen"] == 1


def test_for_job_returns_job_faults_by_document() -> None:
    script = faults(
        {"kind": "job-slow", "seconds": 3},
        {"kind": "job-fails", "document": "bad/*", "message": "no good"},
        {"kind": "job-partial", "document": "s3://photos/long.pdf", "pages": 2},
    )
    assert script.for_job(START, "s3://photos/bad/a.pdf") == JobFault(3, "FAILED", "no good")
    partial = script.for_job(START, "s3://photos/long.pdf")
    assert partial is not None
    assert (partial.status, partial.pages, bool(partial.status_message)) == ("PARTIAL_SUCCESS", 2, True)
    assert script.for_job(START, "s3://photos/other.pdf") == JobFault(3)


def test_for_notification_returns_fault_of_each_kind() -> None:
    kinds = ["notification-late", "notification-doubled", "notification-lost", "notification-out-of-order"]
    script = faults(
        *(
            {"kind": kind, "calls": [call], **({"seconds": 2} if call == 1 else {})}
            for call, kind in enumerate(kinds, 1)
        )
    )
    assert [script.for_notification(START) for _ in range(5)] == [
        NotificationFault(seconds=2),
        NotificationFault(copies=2),
        NotificationFault(copies=0),
        NotificationFault(held=True),
        None,
    ]


@given(seed=st.integers(-(1 << 63), (1 << 63) - 1), probability=st.floats(0, 1))
def test_fault_seed_repeats_despite_other_operations(seed: int, probability: float) -> None:
    rule = {"kind": "throttle", "probability": probability}
    alone = codes(faults(rule, seed=seed), 20)
    script = faults(rule, seed=seed)
    mixed = []
    for _ in range(20):
        codes(script, 2, "AnalyzeDocument")
        mixed += codes(script, 1)
    assert alone == mixed


def test_fault_probability_is_met_and_differs_by_seed() -> None:
    runs = [codes(faults({"kind": "throttle", "probability": 0.3}, seed=seed), 1000) for seed in range(3)]
    for run in runs:
        assert 230 < sum(code is not None for code in run) < 370
    assert runs[0] != runs[1] != runs[2]


@pytest.mark.parametrize(("probability", "taken"), [(0, 0), (1, 50)])
def test_fault_probability_zero_and_one_take_none_and_all(probability: float, taken: int) -> None:
    assert (
        sum(code is not None for code in codes(faults({"kind": "throttle", "probability": probability}), 50)) == taken
    )


def test_read_script_round_trips_each_kind() -> None:
    for kind in FaultKind:
        rule = {
            "kind": kind.value,
            **({"seconds": 1} if kind.value in {"slow", "job-slow", "notification-late"} else {}),
        }
        shown = faults(rule).shown()["rules"][0]
        assert rule.items() <= shown.items()
        told_again = {name: value for name, value in shown.items() if name not in {"since", "seen", "taken"}}
        assert faults(told_again).script == faults(rule).script


def test_fault_injector_replace_resets_counts() -> None:
    script = faults({"kind": "throttle", "times": 1})
    assert codes(script, 2) == ["ThrottlingException", None]
    script.replace(script.script)
    assert script.for_request(DETECT) == RequestFault(0, THROTTLED)


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ([], "the script: must be an object"),
        ({"rule": []}, "the script: has no field 'rule'; there are seed, rules"),
        ({"seed": "x"}, "seed: must be an integer"),
        ({"seed": True}, "seed: must be an integer"),
        ({"rules": {}}, "rules: must be a list"),
        ({"rules": [7]}, "rules[0]: must be an object"),
        ({"rules": [{}]}, "rules[0]: kind is missing; it is one of throttle"),
        ({"rules": [{"kind": "throtle"}]}, "rules[0].kind: 'throtle' is none of throttle"),
        ({"rules": [{"kind": ["throttle"]}]}, "rules[0].kind: ['throttle'] is none of"),
        ({"rules": [{"kind": "throttle", "color": 1}]}, "rules[0]: has no field 'color'"),
        ({"rules": [{"kind": "throttle", "operation": "ReadMinds"}]}, "there is no operation 'ReadMinds'"),
        ({"rules": [{"kind": "throttle", "operations": []}]}, "rules[0].operations: is empty"),
        ({"rules": [{"kind": "throttle", "operations": "x"}]}, "rules[0].operations: must be a list"),
        ({"rules": [{"kind": "throttle", "operations": [7]}]}, "rules[0].operations: must be a string"),
        ({"rules": [{"kind": "throttle", "operation": DETECT, "operations": [DETECT]}]}, "say the same"),
        ({"rules": [{"kind": "throttle", "probability": 1.1}]}, "rules[0].probability: must be from 0 to 1"),
        ({"rules": [{"kind": "throttle", "probability": "often"}]}, "rules[0].probability: must be a number"),
        ({"rules": [{"kind": "throttle", "probability": float("nan")}]}, "must be a number, not nan"),
        ({"rules": [{"kind": "throttle", "calls": [0]}]}, "rules[0].calls[0]: must be an integer from 1"),
        ({"rules": [{"kind": "throttle", "calls": 1}]}, "rules[0].calls: must be a list"),
        ({"rules": [{"kind": "throttle", "calls": [1], "probability": 1}]}, "exclude each other"),
        ({"rules": [{"kind": "throttle", "times": 0}]}, "rules[0].times: must be an integer from 1"),
        ({"rules": [{"kind": "throttle", "seconds": 1}]}, "rules[0].seconds: throttle has no use"),
        ({"rules": [{"kind": "slow"}]}, "rules[0].seconds: slow needs seconds"),
        ({"rules": [{"kind": "slow", "seconds": -1}]}, "rules[0].seconds: must be from 0"),
        ({"rules": [{"kind": "throttle", "document": "*"}]}, "throttle happens before the document is known"),
        ({"rules": [{"kind": "job-slow", "seconds": 1, "message": "x"}]}, "rules[0].message: job-slow has no use"),
        ({"rules": [{"kind": "job-fails", "message": ""}]}, "rules[0].message: must not be empty"),
        ({"rules": [{"kind": "job-fails", "pages": 1}]}, "rules[0].pages: job-fails has no use"),
        ({"rules": [{"kind": "job-partial", "pages": -1}]}, "rules[0].pages: must be an integer from 0"),
        ({"rules": [{"kind": "throttle"}] * (MOST_RULES + 1)}, "rules: 1001 are more than 1000"),
        ({"rules": [{"kind": "throttle"}, {"kind": "x" * 500}]}, "rules[1].kind: 'xxx"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_read_script_wrong_is_refused_in_one_line(script: object, said: str) -> None:
    with pytest.raises(WrongScript) as caught:
        read_script(script, OPERATIONS)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400
