"""What `submit` accepts as a photo, and what it neither uploads nor waits for."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from photo_worker.adapters.memory.job_repository import MemoryJobRepository
from photo_worker.adapters.memory.object_store import MemoryObjectStore
from photo_worker.adapters.memory.orchestrator import MemoryOrchestrator
from photo_worker.bootstrap import Application
from photo_worker.cli import cli
from photo_worker.config import Settings
from photo_worker.errors import DocumentTooLarge, SourceMissing, SourceUnreadable
from photo_worker.files import FileTooLarge, read_regular
from photo_worker.services.binding import bind
from photo_worker.services.jobs import UPLOAD_LIMIT_BYTES, JobService
from photo_worker.sources import Source, expand_sources
from tests.support.cli_calls import invoke_with

PNG = b"\x89PNG\r\n\x1a\n a photo"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    made = tmp_path / "photos"
    made.mkdir()
    return made


def names(directory: Path) -> list[str]:
    return [source.path.name for source in expand_sources([str(directory)]).sources if source.path]


@pytest.mark.parametrize("argument", ["", "\0"])
def test_expand_sources_empty_argument_is_refused(
    directory: Path, monkeypatch: pytest.MonkeyPatch, argument: str
) -> None:
    (directory / "pie.png").write_bytes(PNG)
    monkeypatch.chdir(directory)
    with pytest.raises(SourceMissing, match="an empty argument names no file"):
        expand_sources([argument])


def test_submit_empty_argument_is_usage_error(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (directory / "stack.env").write_text("PASSWORD=secret")
    monkeypatch.chdir(directory)
    told = CliRunner().invoke(cli, ["submit", ""])
    assert told.exit_code == 2
    assert "an argument is empty" in told.output


def test_expand_sources_directory_takes_documents_only(directory: Path) -> None:
    (directory / "pie.png").write_bytes(PNG)
    (directory / "no-suffix").write_bytes(b"%PDF-1.7\n")
    (directory / "a.env").write_text("PASSWORD=secret")
    (directory / "b.jpg").write_text("<html>a page, whatever its name says</html>")
    (directory / "c.docx").write_bytes(b"PK\x03\x04 a zip")
    (directory / "d.png").write_bytes(b"")
    (directory / "e").mkdir()
    (directory / "f.heic").symlink_to(directory / "gone")
    os.mkfifo(directory / "g")
    (directory / ".hidden.png").write_bytes(PNG)
    expanded = expand_sources([str(directory)])
    assert names(directory) == ["no-suffix", "pie.png"]
    (said,) = expanded.left_out
    assert said == (
        f"7 of 9 entries of {str(directory)!r} are left out: a.env (no photo or document), b.jpg (no photo or"
        " document), c.docx (a ZIP archive, not read), d.png (empty), e (a folder) and 2 more"
    )


def test_expand_sources_directory_of_photos_leaves_none_out(directory: Path) -> None:
    (directory / "pie.png").write_bytes(PNG)
    assert expand_sources([str(directory)]).left_out == []


def test_expand_sources_named_file_is_taken(directory: Path) -> None:
    (directory / "notes.txt").write_text("no photo")
    (source,) = expand_sources([str(directory / "notes.txt")]).sources
    assert source.path == directory / "notes.txt"
    assert len(expand_sources([f"{directory}/*.txt"]).sources) == 1


def test_expand_sources_directory_without_photos_is_refused(directory: Path) -> None:
    with pytest.raises(SourceMissing, match="the folder is empty"):
        expand_sources([str(directory)])
    (directory / "pie.png").symlink_to(directory / "gone")
    with pytest.raises(SourceMissing, match=r"only pie\.png \(a link that leads nowhere\)"):
        expand_sources([str(directory)])
    with pytest.raises(SourceMissing, match="it is a link that leads nowhere"):
        expand_sources([str(directory / "pie.png")])


def test_expand_sources_long_name_has_short_error() -> None:
    with pytest.raises((SourceMissing, SourceUnreadable)) as caught:
        expand_sources(["x" * 20_000])
    assert len(caught.value.message) < 300


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every directory")
def test_expand_sources_unreadable_directory_is_refused(directory: Path) -> None:
    directory.chmod(0)
    try:
        with pytest.raises(SourceUnreadable, match="Permission denied"):
            expand_sources([str(directory)])
    finally:
        directory.chmod(0o700)


def service() -> tuple[JobService, MemoryObjectStore]:
    store = MemoryObjectStore()
    store.ensure_bucket("photos")
    return JobService(store, MemoryJobRepository(), None, "photos"), store


async def test_submit_pipe_is_refused_at_once(directory: Path) -> None:
    os.mkfifo(directory / "pipe")
    jobs, store = service()
    async with asyncio.timeout(10):
        with pytest.raises(SourceUnreadable, match="a pipe, a socket or a device"):
            await jobs.submit(Source("pipe", path=directory / "pipe"))
    assert list(store.list("photos", "")) == []


async def test_submit_device_is_refused_at_once(directory: Path) -> None:
    (directory / "pie.png").symlink_to("/dev/zero")
    jobs, _ = service()
    with pytest.raises(SourceUnreadable, match="a pipe, a socket or a device"):
        await jobs.submit(Source("pie.png", path=directory / "pie.png"))


async def test_submit_too_large_file_is_not_read(directory: Path) -> None:
    with (directory / "huge.png").open("wb") as file:
        file.truncate(UPLOAD_LIMIT_BYTES + 1)
    with pytest.raises(DocumentTooLarge):
        await service()[0].submit(Source("huge.png", path=directory / "huge.png"))


def test_read_regular_without_size_stops_at_limit() -> None:
    """Files in /proc report a size of 0 and have content."""
    path = Path("/proc/self/status")
    if not path.exists():
        pytest.skip("no /proc on this system")
    assert b"VmRSS" in read_regular(path, 100_000)
    with pytest.raises(FileTooLarge) as caught:
        read_regular(path, 100)
    assert caught.value.size_bytes == 101


@pytest.mark.parametrize("kind", ["x y z", "text/plain", "image/gif"])
def test_submit_unsupported_type_is_usage_error(directory: Path, kind: str) -> None:
    (directory / "pie.png").write_bytes(PNG)
    told = CliRunner().invoke(cli, ["submit", str(directory), "--expect", kind])
    assert told.exit_code == 2
    assert "is no type that OCR reads" in told.output


def test_submit_empty_job_id_is_usage_error(directory: Path) -> None:
    """An unset variable would create a job that the same call does not join."""
    (directory / "pie.png").write_bytes(PNG)
    told = CliRunner().invoke(cli, ["submit", str(directory), "--job-id", ""])
    assert told.exit_code == 2
    assert "job_id_invalid" in told.output


@pytest.mark.parametrize("output", ["text", "json"])
def test_submit_reports_left_out_files_before_upload(
    directory: Path, monkeypatch: pytest.MonkeyPatch, output: str
) -> None:
    (directory / "pie.png").write_bytes(PNG)
    (directory / "a.env").write_text("PASSWORD=secret")
    monkeypatch.chdir(directory.parent)

    class Store(MemoryObjectStore):
        def put_new(self, *given: Any, **named: Any) -> bool:
            click.echo("uploading", err=True)
            return super().put_new(*given, **named)

    # No stack that runs here gives the settings.
    monkeypatch.setenv("PHOTO_WORKER_HOME", str(directory.parent / "stacks"))
    monkeypatch.setenv("DATABASE_URL", "postgresql://nowhere.invalid/db")
    store, repository = Store(), MemoryJobRepository()
    store.ensure_bucket("photo-worker")
    bind(store, repository, "photo-worker")
    application = Application(Settings(), store, repository, connected=MemoryOrchestrator())
    told = invoke_with(application, "--env-file", os.devnull, "submit", "photos", "-o", output)
    assert told.exit_code == 0, told.output
    said = "1 of 2 entries of 'photos' are left out: a.env (no photo or document)"
    assert told.stderr.splitlines() == [f"warning: {said}", "uploading", "submitted: 1/1"]
    if output == "json":
        response = json.loads(told.stdout)
        assert response["warnings"] == [said]
        assert [job["source"] for job in response["data"]["jobs"]] == ["photos/pie.png"]
