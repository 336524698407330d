"""``migrate``, ``submit``, ``check --repair`` and ``erase``, by whether the bucket is bound to the database."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from photo_worker.adapters.s3.object_store import BotoObjectStore
from photo_worker.contracts.keys import ocr_key, raw_key
from photo_worker.services.binding import MARKER_KEY, bound_since
from tests.integration.test_commands import clean, photo_worker
from tests.support.command_runs import Run
from tests.support.harness import FIXTURES, eventually
from tests.support.resources import create_database, drop_database

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.stack

PHOTOS = sorted(path for path in (FIXTURES / "photos").iterdir() if path.suffix in {".png", ".jpg", ".jpeg"})[:3]
UNREACHABLE = "http://127.0.0.1:9"


@pytest.fixture
def other(stack_env: dict[str, str], template_database: str) -> Iterator[dict[str, str]]:
    """The settings of deployment B that differ from A's: database and task queue. The bucket is the same."""
    server = stack_env["DATABASE_URL"]
    name = create_database(server, template=template_database)
    yield {
        "DATABASE_URL": urlsplit(server)._replace(path=f"/{name}").geturl(),
        "TEMPORAL_TASK_QUEUE": f"test-{uuid4().hex}",
    }
    drop_database(server, name)


@pytest.fixture
def store(s3_client: S3Client) -> BotoObjectStore:
    return BotoObjectStore(s3_client)


def marker_of(store: BotoObjectStore, bucket: str) -> dict[str, Any] | None:
    if bound_since(store, bucket) is None:
        return None
    return dict(json.loads(store.get(bucket, MARKER_KEY, limit_bytes=1 << 16)))


def unbind(store: BotoObjectStore, bucket: str) -> None:
    store.delete(bucket, MARKER_KEY)


def never_bound(variables: dict[str, str]) -> None:
    """Put a database into its state before the first binding."""
    with psycopg.connect(variables["DATABASE_URL"], autocommit=True) as connection:
        connection.execute("DELETE FROM deployment")


@pytest.mark.parametrize("marker", ["of A", "of B", "missing"])
def test_check_repair_foreign_photos_are_kept(
    run_command: Run, other: dict[str, str], store: BotoObjectStore, bucket: str, marker: str
) -> None:
    """B has three queued photos. A has more rows with objects in the bucket than there are orphans."""
    for number in range(5):
        photo = Path(f"a{number}.png")
        photo.write_bytes(PHOTOS[0].read_bytes() + bytes([number]))
        assert run_command("submit", str(photo), "-o", "json").returncode == 0
    unbind(store, bucket)
    assert run_command("submit", *map(str, PHOTOS), "-o", "json", **other).returncode == 0
    before = {entry.key for entry in store.list(bucket, "raw/")}
    assert len(before) == 5 + 3
    if marker != "missing":
        assert run_command("migrate", "--bind", **(other if marker == "of B" else {})).returncode == 0
    ended = run_command("check", "--repair", "--grace", "0s", "-o", "json")
    assert {entry.key for entry in store.list(bucket, "raw/")} == before, "a photo of B is gone"
    outcomes = [(step["code"], step["outcome"]) for step in ended.data["repairs"] if step["outcome"] != "begun"]
    assert outcomes.count(("photo_without_row", "refused")) == 3
    assert not [outcome for _, outcome in outcomes if outcome == "done"]
    assert ended.data["bucket"] == {"of A": "bound", "of B": "bound_elsewhere", "missing": "unbound"}[marker]


def test_submit_bucket_bound_elsewhere_uploads_nothing(
    run_command: Run, other: dict[str, str], store: BotoObjectStore, bucket: str
) -> None:
    ended = run_command("submit", str(PHOTOS[0]), "-o", "json", **other)
    assert list(store.list(bucket, "raw/")) == []
    assert (ended.returncode, ended.error) == (1, "bucket_bound_elsewhere")


def test_submit_unbound_bucket_uploads_nothing(run_command: Run, store: BotoObjectStore, bucket: str) -> None:
    """Its worker would not find the upload, or would not start with the same setting."""
    unbind(store, bucket)
    ended = run_command("submit", str(PHOTOS[0]), "-o", "json")
    assert list(store.list(bucket, "raw/")) == []
    assert (ended.returncode, ended.error) == (1, "bucket_not_bound")


def test_migrate_second_bucket_is_bound_only_with_bind(run_command: Run, store: BotoObjectStore, bucket: str) -> None:
    """A deployment runs migrate before its workers start, with the same S3_BUCKET, whether that is right or wrong."""
    unbind(store, bucket)
    ended = run_command("migrate")
    assert marker_of(store, bucket) is None
    assert ended.returncode == 0
    assert "[bucket_not_bound]" in ended.stderr
    assert "photo-worker migrate --bind" in ended.stderr
    assert run_command("migrate", "--bind").returncode == 0
    assert run_command("check", "-o", "json").data["bucket"] == "bound"


