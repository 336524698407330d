"""Small wrong changes to real workflows: each is one edit of their text, with the finding that the gate must report.

``kind`` is the kind of finding, ``says`` a word in it. Temporal's own replay refuses a mutation of the kind
``replay``, and accepts one of the kind ``drift``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import photo_worker.workflows.image
from gate_support.histories import GOOD

KITCHEN = GOOD.with_name("kitchen.py")
IMAGE = Path(photo_worker.workflows.image.__file__)
# What the workflows share; its text is edited where the workflow's own does not have it.
SUPPORT = IMAGE.with_name("_support.py")

# The recorded run that reveals the change.
Shown = Literal["kitchen", "success", "failure", "cancellation"]


@dataclass(frozen=True)
class CodeMutation:
    """One edit: ``old``, which is in the text exactly once, becomes ``new``."""

    name: str
    shown_by: Shown
    old: str
    new: str
    kind: Literal["replay", "drift"]
    says: str

    @property
    def source(self) -> Path:
        """The file whose text is edited."""
        if self.shown_by == "kitchen":
            return KITCHEN
        return IMAGE if self.old in IMAGE.read_text(encoding="utf-8") else SUPPORT

    def text(self) -> str:
        """Return the edited text."""
        whole = self.source.read_text(encoding="utf-8")
        assert whole.count(self.old) == 1, f"{self.name}: {self.old!r} is {whole.count(self.old)} times in the text"
        return whole.replace(self.old, self.new)


_WASH = "            wash,\n            order.dish,\n            start_to_close_timeout=timedelta(minutes=1),\n"
_SALTED = '        return f"{baked} with {self._salt + second + spoon} salt"\n'
_CUT = "workflow.execute_activity(cut, args=[washed, pieces], start_to_close_timeout=timedelta(minutes=1)),"
_TASTE = "workflow.execute_activity(taste, washed, start_to_close_timeout=timedelta(minutes=1)),"
_CHILD = 'id=f"{workflow.info().workflow_id}-oven", execution_timeout=timedelta(hours=1)'
_SPOON = (
    "        spoon = await workflow.execute_local_activity"
    "(taste, baked, start_to_close_timeout=timedelta(seconds=10))\n"
)
_FIRST = "        self._located = await self._step("
_EXTRA = "        await workflow.execute_activity('x', 1, start_to_close_timeout=self._policies.last_chance)\n"
_KITCHEN_EXTRA = "        await workflow.execute_activity(taste, 'x', start_to_close_timeout=timedelta(minutes=1))\n"
_LAST = "        return _result(request, located, ocr)\n\n    async def _step("

_PAGES = "page_count=ocr.page_count,\n        s3_man"
_BEGIN = "        readings = 1\n"
_COUNTED = (
    "\n        maximum_interval=policy.maximum_interval,\n        maximum_attempts=policy.maximum_attempts,\n    )"
)

PLANTS = [
    # Which commands the workflow issues.
    CodeMutation("activity added first", "success", _FIRST, _EXTRA + _FIRST, "replay", "activity"),
    CodeMutation("activity added last", "success", _LAST, _EXTRA + _LAST, "replay", "activity"),
    CodeMutation("activity added in the middle", "kitchen", _SPOON, _KITCHEN_EXTRA + _SPOON, "replay", "activity"),
    CodeMutation(
        "activity removed",
        "success",
        "        await self._step(\n            ResultActivities.persist_artifacts,",
        "        if 0: await self._step(\n            ResultActivities.persist_artifacts,",
        "replay",
        "activity",
    ),
    CodeMutation(
        "activity renamed",
        "kitchen",
        "@activity.defn\ndef wash",
        "@activity.defn(name='rinse')\ndef wash",
        "replay",
        "rinse",
    ),
    CodeMutation(
        "activity swapped for another", "success", "OcrActivities.ocr_textract,", '"ocr_other",', "replay", "ocr_other"
    ),
    CodeMutation(
        "activities reordered",
        "kitchen",
        f"{_CUT}\n            {_TASTE}",
        f"{_TASTE}\n            {_CUT}",
        "replay",
        "activity",
    ),
    CodeMutation(
        "activity made local",
        "kitchen",
        "workflow.execute_activity(\n            wash,",
        "workflow.execute_local_activity(\n            wash,",
        "replay",
        "wash",
    ),
    CodeMutation("local activity removed", "kitchen", _SPOON, "        spoon = 0\n", "replay", "local"),
    CodeMutation(
        "local activity made remote",
        "kitchen",
        "workflow.execute_local_activity(taste",
        "workflow.execute_activity(taste",
        "replay",
        "activity",
    ),
    CodeMutation(
        "timer added",
        "kitchen",
        "        pieces = 2\n",
        "        pieces = 2\n        await workflow.sleep(1)\n",
        "replay",
        "timer",
    ),
    CodeMutation("timer removed", "kitchen", "        await workflow.sleep(0.05)\n", "", "replay", "timer"),
    CodeMutation("wait without its timeout", "kitchen", ", timeout=timedelta(seconds=30)", "", "replay", "timer"),
    CodeMutation("child by another id", "kitchen", "-oven", "-stove", "replay", "stove"),
    CodeMutation("child of another type", "kitchen", '"planted_oven"', '"planted_stove"', "replay", "planted_stove"),
    CodeMutation(
        "child without an id of its own", "kitchen", 'id=f"{workflow.info().workflow_id}-oven", ', "", "replay", "child"
    ),
    CodeMutation(
        "patch removed",
        "kitchen",
        '        if workflow.patched("finer"):\n            pieces = 4\n',
        "        pieces = 4\n",
        "replay",
        "patch",
    ),
    CodeMutation("patch renamed", "kitchen", '"finer"', '"thinner"', "replay", "finer"),
    CodeMutation(
        "memo removed", "kitchen", '        workflow.upsert_memo({"dish": order.dish})\n', "", "replay", "memo"
    ),
    CodeMutation(
        "memo before the timer",
        "kitchen",
        "        await workflow.sleep(0.05)\n",
        "        workflow.upsert_memo({'a': 1})\n        await workflow.sleep(0.05)\n",
        "replay",
        "memo",
    ),
    CodeMutation("signal removed", "kitchen", "        await bell.signal(Bell.ring, baked)\n", "", "replay", "signal"),
    CodeMutation(
        "signal by another name",
        "kitchen",
        "bell.signal(Bell.ring, baked)",
        "bell.signal('clang', baked)",
        "drift",
        "clang",
    ),
    CodeMutation("signal to another workflow", "kitchen", "order.bell)", "order.bell + 'x')", "drift", "signal"),
    # How it ends.
    CodeMutation("early return", "success", _BEGIN, "        return None\n" + _BEGIN, "replay", "end"),
    CodeMutation("exception", "kitchen", _SALTED, "        raise ValueError('no salt')\n", "replay", "no salt"),
    CodeMutation(
        "failure where there was a result",
        "success",
        _LAST,
        "        raise to_application_error(StepFailed(step='', reason=''))\n" + _LAST,
        "replay",
        "failure",
    ),
    CodeMutation(
        "result where there was a failure",
        "failure",
        "            raise reason from error\n",
        "            return None\n",
        "replay",
        "result",
    ),
    CodeMutation(
        "cancellation swallowed",
        "cancellation",
        "            if is_cancelled_exception(error):\n                raise\n",
        "",
        "replay",
        "cancelled",
    ),
    CodeMutation(
        "continued as new", "kitchen", _SALTED, "        workflow.continue_as_new(order)\n", "replay", "continue"
    ),
    CodeMutation(
        "reason not recorded",
        "failure",
        "await await_ignoring_cancellation(self._record_failure(request, reason))",
        "'failed'",
        "replay",
        "record_failure",
    ),
    # Fields of the commands: Temporal's replay accepts all of these.
    CodeMutation(
        "longer timeout",
        "success",
        "start_to_close_timeout=policy.start_to_close_timeout",
        "start_to_close_timeout=policy.start_to_close_timeout * 2",
        "drift",
        "start_to_close_timeout",
    ),
    CodeMutation(
        "heartbeat dropped",
        "success",
        "        heartbeat_timeout=policy.heartbeat_timeout,\n",
        "",
        "drift",
        "heartbeat_timeout",
    ),
    CodeMutation(
        "another task queue", "kitchen", _WASH, _WASH + "            task_queue='sink',\n", "drift", "task_queue"
    ),
    CodeMutation("more attempts", "kitchen", "maximum_attempts=3", "maximum_attempts=30", "drift", "maximum_attempts"),
    CodeMutation(
        "no retry policy",
        "kitchen",
        "            retry_policy=RetryPolicy(maximum_attempts=3),\n",
        "",
        "drift",
        "maximum_attempts",
    ),
    CodeMutation(
        "slower retries",
        "success",
        f"backoff_coefficient=policy.backoff_coefficient,{_COUNTED}",
        f"backoff_coefficient=5.0,{_COUNTED}",
        "drift",
        "backoff_coefficient",
    ),
    CodeMutation(
        "another argument",
        "success",
        "                key=request.key,\n                expected",
        "                key=request.key + '2',\n                expected",
        "drift",
        "argument",
    ),
    CodeMutation(
        "one argument more", "kitchen", "args=[washed, pieces]", "args=[washed, pieces, 1]", "drift", "argument"
    ),
    CodeMutation("one argument less", "kitchen", "args=[washed, pieces]", "args=[washed]", "drift", "argument"),
    CodeMutation(
        "another result",
        "success",
        "page_count=ocr.page_count,\n        s3_man",
        "page_count=ocr.page_count + 1,\n        s3_man",
        "drift",
        "result",
    ),
    CodeMutation("another result text", "kitchen", ' salt"\n', ' pepper"\n', "drift", "result"),
    CodeMutation(
        "another failure code",
        "failure",
        "type=cause.type, non_retryable",
        "type='other', non_retryable",
        "drift",
        "failure",
    ),
    CodeMutation(
        "another failure text",
        "failure",
        "ApplicationError(cause.message, *",
        "ApplicationError('sorry', *",
        "drift",
        "failure",
    ),
    CodeMutation("a longer rest", "kitchen", "workflow.sleep(0.05)", "workflow.sleep(5)", "drift", "duration"),
    CodeMutation(
        "a longer wait for a signal",
        "kitchen",
        "timeout=timedelta(seconds=30)",
        "timeout=timedelta(seconds=31)",
        "drift",
        "duration",
    ),
    CodeMutation(
        "child with another time limit",
        "kitchen",
        "execution_timeout=timedelta(hours=1)",
        "execution_timeout=timedelta(hours=2)",
        "drift",
        "execution_timeout",
    ),
    CodeMutation(
        "child with another argument",
        "kitchen",
        "            Oven.run, first, ",
        "            Oven.run, washed, ",
        "drift",
        "argument",
    ),
    CodeMutation(
        "child that outlives its parent",
        "kitchen",
        _CHILD,
        _CHILD + ", parent_close_policy=workflow.ParentClosePolicy.ABANDON",
        "drift",
        "parent_close_policy",
    ),
    CodeMutation(
        "signal with another argument",
        "kitchen",
        "bell.signal(Bell.ring, baked)",
        "bell.signal(Bell.ring, washed)",
        "drift",
        "argument",
    ),
    CodeMutation("memo with another value", "kitchen", '{"dish": order.dish}', '{"dish": washed}', "drift", "memo"),
]

# Compatible changes, which must stay green.
HARMLESS = [
    CodeMutation("nothing", "kitchen", "        pieces = 2\n", "        pieces = 2\n", "drift", ""),
    CodeMutation(
        "patch added",
        "kitchen",
        "        washed = ",
        "        if workflow.patched('new'):\n            await workflow.sleep(1)\n        washed = ",
        "drift",
        "",
    ),
    CodeMutation("summary added", "kitchen", _WASH, _WASH + "            summary='wash it',\n", "drift", ""),
    CodeMutation(
        "patch deprecated",
        "kitchen",
        '        if workflow.patched("finer"):\n            pieces = 4\n',
        '        workflow.deprecate_patch("finer")\n        pieces = 4\n',
        "drift",
        "",
    ),
    CodeMutation(
        "query added",
        "kitchen",
        "    @workflow.signal\n    def salt",
        "    @workflow.query\n    def salty(self) -> int:\n        return 1\n\n    @workflow.signal\n    def salt",
        "drift",
        "",
    ),
]
