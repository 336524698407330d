"""The errors of the gate, in one class hierarchy.

The docstring of a class is the message that the user reads: a format string for the keyword arguments with which the
error is raised. ``code`` is stable, and programs may match it; ``hint`` says what to do.
"""

from __future__ import annotations

import inspect
from typing import ClassVar, Protocol, Self, runtime_checkable

from temporal_replay_gate.defaults import COMMAND
from temporal_replay_gate.printable import without_full_stops

__all__ = [
    "AllowListInvalid",
    "ConfigInvalid",
    "ConnectionInvalid",
    "EndedEarly",
    "HistoryExists",
    "HistoryUnscrubbable",
    "HistoryUnwritable",
    "RecordingUnfit",
    "ReplayError",
    "ReplayNothingFound",
    "ReplayQueryRefused",
    "ReplayTargetBroken",
    "ReplayTargetInvalid",
    "ReportUnwritable",
    "ReportedError",
    "ScenarioDeviated",
    "ScenarioUnknown",
    "ScenariosNotNamed",
    "ScenariosUnusable",
    "ServerOptionInvalid",
    "TemporalUnavailable",
    "WorkflowUnknown",
]


@runtime_checkable
class ReportedError(Protocol):
    """What the commands print of an error: of the gate's own, and of those that ``Hooks.errors`` names."""

    @property
    def code(self) -> str:
        """The stable name, which programs may match."""

    @property
    def message(self) -> str:
        """What went wrong."""

    @property
    def hint(self) -> str:
        """What to do."""

    @property
    def retryable(self) -> bool:
        """Whether the same call may succeed later by itself."""

    @property
    def wrong_use(self) -> bool:
        """Whether an option or an argument of the command is wrong."""


class ReplayError(Exception):
    """The replay gate cannot do its work: {reason}."""

    code: ClassVar[str] = "replay_error"
    retryable: ClassVar[bool] = False

    hint: str = "See the README of temporal-replay-gate."
    """What to do; ``{command}`` stands for the name of the command, which the context may hold."""

    wrong_use: bool = False
    """Whether an option or an argument of the command is wrong: the command then exits with 2, otherwise with 1."""

    def __init__(self, **context: object) -> None:
        self.context = context
        template = inspect.cleandoc(type(self).__doc__ or self.code).replace("\n", " ")
        self.message = template.format(**without_full_stops(template, context))
        self.hint = type(self).hint.replace("{command}", str(context.get("command", COMMAND)))
        super().__init__(self.message)

    def from_option(self) -> Self:
        """Mark the error as caused by an option or an argument, and return it; it may have other causes elsewhere."""
        self.wrong_use = True
        return self

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.context)


def _rebuild(kind: type[ReplayError], context: dict[str, object]) -> ReplayError:
    return kind(**context)


class ReplayNothingFound(ReplayError):
    """The service has no history to replay of {asked}."""

    code = "replay_nothing_found"
    hint = (
        "A gate that replayed nothing proves nothing. Widen --since, check the namespace and the --query, "
        "or leave --from-server out where nothing runs yet."
    )


class ReplayQueryRefused(ReplayError):
    """Temporal does not list the runs of namespace {namespace}: {reason}."""

    code = "replay_query_refused"
    hint = "Correct --query (Temporal's list filters), the namespace, or the credentials' permissions."


class ServerOptionInvalid(ReplayError):
    """The option {option} would be ignored: {reason}."""

    code = "replay_server_option_invalid"
    wrong_use = True
    hint = "Leave it out, or correct its name: {command} check --help."


class EndedEarly(ReplayError):
    """The command was ended before it had a result: {reason}."""

    code = "replay_ended_early"
    hint = (
        "Look for what ends the process in hooks, scenarios and other code of the project that runs with the gate: "
        "sys.exit, os._exit, os.execv, also in threads and exit handlers."
    )


class HistoryUnscrubbable(ReplayError):
    """The history cannot be scrubbed: {reason}."""

    code = "history_unscrubbable"
    hint = "Record it without a payload codec, or decode it with the codec first; what cannot be read is not kept."


