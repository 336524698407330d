"""The engine is found, distinguished from a remote one, and left unchanged."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import psutil
import pytest
from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import DockerContainer

from tests.containers import engine as engines
from tests.containers.engine import COMPOSE_FILE, OWNER, Engine, NoContainer, image_of, open_engine, sweep

pytest_plugins = ["tests.containers.fixtures"]

_STARTS_AND_IS_KILLED = """
import os, signal
from testcontainers.core.container import DockerContainer
from tests.containers.engine import image_of, open_engine

with open_engine() as engine:
    sleeper = DockerContainer(image_of("postgres"), entrypoint=["sleep", "600"])
    with engine.running(sleeper):
        print(sleeper.get_container_id(), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_image_of_reads_compose_file_and_override(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PW_POSTGRES_IMAGE", raising=False)
    text = COMPOSE_FILE.read_text("utf-8")
    for service in ("temporal", "postgres", "aws", "s3", "textract"):
        assert f":-{image_of(service)}}}" in text
    assert image_of("postgres").startswith("postgres:")
    monkeypatch.setenv("PW_POSTGRES_IMAGE", "mirror.example/postgres:18")
    assert image_of("postgres") == "mirror.example/postgres:18"
    with pytest.raises(LookupError, match="nosuch"):
        image_of("nosuch")


def test_open_engine_without_engine_gives_reason(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/no.sock")
    with pytest.raises(NoContainer, match="no Docker engine responds"), open_engine():
        pass


def test_require_unavailable_image_gives_reason(docker_engine: Engine) -> None:
    with pytest.raises(NoContainer, match="cannot be pulled"):
        docker_engine.require("127.0.0.1:9/photo-worker/none:1")


def test_throwaway_container_publishes_on_loopback_only(docker_engine: Engine, throwaway_postgres: str) -> None:
    if not docker_engine.local:
        pytest.skip("the engine is not on this machine")
    (container,) = _own(docker_engine)
    bindings = [binding for found in container.attrs["NetworkSettings"]["Ports"].values() for binding in found or []]
    assert [binding["HostIp"] for binding in bindings] == ["127.0.0.1"]
    assert bindings[0]["HostPort"] in throwaway_postgres


def _own(engine: Engine) -> list[Any]:
    owner = engines._owner()
    return list(engine.client.containers.list(filters={"label": f"{OWNER}={owner}"}))


def test_running_when_block_fails_removes_container(docker_engine: Engine) -> None:
    sleeper = DockerContainer(image_of("postgres"), entrypoint=["sleep", "600"])
    seen = []

    def fail() -> None:
        with docker_engine.running(sleeper):
            seen.append(sleeper.get_container_id())
            assert seen[0] in _ids(docker_engine)
            raise RuntimeError("the test fails")

    with pytest.raises(RuntimeError, match="the test fails"):
        fail()
    assert seen[0] not in _ids(docker_engine)


def test_sweep_removes_containers_of_killed_run(docker_engine: Engine) -> None:
    killed = subprocess.run(
        [sys.executable, "-c", _STARTS_AND_IS_KILLED],
        cwd=COMPOSE_FILE.parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    left = killed.stdout.strip()
    assert left, killed.stderr
    mine = DockerContainer(image_of("postgres"), entrypoint=["sleep", "600"])
    with docker_engine.running(mine):
        # Another test process may have swept before.
        sweep(docker_engine.client)
        assert left not in _ids(docker_engine)
        assert mine.get_container_id() in _ids(docker_engine)


def _ids(engine: Engine) -> set[str]:
    return {str(one.id) for one in engine.client.containers.list(all=True, ignore_removed=True)}


def test_is_orphan_with_reused_pid_is_true() -> None:
    node, pid, created = engines._owner().split("/")
    assert not engines._is_orphan(f"{node}/{pid}/{created}")
    assert engines._is_orphan(f"{node}/{pid}/{float(created) - 60:.2f}")
    assert engines._is_orphan(f"{node}/{max(psutil.pids()) + 100_000}/{created}")
    assert not engines._is_orphan(f"another-{uuid4().hex}/{pid}/1.00")


@pytest.mark.parametrize(
    ("config", "address"),
    [
        ([{"Subnet": "172.30.0.0/16", "Gateway": "172.30.0.9"}], "172.30.0.9"),
        ([{"Subnet": "172.30.0.0/16"}], "172.30.0.1"),
        ([], None),
    ],
)
def test_bridge_address_is_gateway_or_first_address(config: list[dict[str, str]], address: str | None) -> None:
    # A container on the engine's network has another address of the same subnet.
    client: Any = SimpleNamespace(
        networks=SimpleNamespace(get=lambda name: SimpleNamespace(attrs={"IPAM": {"Config": config}}))
    )
    assert engines._bridge_address(client) == address


def test_open_engine_restores_testcontainers_settings(docker_engine: Engine) -> None:
    before = (testcontainers_config.ryuk_disabled, testcontainers_config.tc_host_override)
    with open_engine() as again:
        assert again.local == docker_engine.local
    assert (testcontainers_config.ryuk_disabled, testcontainers_config.tc_host_override) == before
