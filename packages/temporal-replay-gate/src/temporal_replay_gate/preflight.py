"""Checks of a history file before its replay.

The SDK's Replayer never returns for a history without events, without its head or without a
completed workflow task, and accepts renamed activities in a history without the SDK's flags.
Every finding has a stable code and tells what to do.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from temporal_replay_gate.files import FileTooLarge, NotRegularFile, read_regular
from temporal_replay_gate.findings import Finding
from temporal_replay_gate.histories import (
    PROVENANCE_SUFFIX,
    HistoryFile,
    Provenance,
    Searched,
    attributes,
    core_flags,
    event_name,
    exit_of,
    is_directory,
    patch_ids,
    provenance_path,
    sha256_of,
)

# Temporal ends a run at 50 MiB or 51,200 events; base64 and JSON at most triple the size.
SIZE_LIMIT_BYTES = 150 * 1024 * 1024

_EXPORT = "Export it again: temporal workflow show --workflow-id ID --run-id RUN --output json > FILE"
_HANGS = "the SDK's Replayer would wait for ever on it, and whatever comes after it would go unchecked"
_UNCHECKED = "what it recorded would go unchecked"


class _Faulty(Exception):
    def __init__(self, code: str, what: str, why: str = _UNCHECKED, fix: str = _EXPORT, **facts: Any) -> None:
        super().__init__(what)
        self.finding = Finding("preflight", code, what, why, fix, **facts)


def inspect(
    path: Path, *, need_provenance: bool = False, limit_bytes: int = SIZE_LIMIT_BYTES
) -> tuple[HistoryFile | None, list[Finding]]:
    """Read one file. Return the history, None if it must not be replayed, and a finding for each fault.

    A history with faulty provenance is still replayed, so that one run of the gate finds all faults.
    """
    try:
        content = _content(path, limit_bytes)
        events = _events(_document(content))
        _check_order(events)
        _check_head(events)
        _check_tasks(events)
        _check_payloads(events)
        history = _history(path, content, events)
    except _Faulty as fault:
        return None, [fault.finding.about(file=str(path))]
    provenance, faults = _provenance(history, need_provenance)
    if provenance is not None:
        history = HistoryFile(**{**vars(history), "provenance": provenance})
    return history, [fault.about(file=str(path), **identity(history)) for fault in faults]


def identity(history: HistoryFile) -> dict[str, Any]:
    """Return the fields of a finding that identify the run."""
    return {
        "workflow_type": history.workflow_type,
        "workflow_id": history.workflow_id,
        "run_id": history.run_id,
    }


def duplicates(histories: Sequence[HistoryFile]) -> list[Finding]:
    """Return a finding for every history with the run id of an earlier one in the list."""
    first: dict[str, HistoryFile] = {}
    faults = []
    for history in histories:
        earlier = first.setdefault(history.run_id, history)
        if earlier is not history:
            faults.append(
                Finding(
                    "preflight",
                    "run_id_duplicate",
                    f"It has the run id of {earlier.path}.",
                    "one of the two is a copy: a run that was edited by hand, or counted twice for coverage",
                    "Delete the copy, or record a run of its own.",
                    file=str(history.path),
                    **identity(history),
                )
            )
    return faults


def lost_history(provenance: Path) -> Finding:
    """Return the finding for a provenance file whose history is missing."""
    return Finding(
        "preflight",
        "history_lost",
        f"Its history {provenance.name.removesuffix(PROVENANCE_SUFFIX)}.json is gone.",
        "what it recorded is not checked any more",
        "Take the history back from version control; or delete this file as well, where no such run is left.",
        file=str(provenance),
    )


def not_read(path: Path) -> Finding:
    """Return the finding for a file among the histories that is not read because of its name."""
    return Finding(
        "preflight",
        "file_not_read",
        "It lies among the histories and is none by its name: only NAME.json is read.",
        "whatever it recorded would go unchecked",
        f"Take it elsewhere; or, where it is a history, unpack it and store each run as NAME.json. {_EXPORT}",
        file=str(path),
    )


def not_searched(path: Path, reason: str) -> Finding:
    """Return the finding for a directory that cannot be listed, or for a broken symbolic link."""
    return Finding(
        "preflight",
        "folder_not_read",
        f"It cannot be searched: {reason}.",
        "whatever histories lie in it would go unchecked",
        "Make it readable for your user, and its links lead somewhere; or take it elsewhere.",
        file=str(path),
    )


def search_findings(there: Searched) -> list[Finding]:
    """Return a finding for each path that a search found and did not read as a history."""
    return [
        *map(not_read, there.left_out),
        *map(lost_history, there.orphans),
        *(not_searched(path, reason) for path, reason in there.unread),
    ]


def unknown_type(history: HistoryFile, known: Sequence[str]) -> Finding | None:
    """Return a finding if no workflow of today's code has the history's type; else None."""
    if history.workflow_type in known:
        return None
    return Finding(
        "preflight",
        "workflow_type_unknown",
        f"No workflow class has the type {history.workflow_type!r}; known are {', '.join(sorted(known)) or 'none'}.",
        "running workflows of this type would stop at their next task, and fail it again and again",
        "Bring the class back under its recorded name; or name the right classes with --workflows MODULE[:ATTRIBUTE].",
        file=str(history.path),
        **identity(history),
    )


def open_runs_of_unknown_type(workflow_type: str, count: int, namespace: str) -> Finding:
    """Return the finding for open runs of a type that the code to be deployed does not have."""
    return Finding(
        "preflight",
        "open_runs_of_unknown_type",
        f"{count} open runs in namespace {namespace} have the type {workflow_type!r}, and no workflow class has it.",
        "each of them would be stuck after the deploy: its next task fails again and again",
        "Bring the class back under its recorded name, or wait until the runs have ended. Where other workers serve "
        "them, name the task queues of this one: --task-queue NAME.",
        workflow_type=workflow_type,
    )


# How many types on other queues a note names; it counts the rest.
_NAMED_ELSEWHERE = 20


def unknown_type_notes(
    queues: Sequence[str], elsewhere: Mapping[tuple[str, str], int], namespace: str, limit: int
) -> list[Finding]:
    """Return notes about the queues that were searched for open runs of unknown types, and about such runs elsewhere.

    ``elsewhere`` counts open runs of unknown types on other task queues, by type and queue; counting stopped at
    ``limit`` runs.
    """
    where = f"on the task queues {', '.join(queues)}" if queues else f"in the whole namespace {namespace}"
    notes = [
        Finding(
            "note",
            "queues_looked_at",
            f"Open runs of types that the code does not have were looked for {where}.",
            "those of a deleted type on another task queue would be stuck after the deploy, and are not red here",
            "Name every task queue of the application: --task-queue NAME, once for each.",
        )
    ]
    if elsewhere:
        most = sorted(elsewhere.items(), key=lambda each: (-each[1], each[0]))
        named = ", ".join(f"{name!r} on {queue} ({runs})" for (name, queue), runs in most[:_NAMED_ELSEWHERE])
        total = sum(elsewhere.values())
        count = f"{total} open runs or more" if total >= limit else f"{total} open runs"
        rest = f", and {len(most) - _NAMED_ELSEWHERE} more" if len(most) > _NAMED_ELSEWHERE else ""
        notes.append(
            Finding(
                "note",
                "open_runs_on_other_queues",
                f"Not checked: {count} in namespace {namespace} on other task queues have "
                f"types that the code does not have: {named}{rest}.",
                "where such a queue is this application's, its type was deleted or renamed: its runs would be stuck",
                "Check them as well: --task-queue NAME, once for each of the application's queues.",
            )
        )
    return notes


def _reset_of(events: Sequence[Mapping[str, Any]]) -> str:
    """Return the run id that the last reset in a history created; empty if there was none."""
    made = ""
    for event in events:
        about = attributes(event)
        if event_name(event) == "WorkflowTaskFailed" and about.get("newRunId"):
            made = str(about["newRunId"])
    return made


def _content(path: Path, limit_bytes: int) -> bytes:
    if is_directory(path):
        raise _Faulty("history_not_a_file", "It is a folder, not a file.", fix="Name a file, or the folder above it.")
    try:
        return read_regular(path, limit_bytes)
    except NotRegularFile as error:
        raise _Faulty(
            "history_not_a_file", "It is a pipe, a socket or a device, not a file.", fix="Name a file."
        ) from error
    except FileTooLarge as error:
        raise _Faulty(
            "history_too_large",
            f"It has {error.size_bytes} bytes, more than the {limit_bytes} that a run of 50 MiB can need.",
            fix="Check that it is one run's history; " + _EXPORT[0].lower() + _EXPORT[1:],
        ) from error
    except OSError as error:
        raise _Faulty(
            "history_unreadable",
            f"It cannot be read: {error.strerror or error}.",
            fix="Check that the file is there and that you may read it.",
        ) from error


def _document(content: bytes) -> Mapping[str, Any]:
    if not content.strip():
        raise _Faulty("history_empty_file", "The file is empty.")
    try:
        document = json.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise _Faulty("history_not_text", f"It is not UTF-8 text: byte {error.start} is not.") from error
    except RecursionError as error:
        raise _Faulty("history_not_json", "Its JSON is nested too deeply to be a history.") from error
    except ValueError as error:
        raise _Faulty("history_not_json", f"It is not JSON: {error}.") from error
    if not isinstance(document, dict):
        shape = {"list": "a bare list", "NoneType": "null"}.get(type(document).__name__, type(document).__name__)
        raise _Faulty("history_not_an_object", f"Its JSON is {shape}, not an object with the key 'events'.")
    return document


def _events(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    events = document.get("events")
    if not isinstance(events, list):
        raise _Faulty("history_without_events", "It has no list 'events'.")
    if not events:
        raise _Faulty("history_without_events", "Its list 'events' is empty.", _HANGS)
    for position, event in enumerate(events, start=1):
        if not isinstance(event, dict) or not isinstance(event.get("eventType"), str):
            raise _Faulty("event_malformed", f"Entry {position} of 'events' is not an event with an 'eventType'.")
    return events


def _id_of(event: Mapping[str, Any]) -> int | None:
    found = event.get("eventId")
    if isinstance(found, bool) or not isinstance(found, (str, int)):
        return None
    text = str(found)
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None


def _check_order(events: Sequence[Mapping[str, Any]]) -> None:
    numbers = [_id_of(event) for event in events]
    if numbers[0] != 1 and event_name(events[0]) != "WorkflowExecutionStarted":
        raise _Faulty(
            "history_head_missing",
            f"Its first event is {event_name(events[0])} with id {events[0].get('eventId')}; the head was cut off.",
            _HANGS,
        )
    for expected, (number, event) in enumerate(zip(numbers, events, strict=True), start=1):
        if number != expected:
            raise _Faulty(
                "event_id_gap",
                f"Where event {expected} should stand there is {event_name(event)} with id {event.get('eventId')!r}.",
                "events are missing, doubled or out of order, so that no replay of it means anything",
                event_id=number,
                event_type=event_name(event),
            )


def _check_head(events: Sequence[Mapping[str, Any]]) -> None:
    name = event_name(events[0])
    if name != "WorkflowExecutionStarted":
        raise _Faulty("history_head_missing", f"Its first event is {name}, not WorkflowExecutionStarted.", _HANGS)
    for event in events[1:]:
        if event_name(event) == "WorkflowExecutionStarted":
            raise _Faulty(
                "history_of_two_runs",
                f"Event {event['eventId']} is a second WorkflowExecutionStarted.",
                _HANGS,
                "Store each run in a file of its own. " + _EXPORT,
            )


def _check_tasks(events: Sequence[Mapping[str, Any]]) -> None:
    if not any(event_name(event) == "WorkflowTaskCompleted" for event in events):
        raise _Faulty(
            "history_without_task",
            "No workflow task of it was completed: there is nothing to compare code with.",
            _HANGS,
            "Leave it out, or export the run again after its first task.",
        )
    if 1 not in core_flags(events):
        raise _Faulty(
            "core_flag_missing",
            "None of its workflow tasks carries sdkMetadata.coreUsedFlags with 1.",
            "without it the SDK compares neither the types nor the ids of activities and children, so that a "
            "renamed activity passes",
            "Keep 'sdkMetadata' when a history is scrubbed; a run of an SDK without flags has to be recorded anew.",
        )


def _check_payloads(events: Sequence[Mapping[str, Any]]) -> None:
    for event in events:
        try:
            fault = next(_payload_faults(attributes(event)), None)
        except RecursionError:
            fault = "its attributes are nested too deeply"
        if fault is not None:
            raise _Faulty(
                "payload_not_base64",
                f"Event {event['eventId']} ({event_name(event)}) holds a payload that is not in Temporal's form: "
                f"{fault}.",
                "payloads were decoded when the history was exported (the UI's 'Decode' switch, a codec), or edited; "
                "the SDK cannot read them",
                "Export it with decoding switched off. " + _EXPORT,
                event_id=_id_of(event),
                event_type=event_name(event),
            )


def _payload_faults(value: Any) -> Iterator[str]:
    if isinstance(value, list):
        for entry in value:
            yield from _payload_faults(entry)
    elif isinstance(value, dict):
        if isinstance(value.get("metadata"), dict) and ("data" in value or "encoding" in value["metadata"]):
            yield from _payload_fault(value)
            return
        for name, entry in value.items():
            if name == "payloads":
                if not isinstance(entry, list):
                    yield "'payloads' is not a list"
                    continue
                for payload in entry:
                    yield from _payload_fault(payload)
            else:
                yield from _payload_faults(entry)


def _payload_fault(payload: Any) -> Iterator[str]:
    if not isinstance(payload, dict):
        yield f"it is {type(payload).__name__}, not an object with 'metadata' and 'data'"
        return
    metadata = payload.get("metadata")
    if not isinstance(metadata, dict) or not isinstance(metadata.get("encoding"), str):
        yield "it has no 'metadata' with an 'encoding'"
        return
    if not all(_is_base64(entry) for entry in metadata.values()):
        yield "its 'metadata' is not base64"
    elif "data" in payload and not _is_base64(payload["data"]):
        yield "its 'data' is not base64"


def _is_base64(value: Any) -> bool:
    if not isinstance(value, str):
        return False
    try:
        base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return False
    return True


def _history(path: Path, content: bytes, events: list[dict[str, Any]]) -> HistoryFile:
    started = attributes(events[0])
    workflow_type = started.get("workflowType")
    name = workflow_type.get("name") if isinstance(workflow_type, dict) else None
    if not isinstance(name, str) or not name:
        raise _Faulty("workflow_type_missing", "Its first event names no workflow type.")
    run_id = started.get("originalExecutionRunId")
    if not isinstance(run_id, str) or not run_id:
        raise _Faulty("run_id_missing", "Its first event has no originalExecutionRunId.")
    workflow_id = started.get("workflowId")
    return HistoryFile(
        path=path,
        workflow_type=name,
        # Servers before 1.22 did not write it.
        workflow_id=workflow_id if isinstance(workflow_id, str) and workflow_id else path.stem,
        # After a reset, this field still holds the first run's id; the run has a new one.
        run_id=_reset_of(events) or run_id,
        events=events,
        sha256=sha256_of(content),
    )


# A provenance file holds only a digest, versions and names.
_PROVENANCE_LIMIT_BYTES = 4 * 1024 * 1024

_RECORDED_ONCE = "a recorded history is evidence of what earlier code did; edited, it proves nothing"


def _provenance(history: HistoryFile, needed: bool) -> tuple[Provenance | None, list[Finding]]:
    path = provenance_path(history.path)
    try:
        provenance = Provenance.from_json(read_regular(path, _PROVENANCE_LIMIT_BYTES).decode("utf-8"))
    except FileNotFoundError:
        missing = Finding(
            "preflight",
            "provenance_missing",
            f"There is no {path.name} beside it.",
            "nobody can tell which code recorded it, or whether it was edited since",
            "Record it with `replay-gate record`, or check it with --no-provenance.",
        )
        return None, [missing] if needed else []
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        return None, [
            Finding(
                "preflight",
                "provenance_invalid",
                f"{path.name} cannot be used: {reason}.",
                "nobody can tell which code recorded the history",
                "Take both files back from version control, or record the scenario under a new name.",
            )
        ]
    wrong = [
        f"{name} is {kept!r} there and {found!r} in the history"
        for name, kept, found in (
            ("sha256", provenance.sha256, history.sha256),
            ("core_flags", sorted(provenance.core_flags), sorted(core_flags(history.events))),
            ("patch_ids", sorted(provenance.patch_ids), sorted(patch_ids(history.events))),
            ("exit", provenance.exit, exit_of(history.events)),
        )
        if kept != found
    ]
    if not wrong:
        return provenance, []
    return provenance, [
        Finding(
            "preflight",
            "provenance_mismatch",
            f"{path.name} does not belong to it: {'; '.join(wrong)}.",
            _RECORDED_ONCE,
            "Take both files back from version control; record new behaviour under a new scenario name.",
        )
    ]
