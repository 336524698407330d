"""Small wrong changes to real workflows: each is one mutation of their code, with the finding that the gate must say.

``kind`` is the kind of finding, ``says`` a word in it. Temporal's own replay refuses a mutation of the kind
``replay``, and accepts one of the kind ``drift``.
"""

from __future__ import annotations

from tests.replay.code_mutations.code_mutation import IMAGE, KITCHEN, CodeMutation
from tests.replay.code_mutations.drifts import DRIFTS
from tests.support.mutation import Mutation

# What the kitchen does under its patch.
_PATCHED = """
        if workflow.patched('finer'):
            $pieces = 4
        """

CODE_MUTATIONS = [
    # Which commands the workflow issues.
    CodeMutation(
        "activity added first",
        "success",
        Mutation(
            IMAGE,
            "ImageProcessingWorkflow._read",
            "self._located, self._ocr = None, None",
            """
        self._located, self._ocr = None, None
        await workflow.execute_activity('x', 1, start_to_close_timeout=self._policies.last_chance)
        """,
        ),
        "replay",
        "activity",
    ),
    CodeMutation(
        "activity added last",
        "success",
        Mutation(
            IMAGE,
            "ImageProcessingWorkflow._persist",
            "return _result($request, $located, $ocr)",
            """
        await workflow.execute_activity('x', 1, start_to_close_timeout=self._policies.last_chance)
        return _result($request, $located, $ocr)
        """,
        ),
        "replay",
        "activity",
    ),
    CodeMutation(
        "activity added in the middle",
        "kitchen",
        Mutation(
            KITCHEN,
            "Kitchen.run",
            "$spoon = await workflow.execute_local_activity(taste, ...)",
            """
        await workflow.execute_activity(taste, 'x', start_to_close_timeout=timedelta(minutes=1))
        $spoon = await workflow.execute_local_activity(taste, ...)
        """,
        ),
        "replay",
        "activity",
    ),
    CodeMutation(
        "activity removed",
        "success",
        Mutation(
            IMAGE,
            "ImageProcessingWorkflow._persist",
            "await self._step(ResultActivities.persist_artifacts, ...)",
            """
        if 0:
            await self._step(ResultActivities.persist_artifacts, ...)
        """,
        ),
        "replay",
        "activity",
    ),
    CodeMutation(
        "activity renamed",
        "kitchen",
        Mutation(KITCHEN, "wash", "@activity.defn", "@activity.defn(name='rinse')"),
        "replay",
        "rinse",
    ),
    CodeMutation(
        "activity swapped for another",
        "success",
        Mutation(IMAGE, "ImageProcessingWorkflow._read", "OcrActivities.ocr_textract", "'ocr_other'"),
        "replay",
        "ocr_other",
    ),
    CodeMutation(
        "activities reordered",
        "kitchen",
        Mutation(
            KITCHEN,
            "Kitchen.run",
            """
        asyncio.gather(
            workflow.execute_activity(cut, args=[$washed, $pieces], start_to_close_timeout=timedelta(minutes=1)),
            workflow.execute_activity(taste, $washed, start_to_close_timeout=timedelta(minutes=1)),
        )
        """,
            """
        asyncio.gather(
            workflow.execute_activity(taste, $washed, start_to_close_timeout=timedelta(minutes=1)),
            workflow.execute_activity(cut, args=[$washed, $pieces], start_to_close_timeout=timedelta(minutes=1)),
        )
        """,
        ),
        "replay",
        "activity",
    ),
    CodeMutation(
        "activity made local",
        "kitchen",
        Mutation(
            KITCHEN, "Kitchen.run", "workflow.execute_activity(wash, ...)", "workflow.execute_local_activity(wash, ...)"
        ),
        "replay",
        "wash",
    ),
    CodeMutation(
        "local activity removed",
        "kitchen",
        Mutation(KITCHEN, "Kitchen.run", "await workflow.execute_local_activity(taste, ...)", "0"),
        "replay",
        "local",
    ),
    CodeMutation(
        "local activity made remote",
        "kitchen",
        Mutation(
            KITCHEN,
            "Kitchen.run",
            "workflow.execute_local_activity(taste, ...)",
            "workflow.execute_activity(taste, ...)",
        ),
        "replay",
        "activity",
    ),
    CodeMutation(
        "timer added",
        "kitchen",
        Mutation(
            KITCHEN,
            "Kitchen.run",
            """
        if workflow.patched('finer'):
            ...
        """,
            """
        await workflow.sleep(1)
        if workflow.patched('finer'):
            ...
        """,
        ),
        "replay",
        "timer",
    ),
    CodeMutation(
        "timer removed",
        "kitchen",
        Mutation(KITCHEN, "Kitchen.run", "await workflow.sleep(0.05)", ""),
        "replay",
        "timer",
    ),
    CodeMutation(
        "wait without its timeout",
        "kitchen",
        Mutation(KITCHEN, "Kitchen.run", "timeout=timedelta(seconds=30)", ""),
        "replay",
        "timer",
    ),
    CodeMutation(
        "child by another id",
        "kitchen",
        Mutation(
            KITCHEN,
            "Kitchen.run",
            "id=f'{workflow.info().workflow_id}-oven'",
            "id=f'{workflow.info().workflow_id}-stove'",
        ),
        "replay",
        "stove",
    ),
    CodeMutation(
        "child of another type",
        "kitchen",
        Mutation(KITCHEN, "Oven", "@workflow.defn(name='planted_oven')", "@workflow.defn(name='planted_stove')"),
        "replay",
        "planted_stove",
    ),
    CodeMutation(
        "child without an id of its own",
        "kitchen",
        Mutation(KITCHEN, "Kitchen.run", "id=f'{workflow.info().workflow_id}-oven'", ""),
        "replay",
        "child",
    ),
    CodeMutation(
        "patch removed",
        "kitchen",
        Mutation(
            KITCHEN,
            "Kitchen.run",
            _PATCHED,
            "$pieces = 4",
        ),
        "replay",
        "patch",
    ),
    CodeMutation(
        "patch renamed",
        "kitchen",
        Mutation(KITCHEN, "Kitchen.run", "workflow.patched('finer')", "workflow.patched('thinner')"),
        "replay",
        "finer",
    ),
    CodeMutation(
        "memo removed",
        "kitchen",
        Mutation(KITCHEN, "Kitchen.run", "workflow.upsert_memo({'dish': $order.dish})", ""),
        "replay",
        "memo",
    ),
    CodeMutation(
        "memo before the timer",
        "kitchen",
        Mutation(
            KITCHEN,
            "Kitchen.run",
            "await workflow.sleep(0.05)",
            """
        workflow.upsert_memo({'a': 1})
        await workflow.sleep(0.05)
        """,
        ),
        "replay",
        "memo",
    ),
    CodeMutation(
        "signal removed",
        "kitchen",
        Mutation(KITCHEN, "Kitchen.run", "await $bell.signal(Bell.ring, $baked)", ""),
        "replay",
        "signal",
    ),
    CodeMutation(
        "signal by another name",
        "kitchen",
        Mutation(KITCHEN, "Kitchen.run", "$bell.signal(Bell.ring, $baked)", "$bell.signal('clang', $baked)"),
        "drift",
        "clang",
    ),
    CodeMutation(
        "signal to another workflow",
        "kitchen",
        Mutation(
            KITCHEN,
            "Kitchen.run",
            "workflow.get_external_workflow_handle_for(Bell.run, $order.bell)",
            "workflow.get_external_workflow_handle_for(Bell.run, $order.bell + 'x')",
        ),
        "drift",
        "signal",
    ),
    # How it ends.
    CodeMutation(
        "early return",
        "success",
        Mutation(
            IMAGE,
            "ImageProcessingWorkflow._process",
            "$readings = 1",
            """
        return None
        $readings = 1
        """,
        ),
        "replay",
        "end",
    ),
    CodeMutation(
        "exception",
        "kitchen",
        Mutation(
            KITCHEN,
            "Kitchen.run",
            "return f'{baked} with {self._salt + second + spoon} salt'",
            "raise ValueError('no salt')",
        ),
        "replay",
        "no salt",
    ),
    CodeMutation(
        "failure where there was a result",
        "success",
        Mutation(
            IMAGE,
            "ImageProcessingWorkflow._persist",
            "return _result($request, $located, $ocr)",
            """
        raise to_application_error(StepFailed(step='', reason=''))
        return _result($request, $located, $ocr)
        """,
        ),
        "replay",
        "failure",
    ),
    CodeMutation(
        "result where there was a failure",
        "failure",
        Mutation(IMAGE, "ImageProcessingWorkflow.run", "raise $reason from $error", "return None"),
        "replay",
        "result",
    ),
    CodeMutation(
        "cancellation swallowed",
        "cancellation",
        Mutation(
            IMAGE,
            "ImageProcessingWorkflow.run",
            """
        if is_cancelled_exception($error):
            raise
        """,
            "",
        ),
        "replay",
        "cancelled",
    ),
    CodeMutation(
        "continued as new",
        "kitchen",
        Mutation(
            KITCHEN,
            "Kitchen.run",
            "return f'{baked} with {self._salt + second + spoon} salt'",
            "workflow.continue_as_new(order)",
        ),
        "replay",
        "continue",
    ),
    CodeMutation(
        "reason not recorded",
        "failure",
        Mutation(
            IMAGE,
            "ImageProcessingWorkflow.run",
            "await await_ignoring_cancellation(self._record_failure($request, $reason))",
            "'failed'",
        ),
        "replay",
        "record_failure",
    ),
    *DRIFTS,
]

