"""``[tool.replay-gate]``, hooks by a dotted path and by an entry point, and what is refused."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from click.testing import CliRunner

from temporal_replay_gate import Hooks, config
from temporal_replay_gate.config import read_hooks
from temporal_replay_gate.errors import ConfigInvalid
from temporal_replay_gate.main import main
from temporal_replay_gate.scrub import scrub
from temporal_replay_gate.vocabulary import Vocabulary

OWN = Hooks(command="own gate", workflows="own.workflows", release="7")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def table(folder: Path, text: str) -> Path:
    path = folder / "pyproject.toml"
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
    outcome = CliRunner().invoke(main, ["check"])
    assert outcome.exit_code == 2
    assert "[replay_config_invalid]" in outcome.stderr
    assert "workflows" in outcome.stderr
    assert CliRunner().invoke(main, ["--help"]).exit_code == 0


def test_vocabulary_default_keeps_ids_and_temporals_own_words() -> None:
    vocabulary = Vocabulary()
    assert vocabulary.keeps("8c5b4f0e-7a51-4a52-9f3a-2f6f3c1d9b77")
    assert vocabulary.keeps("Workflow cancelled")
    assert not vocabulary.keeps("Ada")
