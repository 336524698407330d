"""``doctor`` reports each obstacle to a stack with a hint, and changes nothing."""

from __future__ import annotations

import json
import os
import platform
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner, Result

from photo_worker.cli import cli
from photo_worker.cli.doctor import endpoint_addresses
from photo_worker.devkit import doctor, postgres
from photo_worker.devkit.doctor_finding import DoctorFinding
from photo_worker.devkit.errors import S3ServerUnfit
from photo_worker.devkit.layout import StackPaths
from photo_worker.devkit.ports import free_base
from photo_worker.devkit.services import temporal
from photo_worker.devkit.stack_options import StackOptions
from photo_worker.devkit.state import StackRecord

Patch = pytest.MonkeyPatch


@pytest.fixture(autouse=True)
def _healthy(monkeypatch: Patch, tmp_path: Path) -> None:
    """Make disk space, proxies and the user independent of the machine that runs the tests."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.delenv("TEMPORAL_CONFIG_FILE")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**12, 0, 10**12))
    monkeypatch.setattr(postgres.User, "for_postgres", lambda: None)
    monkeypatch.setenv("PHOTO_WORKER_HOME", str(tmp_path / "stacks"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def paths(tmp_path: Path) -> StackPaths:
    return StackPaths(tmp_path / "stacks", "dev")


def made(paths: StackPaths) -> StackRecord:
    """Create a stack's directory and a record with free ports."""
    paths.create()
    record = StackRecord.new("dev", free_base(), durable=True)
    record.save(paths)
    return record


def found(paths: StackPaths, check: str) -> DoctorFinding:
    """Return the most severe finding of a check."""
    order = ("ok", "warning", "problem")
    return max((entry for entry in doctor.examine(paths) if entry.check == check), key=lambda e: order.index(e.state))


def test_examine_healthy_machine_is_ok_and_writes_nothing(paths: StackPaths) -> None:
    findings = doctor.examine(paths)
    # Another stack may have the ports derived from this path.
    assert {entry.state for entry in findings if entry.check != "ports"} == {"ok"}
    assert {entry.hint for entry in findings if entry.state == "ok"} == {None}
    assert "ministack" in found(paths, "aws").what
    assert not paths.home.exists()


def test_examine_documents_names_decoders_and_missing_ones(paths: StackPaths, monkeypatch: Patch) -> None:
    said = found(paths, "documents")
    assert (said.state, said.hint) == ("ok", None)
    assert f"pi-heif {metadata.version('pi-heif')}" in said.what
    monkeypatch.setattr(doctor, "find_spec", lambda name: None if name == "pi_heif" else True)
    for kind in ("native", "compose"):
        findings = doctor.examine(paths, StackOptions(kind=kind))
        (said,) = (entry for entry in findings if entry.check == "documents")
        assert (said.state, said.what) == ("problem", "not installed: pi-heif")
        assert said.hint == "Install what the worker needs: pip install pi-heif."


def test_examine_documents_unknown_version_is_still_ok(paths: StackPaths, monkeypatch: Patch) -> None:
    """For example an optimised build of Pillow, which is a distribution of another name."""

    def unknown(package: str) -> str:
        raise metadata.PackageNotFoundError(package)

    monkeypatch.setattr(metadata, "version", unknown)
    said = found(paths, "documents")
    assert (said.state, said.hint) == ("ok", None)
    assert said.what == "HEIC, WebP, PDF and TIFF are opened with pi-heif, pillow, pypdfium2"


def no_ministack(monkeypatch: Patch, _: StackPaths) -> None:
    monkeypatch.setattr(doctor, "find_spec", lambda name: None if name == "ministack" else True)


def no_postgres(monkeypatch: Patch, paths: StackPaths) -> None:
    monkeypatch.setenv("PHOTO_PG_BIN", str(paths.home / "nowhere"))


def temporal_of_another_machine(monkeypatch: Patch, paths: StackPaths) -> None:
    program = paths.home.parent / "temporal"
    program.write_bytes(b"\x7fELF of another machine")
    program.chmod(0o755)
    monkeypatch.setattr(temporal, "temporal_program", lambda: program)


