"""Traces workflow code while it replays: each command with the line that issued it, and each patch it asks for.

An interceptor sees activities and child workflows, but neither timers nor the end of a run. The workflow
runner sees the completion of each workflow task, before any codec has changed it, so no command is
missed. Workflow code runs in the same sandbox as in production.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import dataclasses
import os
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import temporalio
from temporalio.api.common.v1 import Payload
from temporalio.bridge.proto.workflow_activation import WorkflowActivation
from temporalio.bridge.proto.workflow_commands import WorkflowCommand
from temporalio.bridge.proto.workflow_completion import WorkflowActivationCompletion
from temporalio.worker import WorkflowInstance, WorkflowInstanceDetails, WorkflowRunner
from temporalio.worker._workflow_instance import _WorkflowInstanceImpl
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

from temporal_replay_gate.additive import Shapes
from temporal_replay_gate.payloads import payload_value

_COMMAND = "replay_gate_command"
_PATCH = "replay_gate_patch"
_VALUES = "replay_gate_values"
_WITHOUT_HANDLER = "replay_gate_without_handler"

# Frames of these packages are not the workflow's own code.
_LIBRARIES = (temporalio, asyncio, concurrent.futures)
_MACHINERY = (threading.__file__, *(f"{Path(str(module.__file__)).parent}{os.sep}" for module in _LIBRARIES))


@dataclass
class IssuedCommand:
    """One command of today's code; ``reached`` is the id of the newest event that was known when it was issued.

    All commands of one workflow task have the same ``reached``. ``source`` is ``FILE:LINE``, None if unknown.
    """

    command: WorkflowCommand
    reached: int
    source: str | None


@dataclass
class Trace:
    """What one run of a workflow did during its replay. ``patches`` holds (patch id, new branch taken).

    ``buffered_signals`` are the names of the signals that wait for a handler at the end of the replay,
    ``rejected_updates`` those of the updates that had none.
    """

    commands: list[IssuedCommand] = field(default_factory=list)
    patches: set[tuple[str, bool]] = field(default_factory=set)
    failure: Any = None
    task_queue: str = ""
    namespace: str = ""
    shapes: Shapes = field(default_factory=Shapes)
    buffered_signals: frozenset[str] = frozenset()
    rejected_updates: set[str] = field(default_factory=set)


def is_machinery(filename: str) -> bool:
    """Tell whether a file is Temporal's, asyncio's or the gate's rather than the workflow's."""
    own = filename.endswith(".py") and os.sep in filename and filename != __file__
    return not own or filename.startswith(_MACHINERY)


def user_source(frame: FrameType | None) -> str | None:
    """Return ``FILE:LINE`` of the innermost frame that is neither Temporal's, asyncio's nor the gate's."""
    while frame is not None:
        if not is_machinery(frame.f_code.co_filename):
            return f"{frame.f_code.co_filename}:{frame.f_lineno}"
        frame = frame.f_back
    return None


class _TracingInstance(_WorkflowInstanceImpl):
    # The SDK's class is abstract only by declaration. Every command begins in _add_command, while the
    # workflow's frames are still on the stack. These methods and attributes are private to the SDK; tests check that it
    # has them.
    def __init__(self, details: WorkflowInstanceDetails) -> None:
        self._on_command: Callable[[str | None], None] = details.extern_functions[_COMMAND]
        self._on_patch: Callable[[str, bool], None] = details.extern_functions[_PATCH]
        self._on_values: Callable[[Sequence[Any], Sequence[Payload]], None] = details.extern_functions[_VALUES]
        self._on_lack: Callable[[list[str], list[str]], None] = details.extern_functions[_WITHOUT_HANDLER]
        super().__init__(details)

    def activate(self, act: WorkflowActivation) -> WorkflowActivationCompletion:
        completion = super().activate(act)
        responses = (each.update_response for each in completion.successful.commands)
        rejected = {each.protocol_instance_id for each in responses if each.HasField("rejected")}
        asked = [job.do_update for job in act.jobs if job.HasField("do_update")]
        self._on_lack(
            [*self._buffered_signals],
            [
                update.name
                for update in asked
                if update.protocol_instance_id in rejected and self._updates.keys().isdisjoint({update.name, None})
            ],
        )
        return completion

    def _add_command(self) -> WorkflowCommand:
        command = super()._add_command()
        self._on_command(user_source(sys._getframe(1)))
        return command

    def workflow_patch(self, id: str, *, deprecated: bool, **options: Any) -> bool:
        taken = super().workflow_patch(id, deprecated=deprecated, **options)
        if not deprecated:
            self._on_patch(id, taken)
        return taken

    def _payload_converter_with_context(self, context: Any) -> Any:
        converter = super()._payload_converter_with_context(context)
        if getattr(converter, _VALUES, False):
            return converter
        write = converter.to_payloads

        def listening(values: Sequence[Any]) -> list[Payload]:
            payloads = write(values)
            self._on_values(values, payloads)
            return payloads

        # Works for converters of every class; to_payload calls to_payloads.
        object.__setattr__(converter, "to_payloads", listening)
        object.__setattr__(converter, _VALUES, True)
        return converter


