"""The process that replays: it reads requests as JSON lines and responds to each with one; it may be killed any time.

The first line names the code under test. Each request names a file and optionally a mutation.
A process cannot end its own replay if that hangs, so the parent watches the time.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import queue
import signal
import sys
import threading
import traceback
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from temporalio import workflow
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import WorkflowHistory
from temporalio.worker import Replayer, WorkflowReplayResult
from temporalio.workflow import NondeterminismError

from temporal_replay_gate.additive import canonical, in_order
from temporal_replay_gate.codec import decoded
from temporal_replay_gate.commands import END_KINDS, Command, IssuedCommands, commands_from_history, failure_source
from temporal_replay_gate.divergence import diagnose
from temporal_replay_gate.dotted import described
from temporal_replay_gate.drift import compare
from temporal_replay_gate.findings import Finding
from temporal_replay_gate.handlers import missing_update_handlers, unhandled_signals
from temporal_replay_gate.mutations import MutationInterceptor
from temporal_replay_gate.target import Target, TargetInvalid, load, patches_in
from temporal_replay_gate.trace import Trace, TracingRunner

Response = dict[str, Any]

# Bound before the import of the code under test, which may replace the functions of the json module.
_encode = json.JSONEncoder().encode
_decode = json.JSONDecoder().decode

_TASK_COMPLETED = EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED


async def prepare(target: Target) -> None:
    """Prepare each workflow as a worker does at its start. Raises ``RuntimeError`` if that fails."""
    if doubled := len(target.workflows) - len(target.types):
        raise RuntimeError(f"{doubled} of the workflow classes have the type name of another one")
    runner = TracingRunner.within(target.worker_options.restrictions)
    for name, cls in target.types.items():
        try:
            runner.prepare_workflow(workflow._Definition.must_from_class(cls))
        except Exception as error:
            said = f"{type(error).__name__}: {error}".removesuffix(": ")
            raise RuntimeError(f"{name} cannot be made in the workflow sandbox, {said}") from error


class _Replays:
    """One Replayer that gets its histories one by one, with or without a mutation."""

    def __init__(self, target: Target, mutation: Any) -> None:
        options = target.worker_options
        self._runner = TracingRunner.within(options.restrictions)
        self._histories: asyncio.Queue[WorkflowHistory] = asyncio.Queue()
        self._results: AsyncIterator[WorkflowReplayResult] | None = None
        self._stack = AsyncExitStack()
        self._converter = options.converter
        self._types = target.types
        self._interceptor = None if mutation is None else MutationInterceptor(mutation)
        self._replayer = Replayer(
            workflows=target.workflows,
            data_converter=options.converter,
            workflow_runner=self._runner,
            interceptors=[*options.interceptors, *([] if self._interceptor is None else [self._interceptor])],
            workflow_failure_exception_types=options.failure_types,
        )

    async def _feed(self) -> AsyncIterator[WorkflowHistory]:
        while True:
            yield await self._histories.get()

    async def replay(self, path: str) -> Response:
        """Replay one file and compare the recorded commands with those that the code issues."""
        try:
            history = _read(Path(path))
        except Exception as error:
            return _response([_unparsable(error)])
        if self._results is None:
            self._results = await self._stack.enter_async_context(self._replayer.workflow_replay_iterator(self._feed()))
        self._runner.traces.clear()
        if self._interceptor is not None:
            self._interceptor.began = False
        await self._histories.put(history)
        result = await anext(self._results)
        trace = next(iter(self._runner.traces.values()), Trace())
        response = await self._judge(history, result, trace)
        return response | {"planted": self._interceptor is None or self._interceptor.began}

    async def _judge(self, history: WorkflowHistory, result: WorkflowReplayResult, trace: Trace) -> Response:
        try:
            events = await decoded(self._converter, history.events)
        except Exception as error:
            return _response([_undecodable(error)], trace)
        started = events[0].workflow_execution_started_event_attributes
        recorded = [_of_one_run(step, history.events) for step in commands_from_history(events)]
        # The result of an activity that ran after a reset comes from the history and may contain the new run id.
        completed = [each.event_id for each in events if each.event_type == _TASK_COMPLETED]
        issued = [_of_one_run(step, history.events) for step in IssuedCommands(trace, started, completed).commands()]
        workflow_type = started.workflow_type.name
        signals, updates = self._without_handlers(events, trace, workflow_type)
        if result.replay_failure is None:
            drift = compare(recorded, issued, workflow_type, trace.shapes)
            return _response([*signals, *updates, *drift], trace, issued)
        message = str(result.replay_failure)
        if isinstance(result.replay_failure, NondeterminismError) and trace.failure is None:
            closed = any(step.kind in END_KINDS for step in recorded)
            # The command that the SDK complains about only follows an update that is rejected.
            diverged = updates or [diagnose(message, recorded, issued, workflow_type, closed=closed)]
            return _response([*signals, *diverged], trace, issued)
        return _response([_task_failed(message, trace, workflow_type)], trace)

    def _without_handlers(
        self, events: Sequence[HistoryEvent], trace: Trace, workflow_type: str
    ) -> tuple[list[Finding], list[Finding]]:
        if self._interceptor is not None:
            # A mutation changes no handler, and must be detected by what it does.
            return [], []
        cls = self._types.get(workflow_type)
        signals = unhandled_signals(events, trace.buffered_signals, workflow_type, cls)
        return signals, missing_update_handlers(events, trace.rejected_updates, workflow_type, cls)


def _read(path: Path) -> WorkflowHistory:
    history = WorkflowHistory.from_json(path.stem, path.read_text(encoding="utf-8-sig"))
    started = history.events[0].workflow_execution_started_event_attributes
    # Code that derives ids from its workflow's id needs the recorded one.
    return WorkflowHistory(started.workflow_id or history.workflow_id, history.events)


def _of_one_run(step: Command, events: Sequence[HistoryEvent]) -> Command:
    """Return a command with the run ids that resets made replaced by the first run's id.

    After a reset, a run has a new id; during a replay, it has the first id throughout.
    """
    resets = [about.new_run_id for each in events if (about := each.workflow_task_failed_event_attributes).new_run_id]
    if not resets:
        return step
    first = events[0].workflow_execution_started_event_attributes.original_execution_run_id
    text, key = canonical(step.fields), step.key
    for made in resets:
        text, key = text.replace(made, first), key.replace(made, first)
    return replace(step, key=key, fields=json.loads(text))


def _unparsable(error: Exception) -> Finding:
    return Finding(
        "preflight",
        "history_unparsable",
        f"Temporal's SDK cannot read it: {type(error).__name__}: {str(error)[:500]}.",
        "what it recorded would go unchecked",
        "Export it again: temporal workflow show --workflow-id ID --run-id RUN --output json > FILE",
    )


def _undecodable(error: Exception) -> Finding:
    return Finding(
        "preflight",
        "payload_undecodable",
        f"The data converter's codec cannot decode it: {type(error).__name__}: {str(error)[:500]}.",
        "what it recorded cannot be compared with what the code issues",
        "Name the data converter that the worker used, with its keys: --converter MODULE:ATTRIBUTE.",
    )


def _task_failed(message: str, trace: Trace, workflow_type: str) -> Finding:
    failure = trace.failure
    said = failure.message if failure is not None and failure.message else message
    return Finding(
        "replay",
        "workflow_task_failed",
        f"The code fails while it replays: {said[:1000]}",
        "every running workflow that comes to this line fails its workflow task again and again, and never moves on",
        "Correct the code; where it must behave otherwise, put the change under workflow.patched.",
        workflow_type=workflow_type,
        source=failure_source(failure) if failure is not None else None,
    )


def _response(findings: list[Finding], trace: Trace | None = None, issued: Sequence[Command] = ()) -> Response:
    trace = trace or Trace()
    return {
        "findings": [finding.as_dict() for finding in findings],
        "commands": len(trace.commands),
        "patches": sorted(trace.patches),
        "issued": [_told(step, trace) for step in issued],
        "planted": True,
    }


def _told(step: Command, trace: Trace) -> str:
    """Return a command as title and digest: equal in every process if the code is deterministic."""
    fields = {name: in_order(value, trace.shapes) for name, value in step.fields.items()}
    digest = hashlib.sha256(canonical([step.key, fields]).encode()).hexdigest()[:16]
    return f"{step.title} {digest}"


def _read_code(target: Target) -> Response:
    from temporal_replay_gate.static import check_workflows

    found = check_workflows(target.workflows).findings
    return _response(
        [
            Finding(
                "static",
                f"static_{each.code}",
                each.what,
                each.why,
                f"Instead: {each.instead}.",
                source=f"{each.path}:{each.line}",
                where=" -> ".join(each.via),
            )
            for each in found
        ]
    )


async def _serve(target: Target, requests: queue.SimpleQueue[Response], say: Callable[[Response], None]) -> None:
    replays: dict[Any, _Replays] = {}
    while True:
        request = await asyncio.to_thread(requests.get)
        if "static" in request:
            say(_read_code(target))
            continue
        mutation = request.get("plant")
        if mutation not in replays:
            replays[mutation] = _Replays(target, mutation)
        say(await replays[mutation].replay(request["path"]))


def _listen(source: int, requests: queue.SimpleQueue[Response]) -> None:
    # os.read, not a file object: a file object's lock would stay locked in processes that the code under test forks.
    rest = b""
    while chunk := os.read(source, 65536):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            requests.put(_decode(line.decode()))
    # The parent has finished or died. Temporal's threads and forked processes may never end by themselves.
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(0)


def main() -> None:
    """Serve one parent until it closes standard input."""
    # Workflow code may print and read, so requests and responses use duplicated file descriptors.
    responses = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    source = os.dup(0)
    with Path(os.devnull).open("rb") as nothing:
        os.dup2(nothing.fileno(), 0)

    own = os.getpid()

    def say(response: Response) -> None:
        # A process that the code forks, and that also continues here, must not respond.
        if os.getpid() == own:
            responses.write(_encode(response) + "\n")
            responses.flush()

    # Started before the import: code that hangs during its import must not outlive a killed parent.
    requests: queue.SimpleQueue[Response] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(source, requests), daemon=True).start()
    about = requests.get()
    sys.path[:] = [*about["sys_path"], *(entry for entry in sys.path if entry not in about["sys_path"])]
    try:
        target = load(about["workflows"], about["converter"], about.get("options", ""))
        if about["prepare"]:
            asyncio.run(prepare(target))
        say({"types": {name: patches_in(cls) for name, cls in target.types.items()}})
    except TargetInvalid as error:
        say({"refused": str(error)})
    except BaseException as error:
        say({"broken": described(error), "traceback": traceback.format_exc()})
    else:
        try:
            asyncio.run(_serve(target, requests, say))
        except BaseException:
            traceback.print_exc()
    # Threads that the code has started could delay the interpreter's exit.
    sys.stderr.flush()
    os._exit(1)


if __name__ == "__main__":
    main()
