"""Jobs on a machine with a proxy: every service is local, so no client uses the proxy."""

from __future__ import annotations

import json
import os
import shlex
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

pytestmark = [pytest.mark.stack, pytest.mark.timeout(240)]

ROOT = Path(__file__).resolve().parents[2]
PHOTO = ROOT / "fixtures" / "photos" / "accents.jpg"
NAMES = ("http_proxy", "https_proxy", "all_proxy", "grpc_proxy")


class Recorder:
    """A listener that records connections and is no proxy."""

    def __init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self.seen: list[bytes] = []
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        while True:
            connection, _ = self._server.accept()
            with connection:
                said = connection.recv(200)
                if said == b"end":
                    return
                self.seen.append(said)

    def close(self) -> None:
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as connection:
            connection.sendall(b"end")
        self._thread.join(10)
        self._server.close()


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    made = Recorder()
    yield made
    made.close()


def behind(port: int) -> dict[str, str]:
    """Return this process's environment with a proxy in each variable that a client may read, and without NO_PROXY."""
    kept = {name: value for name, value in os.environ.items() if name.lower() != "no_proxy"}
    proxy = f"http://127.0.0.1:{port}"
    kept["PHOTO_WORKER_HOME"] = kept["PHOTO_WORKER_TEST_HOME"]
    return kept | {spelling: proxy for name in NAMES for spelling in (name, name.upper())}


def photo_worker(*arguments: str, env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "photo_worker.cli", *arguments],
        env=dict(env),
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


@pytest.mark.parametrize("proxy", ["that is away", "that listens"])
def test_demo_behind_proxy_bypasses_it(
    proxy: str, recorder: Recorder, stack_env: dict[str, str], tmp_path: Path
) -> None:
    assert stack_env["TEMPORAL_TARGET"]
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "photo.jpg").write_bytes(PHOTO.read_bytes())
    env = behind(recorder.port if proxy == "that listens" else free_port())
    # A job needs the worker, the client, storage, the emulator's OCR and the database.
    done = photo_worker("demo", "--fixtures", str(photos), "--fresh", "--name", stack(env), "-o", "json", env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    (job,) = json.loads(done.stdout)["data"]["jobs"]
    assert job["error"] is None
    assert job["report"]["status"] == "succeeded"
    assert recorder.seen == []


@pytest.mark.usefixtures("stack_env")
def test_env_behind_proxy_sets_no_proxy(recorder: Recorder) -> None:
    env = behind(recorder.port) | {"NO_PROXY": "corp.example"}
    done = photo_worker("env", "--name", stack(env), env=env)
    assert done.returncode == 0, done.stderr
    told = dict(line.split("=", 1) for line in shlex.split(done.stdout))
    assert told["NO_PROXY"] == told["no_proxy"] == "corp.example,127.0.0.1,localhost,::1"
    program = "import sys, urllib.request; urllib.request.urlopen(sys.argv[1] + '/_ministack/health', timeout=20)"
    for variables, passes in ((env | told, True), (env, False)):
        asked = subprocess.run(
            [sys.executable, "-c", program, told["AWS_ENDPOINT_URL_SNS"]],
            env=variables,
            capture_output=True,
            check=False,
            timeout=60,
        )
        assert (asked.returncode == 0) is passes
        assert bool(recorder.seen) is not passes


def stack(env: Mapping[str, str]) -> str:
    return env["PHOTO_WORKER_TEST_STACK"]
