"""Scrubbing masks data that enters a workflow, keeps data derived from it consistent, and leaves the rest."""

from __future__ import annotations

import base64
import copy
import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from photo_worker.errors import ObjectMissing, StepFailed
from temporal_replay_gate.errors import HistoryUnscrubbable
from temporal_replay_gate.histories import attributes, core_flags, event_name
from temporal_replay_gate.masks import MaskTable
from temporal_replay_gate.record import replay_problem
from tests.replay.corpora import PRODUCT, load
from tests.replay.product import product_code, scrub

_JOB = "8c5b4f0e-7a51-4a52-9f3a-2f6f3c1d9b77"
_SECRET = "grandmother's plum cake, for Anna.png"


def payload(value: Any) -> dict[str, Any]:
    return {
        "metadata": {"encoding": base64.b64encode(b"json/plain").decode()},
        "data": base64.b64encode(json.dumps(value, separators=(",", ":")).encode()).decode(),
    }


def value_of(found: dict[str, Any]) -> Any:
    return json.loads(base64.b64decode(found["data"]))


def event(kind: str, **about: Any) -> dict[str, Any]:
    camel = kind[0].lower() + kind[1:] + "EventAttributes"
    return {"eventType": "EVENT_TYPE_" + re.sub(r"(?<!^)(?=[A-Z])", "_", kind).upper(), camel: about}


def through(*events: dict[str, Any], **more: Any) -> list[dict[str, Any]]:
    """Scrub the events and return the attributes of each."""
    return [dict(attributes(one)) for one in scrub({"events": list(events)}, **more)["events"]]


def test_scrub_masks_input_and_derived_values_alike() -> None:
    started, scheduled = through(
        event("WorkflowExecutionStarted", input={"payloads": [payload({"job_id": _JOB, "key": _SECRET})]}),
        event("ActivityTaskScheduled", input={"payloads": [payload({"key": _SECRET, "label": f"s3://{_SECRET}"})]}),
    )
    entered, issued = value_of(started["input"]["payloads"][0]), value_of(scheduled["input"]["payloads"][0])
    assert entered["job_id"] == _JOB
    assert entered["key"] != _SECRET
    assert len(entered["key"]) == len(_SECRET)
    assert issued == {"key": entered["key"], "label": f"s3://{entered['key']}"}


def test_scrub_known_error_masks_filled_in_values_only() -> None:
    error = ObjectMissing(key=_SECRET, bucket="family-photos")
    failure = {"message": error.message, "applicationFailureInfo": {"type": error.code}}
    (failed,) = through(event("ActivityTaskFailed", failure=failure))
    message = failed["failure"]["message"]
    assert re.fullmatch(r"There is no object .* in bucket .*\.", message)
    assert "plum" not in message
    assert "family" not in message


def test_scrub_unknown_error_masks_message_and_derived_reason() -> None:
    reason = StepFailed(step="ocr_textract", reason="ValueError: butter is no number")
    failed, scheduled = through(
        event(
            "ActivityTaskFailed",
            failure={
                "message": "butter is no number",
                "stackTrace": '  File "/somewhere/ocr.py", line 3',
                "applicationFailureInfo": {"type": "ValueError"},
            },
        ),
        event("ActivityTaskScheduled", input={"payloads": [payload({"message": reason.message})]}),
    )
    masked = failed["failure"]["message"]
    assert "butter" not in masked
    assert failed["failure"]["stackTrace"] == ""
    message = value_of(scheduled["input"]["payloads"][0])["message"]
    assert message == StepFailed(step="ocr_textract", reason=f"ValueError: {masked}").message


def test_scrub_renames_identities_and_task_queues() -> None:
    scheduled, started = through(
        event(
            "WorkflowTaskScheduled",
            taskQueue={"name": "7@host:abc", "kind": "TASK_QUEUE_KIND_STICKY", "normalName": "replay-1"},
        ),
        event("WorkflowTaskStarted", identity="7@host", taskQueue={"name": "other", "kind": "TASK_QUEUE_KIND_NORMAL"}),
        task_queues={"replay-1": "recipe-process"},
    )
    assert scheduled["taskQueue"] == {
        "name": "sticky",
        "kind": "TASK_QUEUE_KIND_STICKY",
        "normalName": "recipe-process",
    }
    assert started == {"identity": "scrubbed", "taskQueue": {"name": "other", "kind": "TASK_QUEUE_KIND_NORMAL"}}


@pytest.mark.parametrize("info", ["applicationFailureInfo", "canceledFailureInfo", "terminatedFailureInfo"])
def test_scrub_masks_reasons_but_keeps_timeout_messages(info: str) -> None:
    words = "Anna wants it no more"
    (ended,) = through(event("ActivityTaskCanceled", reason=words, failure={"message": words, info: {}}))
    assert words not in {ended["reason"], ended["failure"]["message"]}
    (timed_out,) = through(event("ActivityTaskTimedOut", failure={"message": "too late", "timeoutFailureInfo": {}}))
    assert timed_out["failure"]["message"] == "too late"


def test_scrub_keep_leaves_constants() -> None:
    completed = event("WorkflowExecutionCompleted", result={"payloads": [payload("served warm")]})
    assert value_of(through(completed, keep=["served warm"])[0]["result"]["payloads"][0]) == "served warm"
    assert value_of(through(completed)[0]["result"]["payloads"][0]) != "served warm"


