"""What the simulation does not know, it refuses by name: each command, and each field of a command."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from temporalio import activity, workflow
from temporalio.bridge.proto.workflow_commands.workflow_commands_pb2 import WorkflowCommand
from temporalio.common import (
    Priority,
    RetryPolicy,
    SearchAttributeKey,
    SearchAttributePair,
    TypedSearchAttributes,
    WorkflowIDReusePolicy,
)

from tests.crash.simulation.client import payloads
from tests.crash.simulation.gate import current
from tests.crash.simulation.refusals import KNOWN, Unknown, check
from tests.crash.simulation.worker import Hosted
from tests.crash.simulation.world import World

_LIMIT = timedelta(seconds=5)
_ATTRIBUTES = TypedSearchAttributes([SearchAttributePair(SearchAttributeKey.for_keyword("Kind"), "photo")])

# What a workflow asks for, and the name by which it is refused.
REQUESTS: dict[str, tuple[str, Callable[[], Awaitable[object]]]] = {
    "child cron schedule": ("cron_schedule", lambda: _child(cron_schedule="0 0 * * *")),
    "child memo": ("memo", lambda: _child(memo={"kind": "photo"})),
    "child search attributes": ("search_attributes", lambda: _child(search_attributes=_ATTRIBUTES)),
    "child retry policy": ("retry_policy", lambda: _child(retry_policy=RetryPolicy(maximum_attempts=2))),
    "child execution timeout": ("workflow_execution_timeout", lambda: _child(execution_timeout=_LIMIT)),
    "child run timeout": ("workflow_run_timeout", lambda: _child(run_timeout=_LIMIT)),
    "child task timeout": ("workflow_task_timeout", lambda: _child(task_timeout=_LIMIT)),
    "child reuse policy": (
        "workflow_id_reuse_policy WORKFLOW_ID_REUSE_POLICY_REJECT_DUPLICATE",
        lambda: _child(id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE),
    ),
    "child task queue": ("another task_queue (elsewhere)", lambda: _child(task_queue="elsewhere")),
    "child priority": ("priority", lambda: _child(priority=Priority(priority_key=1))),
    "unknown child": ("workflows of the type Unknown", lambda: workflow.start_child_workflow("Unknown", id="unknown")),
    "activity queue timeout": (
        "schedule_to_start_timeout",
        lambda: workflow.execute_activity("slow", schedule_to_start_timeout=_LIMIT, start_to_close_timeout=_LIMIT),
    ),
    "local activity queue timeout": (
        "schedule_to_start_timeout",
        lambda: workflow.execute_local_activity(
            "slow", schedule_to_start_timeout=_LIMIT, start_to_close_timeout=_LIMIT
        ),
    ),
    "local activity that takes too long": (
        "exceeds its start_to_close_timeout",
        lambda: workflow.execute_local_activity("slow", start_to_close_timeout=_LIMIT),
    ),
    "workflow memo": ("modify_workflow_properties", lambda: _at_once(lambda: workflow.upsert_memo({"kind": "photo"}))),
    "workflow search attributes": (
        "upsert_workflow_search_attributes",
        lambda: _at_once(
            lambda: workflow.upsert_search_attributes([SearchAttributeKey.for_keyword("Kind").value_set("photo")])
        ),
    ),
    "continue with memo": ("memo", lambda: _at_once(lambda: workflow.continue_as_new("", memo={"kind": "photo"}))),
    "continue with timeout": (
        "workflow_run_timeout",
        lambda: _at_once(lambda: workflow.continue_as_new("", run_timeout=_LIMIT)),
    ),
    "signal to itself": (
        "a workflow that signals itself",
        lambda: workflow.get_external_workflow_handle("asker").signal("hear"),
    ),
}


async def _child(**options: Any) -> None:
    await workflow.start_child_workflow("Asker", "", id="child", **options)


async def _at_once(ask: Callable[[], object]) -> None:
    ask()
    await workflow.sleep(1)


@workflow.defn
class Asker:
    """Asks for one thing."""

    @workflow.run
    async def run(self, request: str) -> None:
        """Ask for it."""
        if request:
            await REQUESTS[request][1]()


@pytest.mark.parametrize("request_name", REQUESTS)
def test_workflow_asking_for_unknown_is_refused_by_name(request_name: str) -> None:
    world = World()

    @activity.defn(name="slow")
    def slow() -> None:
        world.gate.until(current(), world.now + 2 * _LIMIT)

    world.host(Hosted([Asker], [slow]))
    world.service.start("asker", "Asker", payloads([request_name]))
    try:
        with pytest.raises(NotImplementedError, match=re.escape(REQUESTS[request_name][0])):
            world.run()
    finally:
        world.close()


_DISPLAYED = {"user_metadata", "event_group_markers"}


def variants() -> list[str]:
    return [field.name for field in WorkflowCommand.DESCRIPTOR.oneofs_by_name["variant"].fields]


def fields_of(variant: str) -> Iterator[Any]:
    about: Message = getattr(WorkflowCommand(), variant)
    yield from about.DESCRIPTOR.fields


def filled(variant: str, field: FieldDescriptor) -> WorkflowCommand:
    """Return a command with one field that is not at its default."""
    command = WorkflowCommand()
    about: Message = getattr(command, variant)
    about.SetInParent()
    _fill(about, field)
    return command


def _fill(about: Message, field: FieldDescriptor) -> None:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        key, value = field.message_type.fields
        assert key.type == FieldDescriptor.TYPE_STRING
        if value.message_type is not None:
            getattr(about, field.name)["key"].SetInParent()
        else:
            getattr(about, field.name)["key"] = "value"
    elif field.is_repeated:
        getattr(about, field.name).add()
    elif field.message_type is not None:
        inner = getattr(about, field.name)
        inner.SetInParent()
        if inner.DESCRIPTOR.fields:
            _fill(inner, inner.DESCRIPTOR.fields[0])
    elif field.enum_type is not None:
        setattr(about, field.name, field.enum_type.values[-1].number)
    else:
        setattr(about, field.name, "other" if field.type == FieldDescriptor.TYPE_STRING else 1)


def test_known_commands_are_commands_of_sdk() -> None:
    """A field that the SDK has renamed must not stay in the table."""
    assert set(KNOWN) <= set(variants())
    for variant, known in KNOWN.items():
        assert set(known) <= {field.name for field in fields_of(variant)}, variant


@pytest.mark.parametrize("variant", variants())
def test_check_unknown_command_or_field_is_refused_by_name(variant: str) -> None:
    if variant not in KNOWN:
        command = WorkflowCommand()
        getattr(command, variant).SetInParent()
        with pytest.raises(Unknown, match=f"the command {variant}"):
            check([command], "queue", "here")
        return
    for field in fields_of(variant):
        if field.name not in KNOWN[variant]:
            with pytest.raises(Unknown, match=f"{field.name} of the command {variant}"):
                check([filled(variant, field)], "queue", "here")


@pytest.mark.parametrize("field", ["task_queue"])
def test_check_other_task_queue_is_refused(field: str) -> None:
    command = WorkflowCommand()
    setattr(command.schedule_activity, field, "elsewhere")
    with pytest.raises(Unknown, match=f"another {field} \\(elsewhere\\)"):
        check([command], "queue", "here")


def test_check_other_namespace_is_refused() -> None:
    command = WorkflowCommand()
    command.signal_external_workflow_execution.workflow_execution.namespace = "there"
    with pytest.raises(Unknown, match=r"another namespace \(there\)"):
        check([command], "queue", "here")


def test_check_command_field_beside_variant_is_refused() -> None:
    beside = [field.name for field in WorkflowCommand.DESCRIPTOR.fields if field.containing_oneof is None]
    assert set(beside) == _DISPLAYED