def test_erase_bucket_bound_elsewhere_is_refused(
    run_command: Run, other: dict[str, str], store: BotoObjectStore, bucket: str
) -> None:
    unbind(store, bucket)
    (job,) = run_command("submit", str(PHOTOS[0]), "-o", "json", **other).data["jobs"]
    run_command("migrate", "--bind")
    ended = run_command("erase", job["job_id"], "--yes", "-o", "json", **other)
    assert (ended.returncode, ended.error) == (1, "bucket_bound_elsewhere")
    assert len(list(store.list(bucket, "raw/"))) == 1
    assert run_command("migrate", "--rebind", "--yes", **other).returncode == 0
    assert run_command("erase", job["job_id"], "--yes", "-o", "json", **other).returncode == 0
    assert list(store.list(bucket, "raw/")) == []


@pytest.mark.parametrize("known", ["never bound", "bound elsewhere"])
def test_erase_unbound_bucket_deletes_nothing(
    run_command: Run,
    store: BotoObjectStore,
    bucket: str,
    other_bucket: str,
    stack_variables: dict[str, str],
    known: str,
) -> None:
    """``S3_BUCKET`` names the bucket of another deployment that was never bound, with a job of the same id."""
    (job,) = run_command("submit", str(PHOTOS[0]), "-o", "json").data["jobs"]
    response = ocr_key(UUID(job["job_id"]))
    named = bucket if known == "never bound" else other_bucket
    store.put(named, response, b"theirs", content_type="application/json")
    if known == "never bound":
        unbind(store, bucket)
        never_bound(stack_variables)
    before = [entry.key for place in (bucket, other_bucket) for entry in store.list(place, "")]
    ended = run_command("erase", job["job_id"], "--yes", "-o", "json", S3_BUCKET=named)
    assert [entry.key for place in (bucket, other_bucket) for entry in store.list(place, "")] == before
    code = "bucket_never_bound" if known == "never bound" else "bucket_not_bound"
    assert (ended.returncode, ended.error) == (1, code)
    assert "photo-worker migrate" in ended.stderr
    assert run_command("show", job["job_id"]).returncode == 0, "the job was begun to be erased"
    # The commands that the error message names.
    assert run_command("migrate", *([] if known == "never bound" else ["--bind"]), S3_BUCKET=named).returncode == 0
    assert run_command("erase", job["job_id"], "--yes", "-o", "json", S3_BUCKET=named).returncode == 0
    assert response not in [entry.key for entry in store.list(named, "")]


def test_migrate_first_run_binds_bucket(
    run_command: Run, store: BotoObjectStore, bucket: str, other: dict[str, str], stack_variables: dict[str, str]
) -> None:
    unbind(store, bucket)
    never_bound(stack_variables)
    first = run_command("migrate")
    assert (first.returncode, first.stderr) == (0, "")
    assert f"bucket {bucket} is now bound to this database" in first.stdout
    marker = marker_of(store, bucket)
    assert marker is not None
    assert (marker["format"], "hunter2" in json.dumps(marker)) == (1, False)
    assert f"bucket {bucket} is bound to this database" in run_command("migrate").stdout
    assert run_command("migrate", "-o", "json").data["bucket"] == {
        "name": bucket,
        "bound": True,
        "changed": False,
        "code": None,
        "reason": None,
    }
    assert marker_of(store, bucket) == marker
    refused = run_command("migrate", **other)
    assert refused.returncode == 1
    assert "error [bucket_bound_elsewhere]" in refused.stderr
    assert marker["database"] in refused.stderr
    assert "photo-worker migrate --rebind" in refused.stderr
    assert "schema is at" in refused.stdout, "the schema is migrated all the same"
    assert marker_of(store, bucket) == marker


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"AWS_ENDPOINT_URL_S3": UNREACHABLE}, "storage_unavailable"),
        ({"S3_BUCKET": "no-such-bucket-of-ours"}, "bucket_missing"),
    ],
)
def test_migrate_without_s3_migrates_schema_and_warns(
    run_command: Run,
    empty_database_url: str,
    stack_variables: dict[str, str],
    other_bucket: str,
    changes: dict[str, str],
    code: str,
) -> None:
    name = conninfo_to_dict(empty_database_url)["dbname"]
    url = urlsplit(stack_variables["DATABASE_URL"])._replace(path=f"/{name}").geturl()
    ended = run_command("migrate", DATABASE_URL=url, **changes)
    assert ended.returncode == 0
    assert "schema went from empty to" in ended.stdout
    assert f"is not bound to this database yet: [{code}]" in ended.stderr
    assert "migrate --bind" in ended.stderr
    found = run_command("migrate", "-o", "json", DATABASE_URL=url, **changes)
    assert (found.returncode, found.data["bucket"]["bound"], found.data["bucket"]["code"]) == (0, False, code)
    wanted = run_command("migrate", "--bind", "-o", "json", DATABASE_URL=url, **changes)
    assert (wanted.returncode, wanted.error) == (1, code)
    # The first migration that can reach S3 binds the bucket.
    assert run_command("migrate", "-o", "json", DATABASE_URL=url, S3_BUCKET=other_bucket).data["bucket"]["bound"]


