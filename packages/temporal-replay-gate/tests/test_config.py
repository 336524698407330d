"""``[tool.replay-gate]``, hooks by a dotted path and by an entry point, and what is refused."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from click.testing import CliRunner

from temporal_replay_gate import Hooks, config
from temporal_replay_gate.config import read_hooks
from temporal_replay_gate.errors import ConfigInvalid, ReplayTargetInvalid, ScenariosUnusable
from temporal_replay_gate.main import program
from temporal_replay_gate.scrub import scrub
from temporal_replay_gate.service import VariablesService
from temporal_replay_gate.vocabulary import Vocabulary

OWN = Hooks(command="own gate", workflows="own.workflows", release="7")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Work in a new directory, and forget the modules that were imported from it."""
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


def table(directory: Path, text: str) -> Path:
    path = directory / "pyproject.toml"
    path.write_text(f"[tool.replay-gate]\n{text}", encoding="utf-8")
    return path


def test_read_hooks_without_file_or_table_has_defaults(here: Path) -> None:
    assert read_hooks() == Hooks()
    (here / "pyproject.toml").write_text("[project]\nname = 'x'\n", encoding="utf-8")
    assert read_hooks() == Hooks()


def test_read_hooks_keys_set_fields(here: Path) -> None:
    (here / "own_release.py").write_text("__version__ = '3.4'\n", encoding="utf-8")
    table(here, 'workflows = ["a:A", "b"]\nhistories = "past"\nrelease = "own_release:__version__"\ncommand = "x"\n')
    hooks = read_hooks()
    assert (hooks.workflows, hooks.histories, hooks.release, hooks.command) == ("a:A,b", Path("past"), "3.4", "x")
    assert hooks.code().workflows == "a:A,b"


def test_read_hooks_table_of_words_keeps_them_in_scrubbed_histories(here: Path) -> None:
    table(here, '[tool.replay-gate.vocabulary]\nwords = ["paid"]\nforms = ["INV-[0-9]+"]\n')
    vocabulary = read_hooks().vocabulary()
    assert vocabulary.keeps("paid")
    assert vocabulary.keeps("INV-12")
    assert not vocabulary.keeps("INV-x")
    failed = {"failure": {"message": "Ada", "applicationFailureInfo": {}}}
    event = {"eventType": "WorkflowExecutionFailed", "workflowExecutionFailedEventAttributes": failed}
    text = str(scrub({"events": [event]}, vocabulary=vocabulary))
    assert "Ada" not in text


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('workflow = "a"\n', "no key 'workflow'; known are command, connect"),
        ("workflows = 3\n", "workflows is no string"),
        ("histories = []\n", "histories is no string"),
        ('release = "nowhere_at_all:x"\n', "release = 'nowhere_at_all:x'"),
        ('hooks = "nobody"\n', "no package has hooks of the name 'nobody'"),
        ('hooks = "pathlib:Path"\n', "not Hooks"),
        ("[tool.replay-gate.vocabulary]\nword = []\n", "no key 'word'"),
        ('[tool.replay-gate.vocabulary]\nforms = ["("]\n', "no regular expression"),
        ("[tool\n", "cannot be used"),
    ],
)
def test_read_hooks_invalid_table_is_refused(here: Path, text: str, says: str) -> None:
    table(here, text)
    with pytest.raises(ConfigInvalid) as caught:
        read_hooks()
    assert says in caught.value.message


def test_read_hooks_lazy_path_is_refused_when_used(here: Path) -> None:
    table(here, 'vocabulary = "pathlib:Path"\n')
    with pytest.raises(ConfigInvalid, match="not Vocabulary"):
        read_hooks().vocabulary()


def test_read_hooks_missing_named_file_is_refused(here: Path) -> None:
    with pytest.raises(ConfigInvalid, match="no such file"):
        read_hooks(here / "gate.toml")


def test_read_hooks_by_path_are_overridden_by_keys(here: Path) -> None:
    (here / "own_hooks.py").write_text(
        "from temporal_replay_gate import Hooks\nHOOKS = Hooks(command='own gate', release='7')\n",
        encoding="utf-8",
    )
    table(here, 'hooks = "own_hooks:HOOKS"\nrelease = "8"\n')
    hooks = read_hooks()
    assert (hooks.command, hooks.release) == ("own gate", "8")


