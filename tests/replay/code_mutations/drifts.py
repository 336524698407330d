"""Changes of the fields of a command: Temporal's own replay accepts all of these."""

from __future__ import annotations

from tests.replay.code_mutations.code_mutation import IMAGE, KITCHEN, SUPPORT, CodeMutation
from tests.support.mutation import Mutation

DRIFTS = [
    CodeMutation(
        "longer timeout",
        "success",
        Mutation(
            SUPPORT,
            "execute",
            "start_to_close_timeout=$policy.start_to_close_timeout",
            "start_to_close_timeout=$policy.start_to_close_timeout * 2",
        ),
        "drift",
        "start_to_close_timeout",
    ),
    CodeMutation(
        "heartbeat dropped",
        "success",
        Mutation(SUPPORT, "execute", "heartbeat_timeout=$policy.heartbeat_timeout", ""),
        "drift",
        "heartbeat_timeout",
    ),
    CodeMutation(
        "another task queue",
        "kitchen",
        Mutation(
            KITCHEN,
            "Kitchen.run",
            "retry_policy=RetryPolicy(maximum_attempts=3)",
            "task_queue='sink', retry_policy=RetryPolicy(maximum_attempts=3)",
        ),
        "drift",
        "task_queue",
    ),
    CodeMutation(
        "more attempts",
        "kitchen",
        Mutation(KITCHEN, "Kitchen.run", "maximum_attempts=3", "maximum_attempts=30"),
        "drift",
        "maximum_attempts",
    ),
    CodeMutation(
        "no retry policy",
        "kitchen",
        Mutation(KITCHEN, "Kitchen.run", "retry_policy=RetryPolicy(maximum_attempts=3)", ""),
        "drift",
        "maximum_attempts",
    ),
    CodeMutation(
        "slower retries",
        "success",
        Mutation(SUPPORT, "counting", "backoff_coefficient=$policy.backoff_coefficient", "backoff_coefficient=5.0"),
        "drift",
        "backoff_coefficient",
    ),
    CodeMutation(
        "another argument",
        "success",
        Mutation(
            IMAGE,
            "ImageProcessingWorkflow._read",
            "key=$request.key, expected_content_type=$request.expected_content_type",
            "key=$request.key + '2', expected_content_type=$request.expected_content_type",
        ),
        "drift",
        "argument",
    ),
    CodeMutation(
        "one argument more",
        "kitchen",
        Mutation(KITCHEN, "Kitchen.run", "[$washed, $pieces]", "[$washed, $pieces, 1]"),
        "drift",
        "argument",
    ),
    CodeMutation(
        "one argument less",
        "kitchen",
        Mutation(KITCHEN, "Kitchen.run", "[$washed, $pieces]", "[$washed]"),
        "drift",
        "argument",
    ),
    CodeMutation(
        "another result",
        "success",
        Mutation(IMAGE, "_result", "page_count=$ocr.page_count", "page_count=$ocr.page_count + 1"),
        "drift",
        "result",
    ),
    CodeMutation(
        "another result text",
        "kitchen",
        Mutation(
            KITCHEN,
            "Kitchen.run",
            "return f'{baked} with {self._salt + second + spoon} salt'",
            "return f'{baked} with {self._salt + second + spoon} pepper'",
        ),
        "drift",
        "result",
    ),
    CodeMutation(
        "another failure code",
        "failure",
        Mutation(SUPPORT, "failure_reason", "type=$cause.type", "type='other'"),
        "drift",
        "failure",
    ),
    CodeMutation(
        "another failure text",
        "failure",
        Mutation(SUPPORT, "failure_reason", "ApplicationError($cause.message, ...)", "ApplicationError('sorry', ...)"),
        "drift",
        "failure",
    ),
    CodeMutation(
        "a longer rest",
        "kitchen",
        Mutation(KITCHEN, "Kitchen.run", "workflow.sleep(0.05)", "workflow.sleep(5)"),
        "drift",
        "duration",
    ),
    CodeMutation(
        "a longer wait for a signal",
        "kitchen",
        Mutation(KITCHEN, "Kitchen.run", "seconds=30", "seconds=31"),
        "drift",
        "duration",
    ),
    CodeMutation(
        "child with another time limit",
        "kitchen",
        Mutation(KITCHEN, "Kitchen.run", "hours=1", "hours=2"),
        "drift",
        "execution_timeout",
    ),
    CodeMutation(
        "child with another argument",
        "kitchen",
        Mutation(
            KITCHEN,
            "Kitchen.run",
            "workflow.execute_child_workflow(Oven.run, $first, ...)",
            "workflow.execute_child_workflow(Oven.run, washed, ...)",
        ),
        "drift",
        "argument",
    ),
    CodeMutation(
        "child that outlives its parent",
        "kitchen",
        Mutation(
            KITCHEN,
            "Kitchen.run",
            "execution_timeout=timedelta(hours=1)",
            "execution_timeout=timedelta(hours=1), parent_close_policy=workflow.ParentClosePolicy.ABANDON",
        ),
        "drift",
        "parent_close_policy",
    ),
    CodeMutation(
        "signal with another argument",
        "kitchen",
        Mutation(KITCHEN, "Kitchen.run", "$bell.signal(Bell.ring, $baked)", "$bell.signal(Bell.ring, washed)"),
        "drift",
        "argument",
    ),
    CodeMutation(
        "memo with another value",
        "kitchen",
        Mutation(KITCHEN, "Kitchen.run", "'dish': $order.dish", "'dish': washed"),
        "drift",
        "memo",
    ),
]