class _TracingInnerRunner(WorkflowRunner):
    def prepare_workflow(self, defn: Any) -> None:
        """Do nothing: the sandbox around this has validated the workflow."""

    def create_instance(self, det: WorkflowInstanceDetails) -> WorkflowInstance:
        """Return the SDK's workflow instance, extended by the tracing."""
        return _TracingInstance(det)  # type: ignore[abstract]


@dataclass(frozen=True)
class TracingRunner(SandboxedWorkflowRunner):
    """Production's sandboxed runner that also records what workflows do, in ``traces`` by run id."""

    # The same restrictions as in production, plus passthrough for the gate's own modules.
    restrictions: SandboxRestrictions = field(
        default_factory=lambda: SandboxRestrictions.default.with_passthrough_modules("temporal_replay_gate")
    )
    traces: dict[str, Trace] = field(default_factory=dict)

    @classmethod
    def within(cls, restrictions: SandboxRestrictions) -> TracingRunner:
        """Return a runner with the worker's restrictions, plus passthrough for the gate's own modules."""
        return cls(restrictions=restrictions.with_passthrough_modules("temporal_replay_gate"))

    def create_instance(self, det: WorkflowInstanceDetails) -> WorkflowInstance:
        """Return a sandboxed instance whose task completions are recorded."""
        trace = Trace(task_queue=det.info.task_queue, namespace=det.info.namespace)
        sources: list[str | None] = []
        extern: dict[str, Callable[..., Any]] = {
            **det.extern_functions,
            _COMMAND: sources.append,
            _PATCH: lambda patch, taken: trace.patches.add((patch, taken)),
            _VALUES: lambda values, payloads: _note_values(trace, values, payloads),
            _WITHOUT_HANDLER: lambda signals, updates: _note_lack(trace, signals, updates),
        }
        self.traces[det.info.run_id] = trace
        # The SDK creates the runner inside the sandbox from the name of its class.
        inner = SandboxedWorkflowRunner(restrictions=self.restrictions, runner_class=_TracingInnerRunner)
        instance = inner.create_instance(dataclasses.replace(det, extern_functions=extern))
        activate = instance.activate

        def listening(act: WorkflowActivation) -> WorkflowActivationCompletion:
            sources.clear()
            completion = activate(act)
            _note(trace, act.history_length, completion, sources)
            return completion

        instance.activate = listening  # type: ignore[method-assign]
        return instance


def _note_values(trace: Trace, values: Sequence[Any], payloads: Sequence[Payload]) -> None:
    if len(values) == len(payloads):
        for value, payload in zip(values, payloads, strict=True):
            trace.shapes.note(value, payload_value(payload))


def _note_lack(trace: Trace, signals: Sequence[str], updates: Sequence[str]) -> None:
    # A handler that is set later takes the signals that waited for it.
    trace.buffered_signals = frozenset(signals)
    trace.rejected_updates.update(updates)


def _note(trace: Trace, reached: int, completion: WorkflowActivationCompletion, sources: list[str | None]) -> None:
    if completion.HasField("failed"):
        trace.failure = completion.failed.failure
    # If a task fails, the SDK discards the commands issued before; then no source belongs to a command.
    commands = completion.successful.commands
    matched = sources if len(sources) == len(commands) else [None] * len(commands)
    for command, source in zip(commands, matched, strict=True):
        kept = WorkflowCommand()
        # A codec changes the completion in place after this.
        kept.CopyFrom(command)
        trace.commands.append(IssuedCommand(kept, reached, source))
