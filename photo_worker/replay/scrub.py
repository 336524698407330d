"""Scrubs histories: removes private content, and keeps what the replay and the drift comparison need.

Data that enters a workflow (its input, signals, activity results) is masked: every string becomes
another one of the same length and form, equal strings get equal masks. Data that the workflow derives from
it (activity inputs, results) is masked by the same table, so that both still match. Ids, types,
times, numbers, ``sdkMetadata`` and the fields of every payload stay; so do words of the project's own
vocabulary: error codes, hints, the fixed part of messages, engines, content types, statuses.

An unknown string is never assumed to be harmless: it is masked. If a workflow builds text from constants
of its own, ``keep`` names them; ``record`` replays both forms and refuses a history whose replay differs
after scrubbing.
"""

from __future__ import annotations

import base64
import binascii
import inspect
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from photo_worker import errors
from photo_worker.replay.histories import attributes, event_name
from photo_worker.replay.masks import MaskTable
from photo_worker.replay_errors import HistoryUnscrubbable

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

# Contract fields whose values are vocabulary, not content.
_VOCABULARY_FIELDS = frozenset(
    {"status", "engine", "ocr_engine", "ocr_version", "content_type", "expected_content_type", "code"}
)

_HARMLESS = re.compile(
    r"""
      [0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}                       # UUID
    | [0-9a-f]{64}                                                    # SHA-256
    | artifacts/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/[a-z]+\.json  # what a job writes
    | raw/[0-9a-f]{64}(\.[a-z0-9]{1,8})?                              # an upload, named by its bytes
    | (application|image|text)/[a-z0-9.+-]{1,40}                      # a content type
    """,
    re.VERBOSE,
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
    history: Mapping[str, Any], *, task_queues: Mapping[str, str] | None = None, keep: Iterable[str] = ()
) -> Json:
    """Return a scrubbed copy of a history in Temporal's JSON form.

    ``task_queues`` maps queues that were created for the recording to their new names. ``keep`` are strings that are
    not masked: constants of the workflow. Raises ``HistoryUnscrubbable`` for a payload that cannot be read.
    """
    return _Scrubber(task_queues or {}, keep).history(history)


class _Scrubber:
    def __init__(self, task_queues: Mapping[str, str], keep: Iterable[str]) -> None:
        self._queues = task_queues
        self._keep = {*keep, *_vocabulary()}
        self._types = _types()
        self._templates = [_template(kind) for kind in _tree(errors.PhotoWorkerError) if _telling(kind)]
        # Its message names fields and their faults; the converter leaves out the values.
        self._fieldwise = _template(errors.InvalidContract)
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
        if failure["message"] in self._keep or kind in self._types:
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
        if isinstance(value, str) and name not in _VOCABULARY_FIELDS:
            return self._string(value)
        return value

    def _string(self, value: str) -> str:
        if not value or value in self._keep or _HARMLESS.fullmatch(value):
            return value
        if self._fieldwise.fullmatch(value):
            return value
        for template in self._templates:
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


def _types() -> frozenset[str]:
    """Return the types of the project's own errors in a failure: the code, and the class name in its cause."""
    return frozenset(name for kind in _tree(errors.PhotoWorkerError) for name in (kind.code, kind.__name__))


def _vocabulary() -> Iterator[str]:
    for kind in _tree(errors.PhotoWorkerError):
        yield kind.code
        yield kind.hint
    yield from ("image_processing_workflow", "verify_and_locate_asset", "ocr_textract")
    yield from ("persist_artifacts", "record_failure", "workflow")
    # The server and the SDK write the reasons of timeouts and cancellations.
    yield from ("activity StartToClose timeout", "activity Heartbeat timeout", "Workflow cancelled", "Cancelled")


def _fixed_parts(kind: type[errors.PhotoWorkerError]) -> list[str]:
    return re.split(r"\{[^}]*\}", inspect.cleandoc(kind.__doc__ or "").replace("\n", " "))


def _telling(kind: type[errors.PhotoWorkerError]) -> bool:
    """Tell whether a message has enough fixed text; a template of fields alone would match any text."""
    return sum(map(len, _fixed_parts(kind))) >= 12


def _template(kind: type[errors.PhotoWorkerError]) -> re.Pattern[str]:
    """Return a pattern for an error's message, with a group for each field of its template."""
    return re.compile("(.*?)".join(map(re.escape, _fixed_parts(kind))), re.DOTALL)


def _tree(kind: type[errors.PhotoWorkerError]) -> Iterator[type[errors.PhotoWorkerError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from _tree(child)


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