def test_check_restored_database_keeps_binding(
    run_command: Run, store: BotoObjectStore, bucket: str, stack_env: dict[str, str], stack_variables: dict[str, str]
) -> None:
    """The database is copied into one of another name, as a restore does."""
    run_command("migrate")
    server = stack_env["DATABASE_URL"]
    own = urlsplit(stack_variables["DATABASE_URL"]).path.lstrip("/")
    copy = create_database(server, template=own)
    try:
        url = urlsplit(server)._replace(path=f"/{copy}").geturl()
        assert run_command("check", "-o", "json", DATABASE_URL=url).data["bucket"] == "bound"
    finally:
        drop_database(server, copy)


def test_migrate_rebind_asks_for_confirmation(
    stack_variables: dict[str, str], other: dict[str, str], tmp_path: Path, store: BotoObjectStore, bucket: str
) -> None:
    replaced = stack_variables | other
    before = marker_of(store, bucket)
    unasked = photo_worker("migrate", "--rebind", variables=replaced, cwd=tmp_path)
    assert unasked.returncode == 1
    assert "error [rebind_unconfirmed]" in unasked.stderr
    for typed, code in (("n\n", 130), ("y\n", 0)):
        assert marker_of(store, bucket) == before
        ended, said = at_a_terminal(replaced, tmp_path, typed, "migrate", "--rebind")
        assert ended == code
        assert f"Bucket {bucket} is bound to the database" in said
    after = marker_of(store, bucket)
    assert before is not None
    assert after is not None
    assert after["deployment"] != before["deployment"]
    back = photo_worker("migrate", "--rebind", "--yes", variables=stack_variables, cwd=tmp_path)
    assert back.returncode == 0
    assert marker_of(store, bucket) == before


def test_migrate_unreadable_marker_requires_rebind(run_command: Run, store: BotoObjectStore, bucket: str) -> None:
    store.put(bucket, MARKER_KEY, b'{"format": 99}', content_type="application/json")
    for arguments, code in (((), "bucket_binding_unreadable"), (("--rebind",), "rebind_unconfirmed")):
        refused = run_command("migrate", *arguments)
        assert refused.returncode == 1
        assert f"error [{code}]" in refused.stderr
        assert store.get(bucket, MARKER_KEY, limit_bytes=1 << 16) == b'{"format": 99}'
    assert run_command("migrate", "--rebind", "--yes", "-o", "json").data["bucket"]["changed"]


def at_a_terminal(variables: dict[str, str], cwd: Path, typed: str, *arguments: str) -> tuple[int, str]:
    """Run a command with a terminal as its standard input, and type ``typed``."""
    ours, theirs = pty.openpty()
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "photo_worker.cli", *arguments],
            env=clean(variables),
            cwd=cwd,
            stdin=theirs,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        os.write(ours, typed.encode())
        said, _ = process.communicate(timeout=60)
    finally:
        os.close(ours)
        os.close(theirs)
    return process.returncode, said


def test_deployment_table_holds_at_most_one_row(database_url: str) -> None:
    """Databases that are copied from a migrated template get their own ids."""
    with psycopg.connect(database_url) as connection:
        assert connection.execute("SELECT count(*) FROM deployment").fetchone() == (0,)
        connection.execute("INSERT INTO deployment DEFAULT VALUES")
        with pytest.raises(psycopg.errors.UniqueViolation):
            connection.execute("INSERT INTO deployment DEFAULT VALUES")


async def test_check_repair_own_orphan_is_deleted(
    run_command: Run, store: BotoObjectStore, bucket: str, stack_variables: dict[str, str]
) -> None:
    await asyncio.to_thread(run_command, "submit", str(PHOTOS[0]), "-o", "json")
    orphan = raw_key("ab" * 32, ".png")

    async def younger_than_the_binding() -> bool:
        store.put(bucket, orphan, b"x", content_type="image/png")
        since = bound_since(store, bucket)
        return since is not None and next(store.list(bucket, orphan)).modified_at > since

    await eventually(younger_than_the_binding)
    ended = await asyncio.to_thread(run_command, "check", "--repair", "--grace", "0s", "-o", "json")
    assert [step["outcome"] for step in ended.data["repairs"]] == ["done"]
    assert list(store.list(bucket, orphan)) == []
