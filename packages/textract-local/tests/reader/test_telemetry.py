"""The engine's telemetry opt-out: reading leaves no identifier and no events behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def test_telemetry_opt_out_reader_warm_leaves_no_files(tmp_path: Path) -> None:
    program = "from textract_local.reader.reader import DocumentReader; DocumentReader(threads=1).warm()"
    # ONNX Runtime sends nothing if it detects a test or CI, which would make this test pass without the opt-out.
    unset = {"CI", "GITHUB_ACTIONS", "TF_BUILD", "XDG_CACHE_HOME", "ORT_DISABLE_TELEMETRY"}
    variables = {
        name: value for name, value in os.environ.items() if name not in unset and not name.startswith("PYTEST")
    }
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**variables, "HOME": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert "telemetry" not in done.stderr
