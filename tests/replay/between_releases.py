"""A run that began under one release and ended under the next: the former had no job lifetime and reread without end.

    photo-worker replay record --scenarios tests.replay.between_releases:SCENARIO_SUITE

The stack needs Temporal's dev server, started with
``--dynamic-config-value frontend.WorkflowTimeSkippingEnabled=true``: the run skips a day in which nothing happens.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from photo_worker.contracts.arguments import only_argument
    from photo_worker.contracts.image import ImageProcessingInput, ImageProcessingResult
    from photo_worker.workflows._support import await_ignoring_cancellation, failure_reason
    from photo_worker.workflows.image import ImageProcessingWorkflow
    from tests.replay.scenarios.images import scenario_suite
    from tests.replay.scenarios.images_before_lifetime import ACROSS_RELEASES_SCENARIOS
    from tests.support.harness import FIXTURES


@workflow.defn(name="image_processing_workflow")
class BetweenReleases(ImageProcessingWorkflow):
    """Both releases in one class: the earlier one runs the beginning and the first reading, today's the rest."""

    @workflow.run
    async def run(self, *given: Any) -> ImageProcessingResult:
        request = only_argument(given, ImageProcessingInput)
        try:
            return await self._process(request)
        except ActivityError as error:
            reason = failure_reason(error)
            await await_ignoring_cancellation(self._record_failure(request, reason))
            raise reason from error

    def _is_late(self, readings: int) -> bool:
        return readings > 1 and super()._is_late(readings)


SCENARIO_SUITE = replace(
    scenario_suite(FIXTURES / "photos" / "clean-print.png"),
    scenarios=ACROSS_RELEASES_SCENARIOS,
    workflows=lambda: [BetweenReleases],
)
