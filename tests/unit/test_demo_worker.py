"""The demo's worker process, its failures, and the photos that the demo uses."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from photo_worker import devkit
from photo_worker.cli import demo
from photo_worker.errors import FixturesMissing, WorkerFailed


async def test_keep_worker_gives_up_and_names_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "worker.log"
    with pytest.raises(WorkerFailed, match="ended 2 times in a row") as caught:
        # Each start takes almost a second.
        await demo._supervise_worker({"PATH": os.environ["PATH"], "MAX_ACTIVITIES": "many"}, log, starts=2)
    assert str(log) in caught.value.message
    assert log.read_text().count("error [config_invalid]") == 2
    assert capsys.readouterr().err.count("the worker ended with code 1") == 2


PHOTOS = Path(__file__).resolve().parents[2] / "fixtures" / "photos"


def test_fixture_directory_outside_checkout_is_in_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert demo.fixture_directory() == PHOTOS
    monkeypatch.chdir(tmp_path)
    found = demo.fixture_directory()
    assert found.is_relative_to(Path(devkit.__path__[0]))
    packaged = {path.name: path.read_bytes() for path in found.iterdir()}
    assert len(packaged) > 1
    # The same photos, so that their recordings apply.
    assert packaged == {name: (PHOTOS / name).read_bytes() for name in packaged}
    assert sum(map(len, packaged.values())) < 1_200_000


def test_fixture_directory_missing_names_fixtures_option(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(devkit, "__path__", [str(tmp_path)])
    with pytest.raises(FixturesMissing) as caught:
        demo.fixture_directory()
    assert "--fixtures" in caught.value.hint