# Compatible changes, which must stay green.
HARMLESS = [
    CodeMutation("nothing", "kitchen", None, "drift", ""),
    CodeMutation(
        "patch added",
        "kitchen",
        Mutation(
            KITCHEN,
            "Kitchen.run",
            "$washed = await workflow.execute_activity(wash, ...)",
            """
        if workflow.patched('new'):
            await workflow.sleep(1)
        $washed = await workflow.execute_activity(wash, ...)
        """,
        ),
        "drift",
        "",
    ),
    CodeMutation(
        "summary added",
        "kitchen",
        Mutation(
            KITCHEN,
            "Kitchen.run",
            "retry_policy=RetryPolicy(maximum_attempts=3)",
            "summary='wash it', retry_policy=RetryPolicy(maximum_attempts=3)",
        ),
        "drift",
        "",
    ),
    CodeMutation(
        "patch deprecated",
        "kitchen",
        Mutation(
            KITCHEN,
            "Kitchen.run",
            _PATCHED,
            """
        workflow.deprecate_patch('finer')
        $pieces = 4
        """,
        ),
        "drift",
        "",
    ),
    CodeMutation(
        "query added",
        "kitchen",
        Mutation(
            KITCHEN,
            "Kitchen",
            """
        @workflow.signal
        def salt(self, pinches: int) -> None:
            ...
        """,
            """
        @workflow.query
        def salty(self) -> int:
            return 1
        @workflow.signal
        def salt(self, pinches: int) -> None:
            ...
        """,
        ),
        "drift",
        "",
    ),
]