def test_read_hooks_by_entry_point(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = EntryPoint("own", f"{__name__}:OWN", config.ENTRY_POINTS)
    monkeypatch.setattr(EntryPoint, "load", lambda self: OWN)
    monkeypatch.setattr(config, "entry_points", lambda group: [entry] if group == config.ENTRY_POINTS else [])
    assert read_hooks(name="own") is OWN


def test_main_unknown_key_exits_2_and_names_known_ones(here: Path) -> None:
    table(here, 'workflow = "a"\n')
    outcome = CliRunner().invoke(program, ["check"])
    assert outcome.exit_code == 2
    assert "[replay_config_invalid]" in outcome.stderr
    assert "workflows" in outcome.stderr
    assert CliRunner().invoke(program, ["--help"]).exit_code == 0


def test_vocabulary_default_keeps_ids_and_temporals_own_words() -> None:
    vocabulary = Vocabulary()
    assert vocabulary.keeps("8c5b4f0e-7a51-4a52-9f3a-2f6f3c1d9b77")
    assert vocabulary.keeps("Workflow cancelled")
    assert not vocabulary.keeps("Ada")


# Modules and functions that a table may name by mistake, and what the message says of each.
EXITS = "import sys\n\nsys.exit(0)\n"
ENDS_PROCESS = "the module own_code ends the process when it is imported (SystemExit: 0)"
RAISES = "raise RuntimeError('boom')\n"
FUNCTIONS = """import sys
def needs(a): return a
def raises(): raise RuntimeError("boom")
def exits(): sys.exit(0)
"""


@pytest.mark.parametrize(
    ("line", "code", "says"),
    [
        ('hooks = "own_code:X"', EXITS, ENDS_PROCESS),
        ('release = "own_code:X"', EXITS, ENDS_PROCESS),
        ('hooks = "own_code:X"', RAISES, "RuntimeError: boom"),
        ('release = "own_code:X"', RAISES, "RuntimeError: boom"),
        ('hooks = "own_code:X"', "def (:\n", "SyntaxError: invalid syntax"),
        ('hooks = "own_code:needs"', FUNCTIONS, "TypeError: needs() missing 1 required positional argument"),
        ('hooks = "own_code:raises"', FUNCTIONS, "RuntimeError: boom"),
        ('hooks = "own_code:exits"', FUNCTIONS, "SystemExit: 0"),
    ],
)
def test_main_broken_hooks_exit_2_and_say_why(here: Path, line: str, code: str, says: str) -> None:
    (here / "own_code.py").write_text(code, encoding="utf-8")
    (here / "x.json").write_text("garbage", encoding="utf-8")
    table(here, f"{line}\n")
    done = run("check", "x.json", "--workflows", "own:X")
    assert (done.returncode, done.stdout) == (2, "")
    assert "[replay_config_invalid]" in done.stderr
    assert says in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the program in the working directory as a child process."""
    program = [sys.executable, "-m", "temporal_replay_gate.main", *arguments]
    return subprocess.run(program, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    ("key", "given"),
    [("scenarios", ("record", "--list")), ("connect", ("check", "--from-server", "--workflows", "own_flows:Own"))],
)
def test_main_scenarios_or_connect_that_exit_are_refused(here: Path, key: str, given: tuple[str, ...]) -> None:
    (here / "own_code.py").write_text(EXITS, encoding="utf-8")
    flows = "from temporalio import workflow\n@workflow.defn\nclass Own:\n    @workflow.run\n"
    (here / "own_flows.py").write_text(f"{flows}    async def run(self) -> None:\n        return\n", encoding="utf-8")
    table(here, f'{key} = "own_code:X"\n')
    done = run(*given)
    assert done.returncode == 2
    assert "[replay_config_invalid]" in done.stderr
    assert ENDS_PROCESS in " ".join(done.stderr.split())


@pytest.mark.parametrize("key", ["converter", "worker-options"])
def test_main_record_with_options_that_exit_is_refused(here: Path, key: str) -> None:
    (here / "own_code.py").write_text(EXITS, encoding="utf-8")
    table(here, f'{key} = "own_code:X"\n')
    with pytest.raises(ReplayTargetInvalid, match=r"own_code:X .*ends the process"):
        asyncio.run(VariablesService(read_hooks()).connect())


@pytest.mark.parametrize("raised", ["SystemExit(0)", "RuntimeError('boom')"])
def test_read_hooks_by_broken_entry_point_are_refused(here: Path, monkeypatch: pytest.MonkeyPatch, raised: str) -> None:
    (here / "own_entry.py").write_text(f"raise {raised}\n", encoding="utf-8")
    monkeypatch.syspath_prepend(here)
    entry = EntryPoint("own", "own_entry:HOOKS", config.ENTRY_POINTS)
    monkeypatch.setattr(config, "entry_points", lambda group: [entry])
    with pytest.raises(ConfigInvalid, match=r"own_entry ends the process|RuntimeError: boom"):
        read_hooks(name="own")


@pytest.mark.parametrize("code", ["raise KeyboardInterrupt\n", "def X(): raise KeyboardInterrupt\n"])
def test_read_hooks_interrupt_stays_an_interrupt(here: Path, code: str) -> None:
    (here / "own_code.py").write_text(code, encoding="utf-8")
    table(here, 'hooks = "own_code:X"\n')
    with pytest.raises(KeyboardInterrupt):
        read_hooks()


def test_read_hooks_reported_error_of_a_function_passes(here: Path) -> None:
    code = "from temporal_replay_gate.errors import ScenariosUnusable\n\n"
    (here / "own_suite.py").write_text(f"{code}def X(): raise ScenariosUnusable(target='t', reason='r')\n")
    table(here, 'scenarios = "own_suite:X"\n')
    scenarios = read_hooks().scenarios
    assert scenarios is not None
    with pytest.raises(ScenariosUnusable):
        scenarios({})


def test_main_empty_workflows_are_refused_even_if_the_table_names_some(here: Path) -> None:
    table(here, 'workflows = "own:X"\n')
    (here / "x.json").write_text("garbage", encoding="utf-8")
    done = run("check", "x.json", "--workflows", "")
    assert done.returncode == 2
    assert "[replay_target_invalid]" in done.stderr
    assert "--workflows is empty" in done.stderr