def temporal_that_fails(monkeypatch: Patch, paths: StackPaths) -> None:
    program = paths.home.parent / "temporal"
    program.write_text("#!/bin/sh\necho libodd.so is missing >&2\nexit 127\n")
    program.chmod(0o755)
    monkeypatch.setattr(temporal, "temporal_program", lambda: program)


def windows(monkeypatch: Patch, _: StackPaths) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Windows")


def musl(monkeypatch: Patch, _: StackPaths) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))


def python_of_tomorrow(monkeypatch: Patch, _: StackPaths) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 99, 0, "final", 0))


def file_for_a_home(_: Patch, paths: StackPaths) -> None:
    paths.home.write_text("a file")


def linked_stack(_: Patch, paths: StackPaths) -> None:
    paths.home.mkdir()
    paths.root.symlink_to(paths.home)


def root_without_nobody(monkeypatch: Patch, _: StackPaths) -> None:
    def missing() -> None:
        raise KeyError("nobody")

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(postgres.User, "for_postgres", missing)


def free_megabytes(count: int) -> Callable[[Patch, StackPaths], None]:
    def change(monkeypatch: Patch, _: StackPaths) -> None:
        free = count * 1024 * 1024
        monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**12, 0, free))

    return change


def record_of_another_version(_: Patch, paths: StackPaths) -> None:
    made(paths)
    paths.record.write_text('{"format": 99}')


def data_of_another_postgres(_: Patch, paths: StackPaths) -> None:
    made(paths)
    (paths.data / "postgres-9").mkdir()


def proxy(monkeypatch: Patch, _: StackPaths) -> None:
    monkeypatch.setenv("http_proxy", "http://proxy.example:3128")


@pytest.mark.parametrize(
    ("change", "check", "state", "words"),
    [
        (no_ministack, "aws", "problem", "ministack"),
        (no_postgres, "postgres", "problem", "nowhere"),
        (temporal_of_another_machine, "temporal", "problem", "does not run"),
        (temporal_that_fails, "temporal", "problem", "libodd.so is missing"),
        (windows, "platform", "problem", "Windows"),
        (musl, "platform", "problem", "glibc"),
        (python_of_tomorrow, "python", "warning", "newer"),
        (file_for_a_home, "directory", "problem", "not a directory"),
        (linked_stack, "directory", "problem", "symbolic link"),
        (root_without_nobody, "user", "problem", "nobody"),
        (free_megabytes(100), "disk", "problem", "100 MB"),
        (free_megabytes(1000), "disk", "warning", "1000 MB"),
        (record_of_another_version, "state", "problem", "another version"),
        (data_of_another_postgres, "state", "problem", "postgres-9"),
        (proxy, "proxies", "warning", "127.0.0.1"),
    ],
)
def test_examine_misconfigured_machine_reports_finding_with_hint(
    change: Callable[[Patch, StackPaths], None],
    check: str,
    state: str,
    words: str,
    paths: StackPaths,
    monkeypatch: Patch,
) -> None:
    change(monkeypatch, paths)
    finding = found(paths, check)
    assert finding.state == state
    assert words in finding.what
    assert finding.hint


def test_examine_proxies_with_loopback_in_no_proxy_is_ok(paths: StackPaths, monkeypatch: Patch) -> None:
    proxy(monkeypatch, paths)
    monkeypatch.setenv("no_proxy", "localhost,127.0.0.1")
    assert found(paths, "proxies").state == "ok"


def test_examine_ports_taken_names_service_and_owner(paths: StackPaths) -> None:
    base = made(paths).base_port
    assert found(paths, "ports").state == "ok"
    with socket.create_server(("127.0.0.1", base + 4)):
        finding = found(paths, "ports")
    assert finding.state == "problem"
    assert f"{base + 4}, which postgres needs, is taken by process {os.getpid()}" in finding.what
    assert "--base-port" in (finding.hint or "")


def test_examine_state_names_services_of_killed_supervisor(paths: StackPaths) -> None:
    made(paths)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        entry = {"name": "aws", "state": "running", "pid": process.pid}
        entry["started"] = psutil.Process(process.pid).create_time()
        known = {"token": "", "pid": 1, "phase": "kept", "reaper": 1, "services": [entry]}
        paths.processes.write_text(json.dumps(known))
        finding = found(paths, "state")
        process.communicate()
    assert finding.state == "warning"
    assert finding.what.endswith(": aws")
    assert "photo-worker down" in (finding.hint or "")
    assert found(paths, "state").state == "ok", "a number that another process may get is no trace"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["doctor", *arguments])