class HistoryExists(ReplayError):
    """The history {path!r} is there already, and recorded histories are evidence of what earlier code did."""

    code = "history_exists"
    hint = "Record new behaviour under a new scenario name or a new release; delete no history while its runs may live."


class HistoryUnwritable(ReplayError):
    """The history cannot be written to {path!r}: {reason}."""

    code = "history_unwritable"
    hint = "Make the folder writable for your user, or name another one with --to."


class ReportUnwritable(ReplayError):
    """The report cannot be written to {path!r}: {reason}."""

    code = "replay_report_unwritable"
    hint = "Make room, or name another file: --format FORMAT=FILE. The other reports and the check's result stand."


class ScenarioUnknown(ReplayError):
    """There is no scenario {name!r}; known are {known}."""

    code = "scenario_unknown"
    wrong_use = True
    hint = "Choose one of these, or leave the names out to record all of them."


class ScenariosUnusable(ReplayError):
    """The scenarios {target!r} cannot be used: {reason}."""

    code = "scenarios_unusable"
    wrong_use = True
    hint = "Name them as module:attribute, where the attribute is a temporal_replay_gate.scenarios.ScenarioSuite."


class ScenariosNotNamed(ScenariosUnusable):
    """No scenarios to record are named, neither with --scenarios nor in the settings."""

    hint = "Name a suite with --scenarios MODULE:ATTRIBUTE, or as scenarios in the table [tool.replay-gate]."


class ScenarioDeviated(ReplayError):
    """The scenario {name!r} went otherwise than it says: {reason}."""

    code = "scenario_deviated"
    hint = "Nothing was written. Look whether the services answer; if the new behaviour is meant, correct the scenario."


class RecordingUnfit(ReplayError):
    """The history of scenario {name!r} does not replay {form}: {reason}."""

    code = "recording_unfit"
    hint = "Nothing was written. Name constants that the workflow puts into its payloads in the scenario's keep."


class ReplayTargetInvalid(ReplayError):
    """The code to replay with is not there: {reason}."""

    code = "replay_target_invalid"
    wrong_use = True
    hint = (
        "Name workflow classes with --workflows as MODULE or MODULE:ATTRIBUTE, "
        "a data converter with --converter as MODULE:ATTRIBUTE."
    )


class ReplayTargetBroken(ReplayError):
    """The code to replay with cannot be imported: {reason}."""

    code = "replay_target_broken"
    hint = "Correct the code first: a worker would not start with it either."


class WorkflowUnknown(ReplayError):
    """Neither the code nor any history here has a workflow of type {name!r}; the code has {known}."""

    code = "replay_workflow_unknown"
    wrong_use = True
    hint = "Correct --workflow, or leave it out to check all types."


class AllowListInvalid(ReplayError):
    """The allow list {path!r} cannot be used: {reason}."""

    code = "replay_allow_list_invalid"
    wrong_use = True
    hint = (
        "It is TOML with [[drift]] (workflow, where, what, was, now, reason) and [[coverage]] (workflow, exit, reason) "
        "tables; was and now are JSON in quotes, as the finding prints them."
    )


class TemporalUnavailable(ReplayError):
    """Temporal does not respond at {target}: {reason}."""

    code = "temporal_unavailable"
    retryable = True
    hint = "Start it, or correct TEMPORAL_ADDRESS, TEMPORAL_NAMESPACE, TEMPORAL_API_KEY and the TLS settings."


class ConfigInvalid(ReplayError):
    """The settings of the replay gate in {path!r} cannot be used: {reason}."""

    code = "replay_config_invalid"
    wrong_use = True
    hint = "Correct the table [tool.replay-gate]; the names of its keys are in the README of temporal-replay-gate."


class ConnectionInvalid(ReplayError):
    """The settings of the connection to Temporal cannot be used: {reason}."""

    code = "replay_connection_invalid"
    wrong_use = True
    hint = "Correct the TEMPORAL_* variables or the profile in the file that TEMPORAL_CONFIG_FILE names."
