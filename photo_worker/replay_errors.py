"""Errors of the replay gate and of recording histories: part of the hierarchy of ``photo_worker.errors``."""

from __future__ import annotations

from photo_worker.errors import InputError, PhotoWorkerError


class ReplayError(PhotoWorkerError):
    """The replay gate cannot do its work: {reason}."""

    code = "replay_error"
    hint = "See docs/how-to/replay.md."


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
    hint = "Leave it out, or correct its name: photo-worker replay check --help."


class HistoryUnscrubbable(InputError):
    """The history cannot be scrubbed: {reason}."""

    code = "history_unscrubbable"
    hint = "Record it without a payload codec, or decode it with the codec first; what cannot be read is not kept."


class HistoryExists(InputError):
    """The history {path!r} is there already, and recorded histories are evidence of what earlier code did."""

    code = "history_exists"
    hint = "Record new behaviour under a new scenario name or a new release; delete no history while its runs may live."


class HistoryUnwritable(InputError):
    """The history cannot be written to {path!r}: {reason}."""

    code = "history_unwritable"
    hint = "Make the folder writable for your user, or name another one with --to."


class ReportUnwritable(InputError):
    """The report cannot be written to {path!r}: {reason}."""

    code = "replay_report_unwritable"
    hint = "Make room, or name another file: --format FORMAT=FILE. The other reports and the check's result stand."


class ScenarioUnknown(InputError):
    """There is no scenario {name!r}; known are {known}."""

    code = "scenario_unknown"
    wrong_use = True
    hint = "Choose one of these, or leave the names out to record all of them."


class ScenariosUnusable(InputError):
    """The scenarios {target!r} cannot be used: {reason}."""

    code = "scenarios_unusable"
    wrong_use = True
    hint = "Name them as module:attribute, where the attribute is a photo_worker.replay.scenarios.ScenarioSuite."


class ScenarioDeviated(InputError):
    """The scenario {name!r} went otherwise than it says: {reason}."""

    code = "scenario_deviated"
    hint = "Nothing was written. Look whether the services answer; if the new behaviour is meant, correct the scenario."


class RecordingUnfit(InputError):
    """The history of scenario {name!r} does not replay {form}: {reason}."""

    code = "recording_unfit"
    hint = "Nothing was written. Name constants that the workflow puts into its payloads in the scenario's keep."


class ReplayTargetInvalid(ReplayError):
    """The code to replay with is not there: {reason}."""

    code = "replay_target_invalid"
    wrong_use = True
    hint = "Name it as MODULE:ATTRIBUTE: workflow classes with --workflows, a data converter with --converter."


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
