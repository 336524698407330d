"""``photo-worker replay``: the replay gate with this project's workflows, words, scenarios and services."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from photo_worker import __version__
from photo_worker.cli.context import resolve_context, stack_option
from photo_worker.errors import PhotoWorkerError, TemporalUnavailable
from temporal_replay_gate import Hooks, NotImportable, command_group, imported
from temporal_replay_gate.errors import ScenariosUnusable
from temporal_replay_gate.vocabulary import Vocabulary

if TYPE_CHECKING:
    from temporalio.client import Client
    from temporalio.worker import Worker

    from photo_worker.config import Settings
    from temporal_replay_gate import MakeWorker, ScenarioRunner
    from temporal_replay_gate.scenarios import ScenarioSuite

_PHOTO = Path("fixtures/photos/clean-print.png")

_photo_option = click.option(
    "--photo",
    type=click.Path(path_type=Path, dir_okay=False),
    default=_PHOTO,
    show_default=True,
    help="PNG file that the product's scenarios process.",
)


def _vocabulary() -> Vocabulary:
    from photo_worker.cli.replay_vocabulary import vocabulary

    return vocabulary()


def _scenarios(options: Mapping[str, Any]) -> ScenarioSuite:
    from photo_worker.pipelines import PIPELINES
    from temporal_replay_gate.scenarios import joined

    photo: Path = options["photo"]
    try:
        makers = [imported(f"{pipeline.scenarios}:scenario_suite") for pipeline in PIPELINES]
    except NotImportable as error:
        outside = "they are in its checkout, and this is not its directory"
        reason = outside if isinstance(error.__cause__, ImportError) else str(error)
        raise ScenariosUnusable(target="of the product", reason=reason) from error
    if not photo.is_file():
        raise ScenariosUnusable(target="of the product", reason=f"there is no photo {str(photo)!r}; name one")
    return joined([make(photo) for make in makers])


def worker_factory(settings: Settings) -> MakeWorker:
    """Return a function that makes the product's worker for one scenario."""
    from photo_worker.worker import build_worker
    from temporal_replay_gate import MAX_ACTIVITIES

    def make(
        client: Client, task_queue: str, workflows: Sequence[type], activities: Sequence[Any], executor: Executor
    ) -> Worker:
        own = {"temporal_task_queue": task_queue, "max_activities": MAX_ACTIVITIES, "graceful_shutdown_seconds": 5.0}
        return build_worker(client, settings.model_copy(update=own), workflows, activities, executor)

    return make


class _Service:
    """The services of the settings in use."""

    def __init__(self, ctx: click.Context, options: Mapping[str, Any]) -> None:
        self._context = resolve_context(ctx, stack_name=options["stack_name"])
        photo: Path = options.get("photo", _PHOTO)
        self._recorded = photo.parent.parent / "recorded"

    async def connect(self) -> Client:
        from photo_worker.adapters.temporal.connection import connect

        return await connect(self._context.settings, self._context.variables)

    @asynccontextmanager
    async def runner(self, suite: ScenarioSuite) -> AsyncIterator[ScenarioRunner]:
        from photo_worker.bootstrap import build_application
        from temporal_replay_gate import ScenarioRunner

        settings = self._context.settings
        if settings.ocr_recorded_dir is None:
            settings = settings.model_copy(update={"ocr_recorded_dir": self._recorded})
        with ExitStack() as stack:
            application = stack.enter_context(build_application(settings)) if suite.application else None
            make_worker = worker_factory(settings)
            yield ScenarioRunner(await self.connect(), make_worker, suite, settings.temporal_task_queue, application)


HOOKS = Hooks(
    command="photo-worker replay",
    project="the product",
    workflows="photo_worker.bootstrap:workflow_classes",
    converter="photo_worker.adapters.temporal.converter:data_converter",
    release=__version__,
    vocabulary=_vocabulary,
    scenarios=_scenarios,
    service=_Service,
    connection_options=(stack_option,),
    scenario_options=(_photo_option,),
    errors=(PhotoWorkerError,),
    unavailable=TemporalUnavailable,
)

replay = command_group(HOOKS)
