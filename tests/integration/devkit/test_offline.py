"""An offline stack sends nothing out: it works in a network namespace in which every packet is recorded."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from photo_worker.devkit.errors import S3ServerMissing
from photo_worker.devkit.services.seaweedfs import seaweedfs_program
from photo_worker.devkit.stack import Stack
from tests.support.harness import FIXTURES

pytestmark = pytest.mark.timeout(300)

ROOT = Path(__file__).resolve().parents[3]
PHOTO = sorted((FIXTURES / "photos").glob("*.png"))[0]
_SEALED = ("unshare", "--net", "--mount")


def why_not(s3: str) -> str | None:
    """Return why this machine cannot run the test, or None."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "needs root on Linux"
    for program in ("unshare", "ip", "mount"):
        if shutil.which(program) is None:
            return f"needs {program}"
    if s3 == "seaweedfs":
        try:
            seaweedfs_program()
        except S3ServerMissing as error:
            return error.message
    # Root in a container may lack this permission.
    done = subprocess.run([*_SEALED, "ip", "link", "set", "lo", "up"], capture_output=True, text=True, check=False)
    return done.stderr.strip() if done.returncode else None


@pytest.fixture
def home() -> Iterator[Path]:
    home = Path(tempfile.mkdtemp(prefix="photo-worker-offline-"))
    # Root's Postgres runs as another user: if it could not pass, its data would be kept elsewhere.
    home.chmod(0o711)
    yield home
    Stack(home).delete()
    shutil.rmtree(home)


@pytest.mark.parametrize("s3", ["ministack", "seaweedfs"])
def test_demo_offline_sends_no_packet(s3: str, home: Path, tmp_path: Path) -> None:
    if reason := why_not(s3):
        pytest.skip(reason)
    photos = tmp_path / "photos"
    photos.mkdir()
    shutil.copy(PHOTO, photos)
    program = [sys.executable, "-m", "photo_worker.cli"]
    demo = [*program, "demo", "--offline", "--s3", s3, "--fixtures", str(photos), "-o", "json"]
    commands = [demo, [*program, "status", "-o", "json"], [*program, "down"]]
    sealed = [
        *_SEALED,
        sys.executable,
        "-m",
        "tests.integration.devkit.network_sandbox",
        str(tmp_path),
        json.dumps(commands),
    ]
    env = {name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "LANG"}}
    # Variables that a shell may have, and that would lead to other machines.
    env |= {"PHOTO_WORKER_HOME": str(home), "HTTPS_PROXY": "http://192.0.2.2:3128"}
    env |= {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
    done = subprocess.run(sealed, cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stderr
    seen: dict[str, Any] = json.loads(done.stdout)
    assert {"192.0.2.1 port 9", "10.255.0.2 port 53"} <= set(seen["control"]), "the tap sees nothing"
    for response in seen["responses"]:
        assert response["code"] == 0, response
    jobs = json.loads(seen["responses"][0]["stdout"])["data"]["jobs"]
    assert [job["report"]["status"] for job in jobs] == ["succeeded"], jobs
    names = {service["name"] for service in json.loads(seen["responses"][1]["stdout"])["data"]["services"]}
    assert ("s3" in names) == (s3 != "ministack")
    assert seen["packets"] == []
