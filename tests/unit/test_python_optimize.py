"""Python without docstrings is refused with a message, because errors would have no text."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize("level", ["", "1", "2"])
def test_cli_without_docstrings_is_refused_with_hint(level: str) -> None:
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
    ended = subprocess.run(
        [sys.executable, "-m", "photo_worker.cli", "show", "no job"],
        env=kept | {"PYTHONOPTIMIZE": level, "PYTHONDONTWRITEBYTECODE": "1", "AWS_CONFIG_FILE": os.devnull},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert ended.returncode in {1, 2}
    first, *hints = ended.stderr.strip().splitlines()
    assert "PYTHONOPTIMIZE=2" in first if level == "2" else "'no job'" in first, "the error has no text"
    assert len(hints) == 1
    assert hints[0].startswith("hint: ")
