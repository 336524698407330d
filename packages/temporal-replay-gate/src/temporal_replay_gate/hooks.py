"""What a project tells the gate about itself: its workflows, its words, its scenarios and its service."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from temporal_replay_gate.defaults import COMMAND, CONVERTER, HISTORIES
from temporal_replay_gate.errors import ReplayError, TemporalUnavailable
from temporal_replay_gate.replay_pool import CodeUnderTest
from temporal_replay_gate.vocabulary import Vocabulary

if TYPE_CHECKING:
    import click
    from temporalio.client import Client

    from temporal_replay_gate.scenario_runner import MakeWorker, ScenarioRunner
    from temporal_replay_gate.scenarios import ScenarioSuite

Options = Mapping[str, Any]
Decorator = Callable[[Any], Any]


class TemporalService(Protocol):
    """The Temporal service that a command was told to use."""

    async def connect(self) -> Client:
        """Return a connected client."""

    def runner(self, suite: ScenarioSuite) -> AbstractAsyncContextManager[ScenarioRunner]:
        """Return what runs the suite's scenarios; leaving the context closes everything that it opened."""


@dataclass(frozen=True)
class Hooks:
    """What the gate is told about a project. Every field has a default that suits a project without hooks.

    ``workflows`` and ``converter`` are dotted paths, because a child process imports them: ``MODULE:ATTRIBUTE``,
    and for ``workflows`` also ``MODULE``, or several separated by commas.
    ``release`` names the directory and the provenance of what is recorded. ``service`` gets click's context and the
    values of ``connection_options``, and for ``record`` also those of ``scenario_options``, which ``scenarios`` gets.
    """

    command: str = COMMAND
    """How reports name the command."""
    project: str = "the project"
    """How help texts name the project."""
    workflows: str = ""
    converter: str = CONVERTER
    worker_options: str = ""
    """Dotted path of ``WorkerOptions``: interceptors, sandbox restrictions and failure types of the worker."""
    histories: Path = Path(HISTORIES)
    release: str = "unreleased"
    vocabulary: Callable[[], Vocabulary] = Vocabulary
    scenarios: Callable[[Options], ScenarioSuite] | None = None
    """Makes the suite that ``record`` uses without ``--scenarios``."""
    service: Callable[[click.Context, Options], TemporalService] | None = None
    connection_options: tuple[Decorator, ...] = ()
    """Decorators of ``click.option`` for every command that needs the service."""
    scenario_options: tuple[Decorator, ...] = ()
    """Decorators of ``click.option`` for ``record``."""
    connect: Callable[[], Awaitable[Client]] | None = None
    """Connects to the service, if ``service`` is None; by default as Temporal's TEMPORAL_* variables say."""
    worker: MakeWorker | None = None
    """Makes the worker of one scenario, if ``service`` is None; by default a plain one."""
    errors: tuple[type[Exception], ...] = ()
    """Errors that hooks raise for the user; they have the attributes of ``ReportedError``."""
    unavailable: Callable[..., Exception] = TemporalUnavailable
    """Makes the error of a service that does not respond, from ``target`` and ``reason``."""

    @property
    def reported(self) -> tuple[type[Exception], ...]:
        """Return the classes of the errors that commands print without a traceback."""
        return (ReplayError, *self.errors)

    def code(self, workflows: str = "", converter: str = "") -> CodeUnderTest:
        """Return the code to replay with, importable from the working directory as ``python -m`` does."""
        return CodeUnderTest(
            workflows or self.workflows,
            converter or self.converter,
            (str(Path.cwd()),),
            self.command,
            self.worker_options,
        )