def test_scrub_bytes_become_as_many_zeros() -> None:
    body = {"metadata": {"encoding": base64.b64encode(b"binary/plain").decode()}, "data": "iVBORw0KGgo="}
    (completed,) = through(event("ActivityTaskCompleted", result={"payloads": [body]}))
    assert base64.b64decode(completed["result"]["payloads"][0]["data"]) == bytes(8)


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param({"encoding": "binary/encrypted", "data": "e30=", "said": "cannot be looked into"}, id="encrypted"),
        pytest.param({"encoding": "json/plain", "data": "{}", "said": "not base64"}, id="decoded"),
        pytest.param({"encoding": "json/plain", "data": "AAAA", "said": "is no JSON"}, id="not-json"),
    ],
)
def test_scrub_unreadable_payload_is_refused(broken: dict[str, str]) -> None:
    encoded = {"metadata": {"encoding": base64.b64encode(broken["encoding"].encode()).decode()}, "data": broken["data"]}
    with pytest.raises(HistoryUnscrubbable, match=broken["said"]):
        through(event("ActivityTaskCompleted", result={"payloads": [encoded]}))


def test_scrub_local_activity_masks_result_keeps_sdk_data() -> None:
    details = {"data": {"payloads": [payload({"activity_type": "cook"})]}, "result": {"payloads": [payload("my soup")]}}
    (marker,) = through(event("MarkerRecorded", markerName="core_local_activity", details=copy.deepcopy(details)))
    assert marker["details"]["data"] == details["data"]
    assert value_of(marker["details"]["result"]["payloads"][0]) != "my soup"


def test_scrub_marker_of_another_sdk_is_masked() -> None:
    details = {"data": {"payloads": [payload("my soup")]}}
    (marker,) = through(event("MarkerRecorded", markerName="SideEffect", details=details))
    assert value_of(marker["details"]["data"]["payloads"][0]) != "my soup"


@pytest.mark.parametrize("path", PRODUCT.files()[:6], ids=lambda path: path.stem)
def test_scrub_again_keeps_events_and_flags(path: Any) -> None:
    once = load(path)
    again = scrub(once)
    assert core_flags(again["events"]) == core_flags(once["events"])
    assert [event_name(one) for one in again["events"]] == [event_name(one) for one in once["events"]]
    assert [one["eventId"] for one in again["events"]] == [one["eventId"] for one in once["events"]]


def test_scrub_history_replays_before_and_after() -> None:
    """Replace the masks of a recorded history by private text: both forms replay alike."""
    history = load(PRODUCT.root / "image_processing_workflow" / "0.1.0" / "object-missing.json")
    started = value_of(attributes(history["events"][0])["input"]["payloads"][0])
    told = _replaced(history, {started["key"]: _SECRET, started["bucket"]: "family-photos"})
    scrubbed = scrub(told)
    assert _SECRET in _decoded(told)
    assert "plum" not in _decoded(scrubbed)
    assert "family" not in _decoded(scrubbed)
    assert replay_problem(product_code(), [told]) is None
    assert replay_problem(product_code(), [scrubbed]) is None


def test_replay_problem_reports_inconsistent_masking() -> None:
    history = load(PRODUCT.root / "image_processing_workflow" / "0.1.0" / "object-missing.json")
    key = value_of(attributes(history["events"][0])["input"]["payloads"][0])["key"]
    first, rest = history["events"][:1], history["events"][1:]
    torn = {"events": [*_replaced(first, {key: "another.png"}), *rest]}
    assert "another.png" in (replay_problem(product_code(), [torn]) or "")


def _replaced(value: Any, words: dict[str, str]) -> Any:
    """Return a copy with words replaced everywhere, also inside payloads."""
    if isinstance(value, list):
        return [_replaced(item, words) for item in value]
    if isinstance(value, str):
        for old, new in words.items():
            value = value.replace(old, new)
        return value
    if not isinstance(value, dict):
        return value
    if "data" in value and "encoding" in value.get("metadata", {}):
        return {**value, **{"data": payload(_replaced(value_of(value), words))["data"]}}
    return {name: _replaced(item, words) for name, item in value.items()}


def _decoded(history: dict[str, Any]) -> str:
    bodies = re.findall(r'"data": "([^"]+)"', json.dumps(history))
    return json.dumps(history) + "".join(base64.b64decode(body).decode("utf-8", "replace") for body in bodies)


@given(st.lists(st.text(min_size=8), min_size=1, max_size=20, unique=True))
def test_mask_keeps_length_and_punctuation_of_text(texts: list[str]) -> None:
    table = MaskTable()
    masks = [table.mask(text) for text in texts]
    assert [table.mask(text) for text in texts] == masks
    for text, mask in zip(texts, masks, strict=True):
        assert len(mask) == len(text)
        assert mask.isascii()
        assert [character for character in mask if not character.isalnum()] == [
            character for character in text if character.isascii() and not character.isalnum()
        ]
        assert table.substitute(f"<{text}>") != f"<{text}>" or mask == text


@given(st.text(alphabet=st.characters(categories=["Ll", "Lu"]), min_size=6, max_size=40))
def test_scrub_leaves_no_unknown_text(secret: str) -> None:
    for kind, name in (("WorkflowExecutionStarted", "input"), ("WorkflowExecutionCompleted", "result")):
        (found,) = through(event(kind, **{name: {"payloads": [payload({"text": secret, secret + " x": 1})]}}))
        content = value_of(found[name]["payloads"][0])
        assert content["text"] != secret
        assert secret + " x" not in content
