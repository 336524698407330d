"""Drift entries of the allow list: each excuses one change by its old and its new value, and no later change."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from temporal_replay_gate.allow import apply, as_toml, read
from temporal_replay_gate.commands import Command
from temporal_replay_gate.drift import compare
from temporal_replay_gate.errors import AllowListInvalid
from temporal_replay_gate.findings import Finding

ENTRY = """[[drift]]
workflow = "W"
where = "activity:ocr"
what = "{what}"
{change}
reason = "meant"
"""


def written(directory: Path, what: str, change: str) -> Path:
    path = directory / "allowed_drift.toml"
    path.write_text(ENTRY.format(what=what, change=change), encoding="utf-8")
    return path


def drift(what: str, old: object, new: object) -> list[Finding]:
    steps = [Command("activity", "1", "ocr", {what: value}, event_id=5) for value in (old, new)]
    return compare(steps[:1], steps[1:], "W")


HEARTBEAT = "was = '120.0'\nnow = '30'"


def test_drift_entry_excuses_its_change(tmp_path: Path) -> None:
    path = written(tmp_path, "heartbeat_timeout", HEARTBEAT)
    red, allowed = apply(read(path), drift("heartbeat_timeout", 120.0, 30.0), path)
    assert (red, len(allowed)) == ([], 1)


def test_drift_entry_other_value_is_red_and_stale(tmp_path: Path) -> None:
    path = written(tmp_path, "heartbeat_timeout", HEARTBEAT)
    red, allowed = apply(read(path), drift("heartbeat_timeout", 120.0, 0.001), path)
    assert [finding.code for finding in red] == ["drift_heartbeat_timeout", "allow_entry_stale"]
    assert allowed == []


def test_drift_entry_matches_changed_key_of_large_argument(tmp_path: Path) -> None:
    path = written(tmp_path, "arguments", """was = '{"engine": "a"}'\nnow = '{"engine": "b"}'""")
    meant = drift("arguments", [{"key": "k", "engine": "a"}], [{"key": "k", "engine": "b"}])
    assert len(apply(read(path), meant, path)[1]) == 1
    other = drift("arguments", [{"key": "k", "engine": "a"}], [{"key": "sha", "engine": "b"}])
    assert "drift_arguments" in {finding.code for finding in apply(read(path), other, path)[0]}


def test_drift_finding_fix_is_usable_as_entry(tmp_path: Path) -> None:
    (finding,) = drift("arguments", ["it's"], [{"a": [True, None, 'the "\\n\ud800\x7f\u00e9\u2028']}])
    path = tmp_path / "allowed_drift.toml"
    path.write_text(finding.for_command("my-app replay").fix.partition("\n\n")[2], encoding="utf-8")
    assert apply(read(path), [finding], path) == ([], [finding])


def test_entry_of_any_names_is_read_back(tmp_path: Path) -> None:
    names = {
        "workflow": 'a"b',
        "where": "signal:\\ü\u00a0\u200b\x00\x7f\n",
        "what": "presence",
        "was": "true",
        "now": '"\\""',
    }
    path = tmp_path / "allowed_drift.toml"
    path.write_text(as_toml("drift", **names), encoding="utf-8")
    (entry,) = read(path)
    assert {name: getattr(entry, name) for name in names} == names
    assert path.read_text(encoding="utf-8").replace("\n", "").isprintable()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("", "lacks now and was"),
        ("was = '120'", "lacks now: without the old"),
        ("was = 'x y'\nnow = '1'", "is not JSON"),
    ],
)
def test_drift_entry_without_change_is_refused(tmp_path: Path, change: str, says: str) -> None:
    with pytest.raises(AllowListInvalid, match=says):
        read(written(tmp_path, "heartbeat_timeout", change))


DEEP = "[" * 50_000 + "]" * 50_000


@pytest.mark.parametrize("nested", [DEEP, "[" * 101 + "]" * 101])
def test_drift_entry_value_nested_too_deeply_is_refused(tmp_path: Path, nested: str) -> None:
    path = written(tmp_path, "input", f"was = '1'\nnow = '{nested}'")
    with pytest.raises(AllowListInvalid, match=r"now of \[\[drift\]\] 1 is nested more than 100 deep"):
        read(path)


def test_drift_entry_value_nested_100_deep_matches(tmp_path: Path) -> None:
    nested = "[" * 100 + "]" * 100
    (entry,) = read(written(tmp_path, "input", f"was = '1'\nnow = '{nested}'"))
    finding = Finding("drift", "c", "", "", "", workflow_type="W", where="activity:ocr input", was="1", now=nested)
    assert entry.matches(finding)


def test_allow_list_nested_too_deeply_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "allowed_drift.toml"
    path.write_text(f"drift = {DEEP}\n", encoding="utf-8")
    with pytest.raises(AllowListInvalid, match="it is nested too deeply"):
        read(path)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_allow_list_pipe_or_device_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "allowed_drift.toml"
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    with pytest.raises(AllowListInvalid, match="a pipe, a socket or a device"):
        read(path)
