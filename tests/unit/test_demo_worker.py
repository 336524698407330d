"""The worker that the demo starts, where it cannot live."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from photo_worker.cli import demo
from photo_worker.errors import WorkerFailed


async def test_a_worker_that_always_dies_is_given_up_and_its_log_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Each start takes most of a second.
    monkeypatch.setattr(demo, "_STARTS", 2)
    log = tmp_path / "worker.log"
    with pytest.raises(WorkerFailed, match="ended 2 times in a row") as caught:
        await demo._keep_worker({"PATH": os.environ["PATH"], "MAX_ACTIVITIES": "many"}, log)
    assert str(log) in caught.value.message
    assert log.read_text().count("error [config_invalid]") == 2
    assert capsys.readouterr().err.count("the worker ended with code 1") == 2
