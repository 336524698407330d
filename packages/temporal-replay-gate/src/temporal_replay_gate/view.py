"""Views of recorded histories for users: one as a list of events, many as a table."""

from __future__ import annotations

import base64
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from temporal_replay_gate.coverage import Coverage, measure
from temporal_replay_gate.histories import HistoryFile, attributes, event_name

_SHOWN = 100

# Attributes that are the same in every event, or tell nothing about what happened.
_DULL = {"workflowTaskCompletedEventId", "identity", "requestId", "historySizeBytes", "sdkMetadata", "meteringMetadata"}
_DULL |= {"workerVersion", "header", "priority", "useWorkflowBuildId", "inheritBuildId", "namespaceId", "stackTrace"}


def event_rows(history: HistoryFile) -> list[dict[str, Any]]:
    """Return each event's id, type, seconds since the start, and details; JSON payloads are decoded."""
    began = _time(history.events[0])
    rows = []
    for event in history.events:
        at = _time(event)
        rows.append(
            {
                "id": int(event["eventId"]),
                "type": event_name(event),
                "seconds": round((at - began).total_seconds(), 3) if at and began else None,
                "details": {name: _plain(value) for name, value in attributes(event).items() if name not in _DULL},
            }
        )
    return rows


def event_line(row: Mapping[str, Any]) -> str:
    """Return an event's details in one line."""
    parts = []
    for name, value in row["details"].items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        parts.append(f"{name}={text if len(text) <= _SHOWN else text[:_SHOWN] + '…'}")
    return " ".join(parts)


def _time(event: Mapping[str, Any]) -> datetime | None:
    try:
        return datetime.fromisoformat(str(event.get("eventTime")))
    except ValueError:
        return None


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(entry) for entry in value]
    if not isinstance(value, dict):
        return value
    if isinstance(value.get("metadata"), dict) and "encoding" in value["metadata"]:
        return _payload(value)
    if value.keys() == {"payloads"}:
        return _plain(value["payloads"])
    if value.keys() == {"name"}:
        return value["name"]
    return {name: _plain(entry) for name, entry in value.items() if name not in _DULL}


def _payload(payload: Mapping[str, Any]) -> Any:
    encoding = base64.b64decode(payload["metadata"]["encoding"]).decode("ascii", "replace")
    data = base64.b64decode(payload.get("data", ""))
    if encoding.startswith("json/"):
        try:
            return json.loads(data)
        except ValueError:
            pass
    return None if encoding == "binary/null" else f"<{encoding}, {len(data)} bytes>"


def list_row(history: HistoryFile) -> dict[str, Any]:
    """Return the row of `replay list` for one history."""
    kept = history.provenance
    return {
        "file": str(history.path),
        "workflow_type": history.workflow_type,
        "exit": history.exit,
        "events": len(history.events),
        "patch_ids": list(history.patch_ids),
        "app_version": kept.app_version if kept else None,
        "sdk_version": kept.sdk_version if kept else None,
        "recorded_at": kept.recorded_at if kept else None,
        "scrubbed": kept.scrubbed if kept else None,
    }


def recorded_coverage(histories: Sequence[HistoryFile]) -> list[Coverage]:
    """Return the coverage as far as it follows from files: a patch counts as not taken if its marker is missing."""
    known: dict[str, set[str]] = defaultdict(set)
    for history in histories:
        known[history.workflow_type].update(history.patch_ids)
    asked = {
        str(history.path): [(patch, patch in history.patch_ids) for patch in known[history.workflow_type]]
        for history in histories
    }
    return measure(histories, asked, {})
