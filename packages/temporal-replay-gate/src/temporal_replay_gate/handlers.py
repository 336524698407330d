"""Handlers that today's code lacks: of signals and updates that a history recorded.

The SDK keeps a signal without a handler for one that the code may set later, so a replay passes without a word. It
rejects an update without a handler, and then complains about the next recorded command.
"""

from __future__ import annotations

import inspect
from collections import defaultdict
from collections.abc import Collection, Sequence

from temporalio.api.history.v1 import HistoryEvent

from temporal_replay_gate.allow import as_toml
from temporal_replay_gate.findings import Finding
from temporal_replay_gate.static import check_workflows

# Names that the SDK keeps for itself.
_OWN = "__temporal"


def unhandled_signals(
    events: Sequence[HistoryEvent], buffered: Collection[str], workflow_type: str, cls: type | None
) -> list[Finding]:
    """Return a finding for each name of a recorded signal that the replay left ``buffered``.

    A name for which the code of ``cls`` may set a handler while it runs is left out: the run may have ended before.
    """
    recorded: dict[str, list[HistoryEvent]] = defaultdict(list)
    for event in events:
        if event.HasField("workflow_execution_signaled_event_attributes"):
            name = event.workflow_execution_signaled_event_attributes.signal_name
            if name in buffered and not name.startswith(_OWN):
                recorded[name].append(event)
    later = _set_later(cls) if recorded and cls is not None else frozenset()
    if None in later:
        return []
    return [
        _unhandled(name, having, workflow_type, cls) for name, having in sorted(recorded.items()) if name not in later
    ]


def _set_later(cls: type) -> frozenset[str | None]:
    try:
        return check_workflows([cls]).signal_handlers
    except (OSError, SyntaxError, ValueError):
        # Without readable source, only the replay tells.
        return frozenset()


def _unhandled(name: str, having: Sequence[HistoryEvent], workflow_type: str, cls: type | None) -> Finding:
    where = f"signal_handler:{name}"
    times = f" ({len(having)} times)" if len(having) > 1 else ""
    entry = as_toml("drift", workflow=workflow_type, where=where, what="presence", was="true", now="false")
    return Finding(
        "drift",
        "drift_signal_unhandled",
        f"The history has signal {name!r}{times}, and the workflow has no handler for it.",
        "the SDK keeps such a signal for a handler that never comes, and running workflows lose what it tells them",
        "Bring the handler back under its recorded name. If the workflow may ignore the signal, add to the allow list, "
        f"with your reason:\n\n{entry}",
        workflow_type=workflow_type,
        event_id=having[0].event_id,
        event_type="WorkflowExecutionSignaled",
        source=_source_of(cls),
        recorded=True,
        issued=False,
        where=f"{where} presence",
        was="true",
        now="false",
    )


def missing_update_handlers(
    events: Sequence[HistoryEvent], rejected: Collection[str], workflow_type: str, cls: type | None
) -> list[Finding]:
    """Return a finding for each name of an accepted update that the replay ``rejected`` for lack of a handler."""
    first: dict[str, HistoryEvent] = {}
    admitted: dict[str, str] = {}
    for event in events:
        if event.HasField("workflow_execution_update_admitted_event_attributes"):
            request = event.workflow_execution_update_admitted_event_attributes.request
            admitted[request.meta.update_id] = request.input.name
        elif event.HasField("workflow_execution_update_accepted_event_attributes"):
            about = event.workflow_execution_update_accepted_event_attributes
            first.setdefault(about.accepted_request.input.name or admitted.get(about.protocol_instance_id, ""), event)
    return [
        Finding(
            "replay",
            "update_handler_missing",
            f"The history has update {name!r}, which was accepted, and the workflow has no handler for it.",
            "every running workflow that has accepted such an update would fail its next workflow task, and be stuck "
            "until the handler is back",
            "Bring the handler back under its recorded name, and delete it when no run with such an update is left; "
            "workflow.patched does not help here.",
            workflow_type=workflow_type,
            event_id=event.event_id,
            event_type="WorkflowExecutionUpdateAccepted",
            source=_source_of(cls),
        )
        for name, event in first.items()
        if name in rejected
    ]


def _source_of(cls: type | None) -> str | None:
    try:
        return f"{inspect.getsourcefile(cls)}:{inspect.getsourcelines(cls)[1]}" if cls is not None else None
    except (OSError, TypeError):
        return None
