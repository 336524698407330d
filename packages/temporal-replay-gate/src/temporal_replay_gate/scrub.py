"""Scrubs histories: removes private content, and keeps what the replay and the drift comparison need.

Data that enters a workflow (its input, signals, activity results) is masked: every string becomes
another one of the same length and form, equal strings get equal masks. Data that the workflow derives from
it (activity inputs, results) is masked by the same table, so that both still match. Ids, types,
times, numbers, ``sdkMetadata`` and the fields of every payload stay; so do words of the project's own
vocabulary, such as error codes, the fixed part of messages, and statuses.

An unknown string is never assumed to be harmless: it is masked. If a workflow builds text from constants
of its own, ``keep`` names them; ``record`` replays both forms and refuses a history whose replay differs
after scrubbing.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from temporal_replay_gate.errors import HistoryUnscrubbable
from temporal_replay_gate.histories import attributes, event_name
from temporal_replay_gate.masks import MaskTable
from temporal_replay_gate.vocabulary import Vocabulary

Json = dict[str, Any]

SCRUBBED = "scrubbed"

# Events with data that the workflow itself derived from data that had entered before.
_ISSUED = frozenset(
    {
        "ActivityTaskScheduled",
        "StartChildWorkflowExecutionInitiated",
        "SignalExternalWorkflowExecutionInitiated",
        "RequestCancelExternalWorkflowExecutionInitiated",
        "TimerStarted",
        "UpsertWorkflowSearchAttributes",
        "WorkflowPropertiesModified",
        "WorkflowExecutionCompleted",
        "WorkflowExecutionFailed",
        "WorkflowExecutionContinuedAsNew",
        "WorkflowExecutionUpdateCompleted",
    }
)

_FIELD_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")
_READABLE = frozenset({"json/plain", "json/protobuf"})
_EMPTY = frozenset({"binary/null"})

# Failures whose message a program or a user wrote; the server writes those of all other kinds.
_PEOPLES_FAILURES = frozenset({"applicationFailureInfo", "canceledFailureInfo", "terminatedFailureInfo"})

# Attributes outside of payloads with text that users or machines filled in.
_FREE_TEXT = frozenset({"reason", "binaryChecksum"})

# Markers of the SDK's core, with the details that the core reads in a replay; other SDKs store content in such details.
_CORE_MARKERS = {"core_patch": "patch-data", "core_local_activity": "data"}


def scrub(
    history: Mapping[str, Any],
    *,
    task_queues: Mapping[str, str] | None = None,
    keep: Iterable[str] = (),
    vocabulary: Vocabulary | None = None,
) -> Json:
    """Return a scrubbed copy of a history in Temporal's JSON form.

    ``task_queues`` maps queues that were created for the recording to their new names. ``keep`` are strings that are
    not masked: constants of the workflow. ``vocabulary`` has the words of the project. Raises ``HistoryUnscrubbable``
    for a payload that cannot be read.
    """
    return _Scrubber(task_queues or {}, keep, vocabulary or Vocabulary()).history(history)


class _Scrubber:
    def __init__(self, task_queues: Mapping[str, str], keep: Iterable[str], vocabulary: Vocabulary) -> None:
        self._queues = task_queues
        self._keep = {*keep, *vocabulary.words}
        self._vocabulary = vocabulary
        self._masks = MaskTable()
        self._issued = False
        self._bookkeeping: str | None = None

    def history(self, history: Mapping[str, Any]) -> Json:
        events = []
        for event in history["events"]:
            self._issued = event_name(event) in _ISSUED
            self._bookkeeping = _CORE_MARKERS.get(str(attributes(event).get("markerName")))
            events.append(self._walk(event, ""))
        return {**{name: value for name, value in history.items() if name != "events"}, "events": events}

    def _walk(self, value: Any, name: str) -> Any:
        if isinstance(value, list):
            return [self._walk(item, name) for item in value]
        if not isinstance(value, dict):
            return self._text(value, name) if isinstance(value, str) else value
        if isinstance(value.get("metadata"), dict) and "encoding" in value["metadata"]:
            return self._payload(value)
        if name in {"taskQueue", "stickyTaskQueue"} and "name" in value:
            return self._queue(value)
        if isinstance(value.get("message"), str) and not _PEOPLES_FAILURES.isdisjoint(value):
            value = {**value, "message": self._message(value)}
        return {
            key: item if name == "details" and key == self._bookkeeping else self._walk(item, key)
            for key, item in value.items()
            if key not in {"completionCallbacks", "links"}
        }

    def _text(self, value: str, name: str) -> str:
        if name == "identity":
            return SCRUBBED
        if name.endswith("amespace"):
            return "default"
        if name == "stackTrace":
            return ""
        if name in _FREE_TEXT:
            return self._string(value)
        return value

    def _queue(self, queue: Mapping[str, Any]) -> Json:
        sticky = str(queue.get("kind", "")).upper().endswith("STICKY")
        renamed = {**queue, "name": "sticky" if sticky else self._queues.get(queue["name"], queue["name"])}
        if normal := queue.get("normalName"):
            renamed["normalName"] = self._queues.get(normal, normal)
        return renamed

    def _message(self, failure: Mapping[str, Any]) -> str:
        kind = failure.get("applicationFailureInfo", {}).get("type")
        if failure["message"] in self._keep or kind in self._vocabulary.failure_types:
            return self._string(failure["message"])
        return self._masked(failure["message"])

    def _payload(self, payload: Mapping[str, Any]) -> Json:
        encoding = _decode(payload["metadata"]["encoding"]).decode("utf-8", "replace")
        if encoding in _EMPTY or not payload.get("data"):
            return dict(payload)
        content = _decode(payload["data"])
        if encoding == "binary/plain":
            return {**payload, "data": _encode(bytes(len(content)))}
        if encoding not in _READABLE:
            raise HistoryUnscrubbable(reason=f"a payload is encoded as {encoding!r}, which cannot be looked into")
        try:
            value = json.loads(content)
        except ValueError as error:
            raise HistoryUnscrubbable(reason=f"a payload says {encoding} and is no JSON ({error})") from error
        return {**payload, "data": _encode(_dump(self._content(value, ""), like=content))}

    def _content(self, value: Any, name: str) -> Any:
        if isinstance(value, dict):
            return {
                key if _FIELD_NAME.fullmatch(key) else self._string(key): self._content(item, key)
                for key, item in value.items()
            }
        if isinstance(value, list):
            return [self._content(item, name) for item in value]
        if isinstance(value, str) and name not in self._vocabulary.fields:
            return self._string(value)
        return value

    def _string(self, value: str) -> str:
        if not value or value in self._keep or self._vocabulary.keeps(value):
            return value
        for template in self._vocabulary.messages:
            if found := template.fullmatch(value):
                return _rebuild(value, found, self._part)
        return self._masked(value)

    def _part(self, value: str) -> str:
        """Mask a value that was filled into a message's template; numbers and names of steps stay."""
        if re.fullmatch(r"[\d.,]+", value) or value in self._keep:
            return value
        quoted = re.fullmatch(r"(['\"])(.*)\1", value)
        if quoted:
            return quoted[1] + self._string(quoted[2]) + quoted[1]
        return self._string(value)

    def _masked(self, value: str) -> str:
        if self._issued:
            derived = self._masks.substitute(value)
            if derived is not None:
                return derived
        return self._masks.mask(value)


def _rebuild(value: str, found: re.Match[str], change: Callable[[str], str]) -> str:
    pieces, end = [], 0
    for number in range(1, len(found.groups()) + 1):
        start, stop = found.span(number)
        pieces += [value[end:start], change(value[start:stop])]
        end = stop
    return "".join([*pieces, value[end:]])


def _dump(value: Any, *, like: bytes) -> bytes:
    """Return JSON with the separators of the recorded text ``like``."""
    separators = (",", ":") if b'": ' not in like else (", ", ": ")
    return json.dumps(value, ensure_ascii=False, separators=separators).encode()


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError, TypeError) as error:
        raise HistoryUnscrubbable(reason=f"a payload is not base64 ({error}); was it exported decoded?") from error


def _encode(content: bytes) -> str:
    return base64.b64encode(content).decode()
