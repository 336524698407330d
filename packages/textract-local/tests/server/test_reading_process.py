"""The process that reads pages, when the server that started it is gone."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize("reader", ["textract_support.scripted_reader:ScriptedReader", "no_such_module:reader"])
def test_reading_process_with_gone_server_ends_silently(reader: str) -> None:
    command = [sys.executable, "-m", "textract_local.server.reading_process", reader, "10", "10", str(2**31)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        # Its input stays open, so that only the failing message tells it.
        process.stdout.close()
        told = process.stderr.read()
        assert (process.wait(60), told) == (0, b"")