def test_doctor_command_unreachable_endpoint_exits_1(paths: StackPaths, monkeypatch: Patch) -> None:
    made(paths)
    healthy = run("-o", "json")
    assert healthy.exit_code == 0, healthy.output
    assert json.loads(healthy.stdout)["data"].keys() == {"problems", "warnings", "checks"}
    assert run().stdout.endswith("\nNo problems, no warnings.\n")

    base = free_base()
    with socket.create_server(("127.0.0.1", base)):
        (Path.cwd() / ".env").write_text(
            f"TEMPORAL_TARGET=127.0.0.1:{base}\nDATABASE_URL=postgresql://u:hunter2@127.0.0.1:{base + 1}/d\n"
        )
        sick = run("-o", "json")
        text = run()
    assert (sick.exit_code, text.exit_code) == (1, 1)
    envelope = json.loads(sick.stdout)
    assert envelope["status"] == "failed"
    endpoints = [entry for entry in envelope["data"]["checks"] if entry["check"] == "endpoint"]
    assert [entry["state"] for entry in endpoints] == ["ok", "problem"]
    assert f"127.0.0.1:{base + 1}, of DATABASE_URL in .env, line 2, cannot be reached" in endpoints[1]["what"]
    assert endpoints[1]["hint"] in text.stdout
    assert "1 problem, no warnings." in text.stdout
    assert "hunter2" not in sick.output + text.output


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("MAX_ACTIVITIES=lots", "MAX_ACTIVITIES in .env, line 1"),
        ("TEMPORAL_PROFILE=cloud", "DATABASE_URL is not set"),
    ],
)
def test_doctor_command_invalid_settings_are_a_problem(paths: StackPaths, line: str, words: str) -> None:
    made(paths)
    (Path.cwd() / ".env").write_text(f"{line}\n")
    result = run("-o", "json")
    assert result.exit_code == 1
    (problem,) = (entry for entry in json.loads(result.stdout)["data"]["checks"] if entry["state"] == "problem")
    assert problem["check"] == "settings"
    assert words in problem["what"]


def test_addresses_parses_hosts_and_default_ports() -> None:
    found = endpoint_addresses(
        {
            "TEMPORAL_TARGET": "temporal.example:7233",
            "DATABASE_URL": "postgresql://u:p@db.example/d",
            "AWS_ENDPOINT_URL_S3": "https://s3.example",
            "AWS_ENDPOINT_URL": "http://[::1]:4566/",
            "AWS_REGION": "eu-central-1",
            "TEMPORAL_ADDRESS": " ",
        }
    )
    assert found == {
        "TEMPORAL_TARGET": ("temporal.example", 7233),
        "DATABASE_URL": ("db.example", 5432),
        "AWS_ENDPOINT_URL_S3": ("s3.example", 443),
        "AWS_ENDPOINT_URL": ("::1", 4566),
    }
    assert endpoint_addresses({"DATABASE_URL": "postgresql://a:1,b:2/d"}) == {}


def test_examine_s3_missing_server_names_prefetch_command(
    paths: StackPaths, monkeypatch: Patch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("PHOTO_WORKER_MINIO", raising=False)
    findings = doctor.examine(paths, StackOptions(s3="minio"))
    (server,) = [finding for finding in findings if finding.check == "s3"]
    assert server.state == "problem"
    assert "photo-worker prefetch --s3 minio" in server.what
    # A server that is not requested is not checked.
    assert not [finding for finding in doctor.examine(paths) if finding.check == "s3"]
    with pytest.raises(S3ServerUnfit, match="it has localstack and minio"):
        doctor.examine(paths, StackOptions(kind="compose", s3="seaweedfs"))


def test_examine_external_service_is_probed_not_own_program(paths: StackPaths) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        closed = server.getsockname()[1]
    made(paths).with_(external={"temporal": f"127.0.0.1:{closed}"}).save(paths)
    (temporal,) = [finding for finding in doctor.examine(paths) if finding.check == "temporal"]
    assert temporal.state == "problem"
    assert f"nothing responds at 127.0.0.1:{closed}" in temporal.what
    assert "--external none" in str(temporal.hint)
