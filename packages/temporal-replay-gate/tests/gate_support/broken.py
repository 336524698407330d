"""Kinds of broken history files, each made from a good one."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

GOOD = Path(__file__).with_name("kitchen.json")
Document = dict[str, Any]


@dataclass(frozen=True)
class Broken:
    """One kind: ``make`` writes it to a path; the gate must report ``code`` with the text ``says``."""

    name: str
    make: Callable[[Path], object]
    code: str
    says: str


def good() -> Document:
    """Return the good history."""
    document: Document = json.loads(GOOD.read_text(encoding="utf-8"))
    return document


def edited(edit: Callable[[Document], Any]) -> Callable[[Path], object]:
    """Return a maker that writes the good history with a new run id and after ``edit``, or the result of ``edit``."""

    def make(path: Path) -> None:
        document = good()
        _started(document)["originalExecutionRunId"] = str(uuid4())
        returned = edit(document)
        path.write_text(json.dumps(document if returned is None else returned), encoding="utf-8")

    return make


def as_bytes(content: Callable[[bytes], bytes]) -> Callable[[Path], object]:
    """Return a maker that writes bytes made from the good file's."""
    return lambda path: path.write_bytes(content(GOOD.read_bytes()))


def _drop(document: Document, start: int, stop: int) -> None:
    del document["events"][start:stop]


def _without_tasks(document: Document) -> None:
    del document["events"][1:]


def _second_start(document: Document) -> None:
    again = copy.deepcopy(document["events"][0])
    again["eventId"] = str(len(document["events"]) + 1)
    document["events"].append(again)


def _swap(document: Document) -> None:
    events = document["events"]
    events[4], events[5] = events[5], events[4]


def _started(document: Document) -> Document:
    attributes: Document = document["events"][0]["workflowExecutionStartedEventAttributes"]
    return attributes


def _payload(document: Document) -> Document:
    payload: Document = _started(document)["input"]["payloads"][0]
    return payload


def _strip(value: Any, key: str) -> None:
    if isinstance(value, dict):
        value.pop(key, None)
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else []:
        _strip(inner, key)


def _decoded(document: Document) -> None:
    _started(document)["input"] = {"payloads": [{"dish": "leek", "bell": "b"}]}


def _decoded_data(document: Document) -> None:
    _payload(document)["data"] = {"dish": "leek"}


def _other_type(document: Document) -> None:
    _started(document)["workflowType"]["name"] = "closed_restaurant"


def _untyped(document: Document) -> None:
    del _started(document)["workflowType"]


def _without_run(document: Document) -> None:
    del _started(document)["originalExecutionRunId"]


def huge(path: Path) -> None:
    """Write a sparse file of 200 MB."""
    path.touch()
    os.truncate(path, 200_000_000)


def _unknown_event(document: Document) -> None:
    document["events"][3]["eventType"] = "EVENT_TYPE_OF_ANOTHER_WORLD"


BROKEN = [
    Broken("an empty file", as_bytes(lambda _: b""), "history_empty_file", "empty"),
    Broken("white space", as_bytes(lambda _: b" \n\t\n"), "history_empty_file", "empty"),
    Broken("a download that broke off", as_bytes(lambda whole: whole[: len(whole) // 2]), "history_not_json", "JSON"),
    Broken("a web page", as_bytes(lambda _: b"<html>403 Forbidden</html>"), "history_not_json", "JSON"),
    Broken("two files in one", as_bytes(lambda whole: whole + whole), "history_not_json", "JSON"),
    Broken("protobuf bytes", as_bytes(lambda _: b"\x0a\xff\xfe\x80" * 100), "history_not_text", "UTF-8"),
    Broken("UTF-16 text", as_bytes(lambda whole: whole.decode().encode("utf-16")), "history_not_text", "UTF-8"),
    Broken("a bare list", edited(lambda document: document["events"]), "history_not_an_object", "list"),
    Broken("a string", edited(lambda _: "history"), "history_not_an_object", "str"),
    Broken("deep nesting", as_bytes(lambda _: b"[" * 200_000), "history_not_json", "deep"),
    Broken("no events key", edited(lambda _: {"history": []}), "history_without_events", "events"),
    Broken("no events", edited(lambda _: {"events": []}), "history_without_events", "empty"),
    Broken("events that are text", edited(lambda _: {"events": ["a", "b"]}), "event_malformed", "Entry 1"),
    Broken("the head cut off", edited(lambda document: _drop(document, 0, 4)), "history_head_missing", "head"),
    Broken("only the start", edited(_without_tasks), "history_without_task", "workflow task"),
    Broken("a gap", edited(lambda document: _drop(document, 6, 8)), "event_id_gap", "event 7"),
    Broken("two events swapped", edited(_swap), "event_id_gap", "event 5"),
    Broken("two runs in one file", edited(_second_start), "history_of_two_runs", "second"),
    Broken(
        "no SDK metadata", edited(lambda document: _strip(document, "sdkMetadata")), "core_flag_missing", "sdkMetadata"
    ),
    Broken("no flags of the core", edited(lambda d: _strip(d, "coreUsedFlags")), "core_flag_missing", "coreUsedFlags"),
    Broken("payloads decoded by the UI", edited(_decoded), "payload_not_base64", "decod"),
    Broken("payload data decoded", edited(_decoded_data), "payload_not_base64", "decod"),
    Broken("bad base64", edited(lambda d: _payload(d).update(data="!!!")), "payload_not_base64", "base64"),
    Broken("a type that is gone", edited(_other_type), "workflow_type_unknown", "closed_restaurant"),
    Broken("no workflow type", edited(_untyped), "workflow_type_missing", "type"),
    Broken(
        "no run id",
        edited(_without_run),
        "run_id_missing",
        "originalExecutionRunId",
    ),
    Broken("a folder of that name", lambda path: path.mkdir(), "history_not_a_file", "folder"),
    Broken("a file of 200 MB", huge, "history_too_large", "bytes"),
    Broken("a link to nowhere", lambda path: path.symlink_to("nowhere"), "history_unreadable", "cannot be read"),
    Broken("an event of another world", edited(_unknown_event), "replay_hang", "did not end"),
    Broken("a copy of a good one", as_bytes(lambda whole: whole), "run_id_duplicate", "00-good.json"),
]
