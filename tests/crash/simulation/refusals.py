"""The commands of a workflow that the simulation knows, by their fields; everything else is refused by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from google.protobuf.message import Message
from temporalio.api.enums.v1 import WorkflowIdReusePolicy
from temporalio.bridge.proto.workflow_commands.workflow_commands_pb2 import WorkflowCommand


class Unknown(NotImplementedError):
    """The simulation does not know a command, or a field of one, and would behave otherwise than Temporal."""


_ACTIVITY = ("seq", "activity_id", "activity_type", "arguments", "schedule_to_close_timeout", "start_to_close_timeout")

KNOWN: Mapping[str, tuple[str, ...]] = {
    "schedule_activity": (
        *_ACTIVITY,
        "task_queue",
        "heartbeat_timeout",
        "retry_policy",
        "cancellation_type",
        "do_not_eagerly_execute",
    ),
    "request_cancel_activity": ("seq",),
    "start_timer": ("seq", "start_to_fire_timeout"),
    "cancel_timer": ("seq",),
    "set_patch_marker": ("patch_id", "deprecated"),
    "complete_workflow_execution": ("result",),
    "fail_workflow_execution": ("failure",),
    "cancel_workflow_execution": (),
    "signal_external_workflow_execution": ("seq", "workflow_execution", "child_workflow_id", "signal_name", "args"),
    "cancel_signal_workflow": ("seq",),
    "request_cancel_external_workflow_execution": ("seq", "workflow_execution", "reason"),
    "start_child_workflow_execution": (
        "seq",
        "namespace",
        "workflow_id",
        "workflow_type",
        "task_queue",
        "input",
        "parent_close_policy",
        "workflow_id_reuse_policy",
        "cancellation_type",
    ),
    "cancel_child_workflow_execution": ("child_workflow_seq", "reason"),
    "continue_as_new_workflow_execution": ("workflow_type", "task_queue", "arguments"),
    "update_response": ("protocol_instance_id", "accepted", "rejected", "completed"),
    "schedule_local_activity": (
        *_ACTIVITY,
        "attempt",
        "original_schedule_time",
        "retry_policy",
        "local_retry_threshold",
        "cancellation_type",
    ),
    "request_cancel_local_activity": ("seq",),
    "respond_to_query": ("query_id", "succeeded", "failed"),
}
"""The known fields of each known command."""


_REUSE = frozenset(
    {
        WorkflowIdReusePolicy.WORKFLOW_ID_REUSE_POLICY_UNSPECIFIED,
        WorkflowIdReusePolicy.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE,
    }
)


def check(commands: Sequence[WorkflowCommand], task_queue: str, namespace: str) -> None:
    """Raise ``Unknown`` for the first command or field that the simulation does not know."""
    for command in commands:
        variant = command.WhichOneof("variant") or "(none)"
        if variant not in KNOWN:
            raise Unknown(f"the simulation does not know the command {variant}")
        for field, _ in command.ListFields():
            # Summaries and groups are shown to people alone.
            if field.name not in {variant, "user_metadata", "event_group_markers"}:
                raise Unknown(f"the simulation does not know {field.name} of the command {variant}")
        about: Message = getattr(command, variant)
        for field, value in about.ListFields():
            if field.name not in KNOWN[variant] and not _default(field.name, value):
                raise Unknown(f"the simulation does not know {field.name} of the command {variant}")
        _same_place(variant, about, task_queue, namespace)
        _default_reuse(variant, about)


def _default(field: str, value: Any) -> bool:
    """Return whether a field that the SDK always sets has the value that changes nothing."""
    return field == "priority" and not value.ListFields()


def _same_place(variant: str, about: Any, task_queue: str, namespace: str) -> None:
    """Refuse other task queues and namespaces: every worker of the simulation runs everything."""
    for field, here in (("task_queue", task_queue), ("namespace", namespace)):
        there = getattr(about, field, here) or here
        if there != here:
            raise Unknown(f"the simulation does not know another {field} ({there}) of the command {variant}")
    target = getattr(about, "workflow_execution", None)
    if target is not None and target.namespace not in {"", namespace}:
        raise Unknown(f"the simulation does not know another namespace ({target.namespace}) of the command {variant}")


def _default_reuse(variant: str, about: Any) -> None:
    """Refuse every policy for used workflow ids but the default, by which a closed workflow's id may be used again."""
    policy = getattr(about, "workflow_id_reuse_policy", WorkflowIdReusePolicy.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE)
    if policy not in _REUSE:
        name = WorkflowIdReusePolicy.Name(policy)
        raise Unknown(f"the simulation does not know the workflow_id_reuse_policy {name} of the command {variant}")
