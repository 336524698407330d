"""The commands on small workflows of the kind that Temporal's samples show, with their recorded histories."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from gate_support.changed_code import changed
from temporal_replay_gate import Hooks, command_group
from temporal_replay_gate.main import program

HERE = Path(__file__).parent
TABLE = {"workflows": "greetings:WORKFLOWS", "histories": "histories", "scenarios": "greetings:SUITE"}
TIMEOUT = "start_to_close_timeout=timedelta(seconds={})".format


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the project in the working directory."""
    shutil.copytree(HERE / "histories", tmp_path / "histories")
    shutil.copy(HERE / "greetings.py", tmp_path)
    lines = [f"{key} = {json.dumps(value)}\n" for key, value in TABLE.items()]
    (tmp_path / "pyproject.toml").write_text(f"[tool.replay-gate]\n{''.join(lines)}", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(program, arguments)


def change(project: Path, old: str, new: str) -> None:
    path = project / "greetings.py"
    path.write_text(changed(path.read_text(encoding="utf-8"), old, new), encoding="utf-8")


def codes(outcome: Result) -> set[str]:
    return {finding["code"] for finding in json.loads(outcome.stdout)["data"]["findings"]}


def test_check_unchanged_code_is_green_and_covers_all(project: Path) -> None:
    outcome = run("check", "--format", "json")
    assert outcome.exit_code == 0, outcome.output
    document = json.loads(outcome.stdout)
    assert document["command"] == "check"
    rows = {row["workflow_type"]: row for row in document["data"]["coverage"]}
    assert rows["greeting"]["patched"] == {"pause": 3}
    assert rows["greeting"]["unpatched"] == {"pause": 1}
    assert rows["waiting_room"]["chains"] == 1


SLEEP = "await workflow.sleep(0.05)"
PATCHED = f'if workflow.patched("pause"):\n    {SLEEP}'
AGAIN = "workflow.continue_as_new(Book({}, self._closed))".format


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        (TIMEOUT(10), TIMEOUT(11), "drift_start_to_close_timeout"),
        ("maximum_attempts=3", "maximum_attempts=4", "drift_retry_policy"),
        (PATCHED, SLEEP, "command_added"),
        ("workflow.sleep(0.05)", "workflow.sleep(0.07)", "drift_duration"),
        (AGAIN("greeted"), AGAIN("0"), "drift_arguments"),
    ],
)
def test_check_changed_code_is_red(project: Path, old: str, new: str, code: str) -> None:
    change(project, old, new)
    outcome = run("check", "--format", "json")
    assert outcome.exit_code == 1
    assert code in codes(outcome)


def test_check_changed_activity_is_green(project: Path) -> None:
    change(project, "f'Hello, {guest.name}!'", "f'Hello, {guest.name}.'")
    assert run("check").exit_code == 0


def test_check_nondeterministic_code_is_red(project: Path) -> None:
    change(project, "import asyncio", "import asyncio\nimport random")
    change(project, "await workflow.sleep(0.05)", "await workflow.sleep(0.05 + 0 * random.random())")
    outcome = run("check", "--format", "json", "histories/greeting")
    assert any(code.startswith("static_") for code in codes(outcome))


def test_check_without_settings_takes_classes_of_module(project: Path) -> None:
    (project / "pyproject.toml").unlink()
    (project / "greeting_alone.py").write_text("from greetings import Greeting\n\n\nclass Alone(Greeting):\n    pass\n")
    files = ["histories/greeting/1.0/success.json"]
    assert run("check", *files).exit_code == 2
    assert run("check", *files, "--workflows", "greetings:Greeting").exit_code == 0


def test_check_allow_list_beside_histories_excuses_drift(project: Path) -> None:
    change(project, "maximum_attempts=3", "maximum_attempts=4")
    entry = {
        "workflow": "greeting",
        "where": "activity:compose",
        "what": "retry_policy.maximum_attempts",
        "was": "3",
        "now": "4",
        "reason": "The printer is away more often.",
    }
    lines = "".join(f"{key} = {json.dumps(value)}\n" for key, value in entry.items())
    (project / "allowed_drift.toml").write_text(f"[[drift]]\n{lines}", encoding="utf-8")
    assert run("check").exit_code == 0


def entries(output: str) -> str:
    """Return the entries for the allow list that a check has printed, as they are."""
    blocks = [block for block in output.split("\n\n") if block.startswith("[[")]
    return "\n\n".join(blocks) + "\n"


RETRIES = "RetryPolicy(initial_interval=timedelta(milliseconds=10), maximum_attempts=3)"
COMPOSE = f"workflow.execute_activity(compose, {{}}, {{}}, retry_policy={RETRIES})".format


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("maximum_attempts=3", "maximum_attempts=4"),
        (
            COMPOSE("guest", TIMEOUT(10)),
            COMPOSE("Guest('\\'a\\\\b\"\\n:apple: [red]\\u00fc\\u200b\\x00', 'replay-gate x')", TIMEOUT(11)),
        ),
    ],
    ids=["number", "hostile text"],
)
def test_check_printed_drift_entry_pasted_is_green(project: Path, old: str, new: str) -> None:
    with (project / "pyproject.toml").open("a", encoding="utf-8") as file:
        file.write('command = "my-app replay"\n')
    change(project, old, new)
    red = run("check", "--no-static")
    assert red.exit_code == 1
    assert "[[drift]]\n" in red.stdout
    (project / "allowed_drift.toml").write_text(entries(red.stdout), encoding="utf-8")
    green = run("check", "--no-static")
    assert green.exit_code == 0, green.stdout + green.stderr


