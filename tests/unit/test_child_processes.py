"""How many processes with a memory limit may run at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from textract_local import child_processes

GB = 10**9
MACHINE = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 512 * GB // 4096}


@pytest.mark.parametrize(
    ("quota", "memory", "most"),
    [
        ("max 100000", "max", 64),
        ("200000 100000", "max", 2),
        ("150000 100000", "max", 2),
        ("max 100000", "4000000000", 3),
        ("200000 100000", "500000000", 1),
        ("", "", 64),
    ],
)
def test_max_processes_respects_cgroup_limits(
    quota: str, memory: str, most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container's limits are those of its control group; the host may have many times more."""
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(64), raising=False)
    monkeypatch.setattr("os.sysconf", MACHINE.__getitem__)
    if quota:
        (tmp_path / "cpu.max").write_text(quota + "\n")
        (tmp_path / "memory.max").write_text(memory + "\n")
    assert child_processes.max_processes(GB, tmp_path) == most
