"""The host names that the emulator accepts, by its option and by the product's variable."""

from __future__ import annotations

from pathlib import Path

import pytest

from textract_support.clients import send
from textract_support.emulator import running


@pytest.mark.parametrize("way", ["option", "variable"])
def test_allow_host_accepts_only_listed_host_names(tmp_path: Path, way: str) -> None:
    # The variable is that of this product's command.
    program = ["textract_local.server"] if way == "option" else ["photo_worker.cli", "textract-emulator"]
    argv = ["-m", *program, "--port", "0", "--data", str(tmp_path / "data")]
    named = ["--allow-host", "textract", "--allow-host", "host.docker.internal"] if way == "option" else []
    variables = {"PHOTO_WORKER_ALLOWED_HOSTS": "textract,host.docker.internal"} if way == "variable" else {}
    with running(tmp_path, variables, *argv, *named) as started:
        for host in ("textract:8765", "host.docker.internal:1", "127.0.0.1"):
            assert send(started.port, "GET", "/_emulator/counters", None, {"Host": host}).status == 200, host
        for host in ("aws:8765", "evil.textract"):
            assert send(started.port, "GET", "/_emulator/counters", None, {"Host": host}).status == 403, host
