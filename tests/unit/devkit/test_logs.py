"""Reading the last lines of a service's log."""

from __future__ import annotations

from pathlib import Path

import pytest

from photo_worker.devkit.logs import tail


@pytest.mark.parametrize("length", [10, 1_000, 300_000])
def test_tail_long_log_returns_whole_last_lines(tmp_path: Path, length: int) -> None:
    log = tmp_path / "service.log"
    written = [f"{number:06d} {'x' * length}" for number in range(8)]
    log.write_text("\n".join(written) + "\n")
    for lines in (1, 3, 7, 8, 100):
        assert tail(log, lines) == written[-lines:]
    # A line that is still being written.
    with log.open("a") as output:
        output.write("half")
    assert tail(log, 2) == [written[-1], "half"]


def test_tail_missing_or_empty_log_returns_nothing(tmp_path: Path) -> None:
    assert tail(tmp_path / "service.log", 5) == []
    (tmp_path / "service.log").touch()
    assert tail(tmp_path / "service.log", 5) == []
    assert tail(tmp_path / "service.log", 0) == []