def test_check_printed_coverage_entry_pasted_is_green(project: Path) -> None:
    shutil.rmtree(project / "histories" / "waiting_room")
    red = run("check")
    assert red.exit_code == 1
    (project / "allowed_drift.toml").write_text(entries(red.stdout), encoding="utf-8")
    green = run("check")
    assert green.exit_code == 0, green.stdout + green.stderr


def test_check_findings_name_the_command(project: Path) -> None:
    shutil.rmtree(project / "histories" / "waiting_room")
    outcome = run("check", "--format", "json")
    fixes = [finding["fix"] for finding in json.loads(outcome.stdout)["data"]["findings"]]
    assert fixes
    assert all("replay-gate record" in fix for fix in fixes)


def test_list_and_show_read_histories(project: Path) -> None:
    listed = json.loads(run("list", "-o", "json").stdout)["data"]["histories"]
    assert {row["workflow_type"] for row in listed} == {"greeting", "waiting_room"}
    shown = run("show", "histories/greeting/1.0/success.json")
    assert shown.exit_code == 0
    assert "WorkflowExecutionCompleted" in shown.stdout


def test_record_list_names_scenarios_of_the_table(project: Path) -> None:
    listed = run("record", "--list")
    assert listed.exit_code == 0
    assert {line.split()[0] for line in listed.stdout.splitlines()} >= {"success", "closed", "left"}


def test_record_without_scenarios_exits_2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = run("record")
    assert outcome.exit_code == 2
    assert "[scenarios_unusable]: No scenarios to record are named" in outcome.stderr
    assert "--scenarios MODULE:ATTRIBUTE" in outcome.stderr


def test_record_existing_history_exits_1_and_keeps_it(project: Path) -> None:
    kept = (project / "histories/greeting/1.0/success.json").read_bytes()
    with (project / "pyproject.toml").open("a", encoding="utf-8") as file:
        file.write('release = "1.0"\n')
    outcome = run("record", "success")
    assert outcome.exit_code == 1
    assert "history_exists" in outcome.stderr
    assert (project / "histories/greeting/1.0/success.json").read_bytes() == kept


NATIVE = """
import sys
if "own_native" in vars(sys).setdefault("_own_modules", []):
    raise RuntimeError("it can be initialized once in a process")
sys._own_modules.append("own_native")
"""
OPTIONS = """
from temporalio.worker.workflow_sandbox import SandboxRestrictions
from temporal_replay_gate import WorkerOptions

OPTIONS = WorkerOptions(restrictions=SandboxRestrictions.default.with_passthrough_modules("own_native"))
"""


def test_check_worker_options_of_the_table_are_used(project: Path) -> None:
    (project / "own_native.py").write_text(NATIVE, encoding="utf-8")
    (project / "own_options.py").write_text(OPTIONS, encoding="utf-8")
    change(project, "import asyncio", "import asyncio\nimport own_native")
    refused = run("check", "--no-static")
    assert refused.exit_code == 1
    assert "once in a process" in refused.stdout
    with (project / "pyproject.toml").open("a", encoding="utf-8") as file:
        file.write('worker-options = "own_options:OPTIONS"\n')
    assert run("check", "--no-static").exit_code == 0


def test_check_worker_options_of_another_kind_exit_2(project: Path) -> None:
    with (project / "pyproject.toml").open("a", encoding="utf-8") as file:
        file.write('worker-options = "pathlib:Path"\n')
    outcome = run("check")
    assert outcome.exit_code == 2
    assert "not WorkerOptions" in outcome.stderr


@pytest.mark.parametrize("command", [(), ("check",)])
def test_module_runs_the_command(project: Path, command: tuple[str, ...]) -> None:
    way = [sys.executable, "-m", "temporal_replay_gate", *command, "--help"]
    done = subprocess.run(way, cwd=project, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Usage: ")


@pytest.mark.parametrize("group", [program, command_group(Hooks(histories=Path("tests/replay/a-long-name/histories")))])
def test_help_summaries_fit_in_80_columns(group: click.Group) -> None:
    shown = CliRunner().invoke(group, ["--help"], terminal_width=80).stdout
    listed = shown.partition("\nCommands:\n")[2].partition("\n\n")[0].splitlines()
    assert "  check   Replay recorded histories with the current code." in listed
    assert [line for line in listed if not line.endswith(".") or line.endswith("...")] == []


def test_report_titles_of_good_files_do_not_say_broken(project: Path) -> None:
    kept = project / "histories/greeting/1.0/success.provenance.json"
    kept.unlink()
    change(project, 'name="waiting_room"', 'name="waiting_hall"')
    said = run("check", "--no-static", "--no-coverage").stdout
    assert "provenance [provenance_missing]" in said
    assert "unknown workflow type [workflow_type_unknown]" in said
    assert "broken file" not in said
