"""Two deployments in one process: each has its own settings, credentials, database, bucket and namespace."""

from __future__ import annotations

import asyncio
import hashlib
import os
import pwd
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit
from uuid import uuid4

import psycopg
import pytest
from google.protobuf.duration_pb2 import Duration
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from temporalio.api.workflowservice.v1 import RegisterNamespaceRequest
from temporalio.service import RPCError, RPCStatusCode

from photo_worker.adapters.postgres.connection import connect, with_defaults
from photo_worker.bootstrap import build_application, database_conninfo
from photo_worker.config import load_settings, read_environment
from photo_worker.contracts.image import IMAGE_PROCESSING
from photo_worker.errors import PhotoWorkerError
from photo_worker.services.binding import bind
from photo_worker.sources import Source
from tests.support.harness import FIXTURES, Harness, eventually, open_harness
from tests.support.resources import create_database, drop_database

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

PHOTO = FIXTURES / "photos" / "clean-print.png"


@pytest.fixture
def other_variables(
    stack_variables: dict[str, str], template_database: str, other_bucket: str
) -> Iterator[dict[str, str]]:
    """The settings of a second deployment on the same services; it differs in all but the task queue's name."""
    server = stack_variables["DATABASE_URL"]
    role, password = f"pw_{secrets.token_hex(6)}", secrets.token_hex(8)
    database = create_database(server, template=template_database)
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE ROLE {} LOGIN SUPERUSER PASSWORD {}").format(sql.Identifier(role), sql.Literal(password))
        )
    parts = urlsplit(server)
    location = f"{role}:{quote(password)}@{parts.hostname}:{parts.port}"
    yield stack_variables | {
        "DATABASE_URL": parts._replace(netloc=location, path=f"/{database}").geturl(),
        "S3_BUCKET": other_bucket,
        "TEMPORAL_NAMESPACE": f"other-{secrets.token_hex(4)}",
        "AWS_REGION": "eu-north-1",
        "AWS_DEFAULT_REGION": "eu-north-1",
        "AWS_ENDPOINT_URL_TEXTRACT": "http://127.0.0.1:1",
        "OCR_ENGINE": "recorded",
    }
    drop_database(server, database)
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))


async def _make_namespace(harness: Harness, name: str) -> None:
    request = RegisterNamespaceRequest(
        namespace=name, workflow_execution_retention_period=Duration(seconds=24 * 60 * 60)
    )
    await harness.client.workflow_service.register_namespace(request)

    async def is_served() -> bool:
        # The server's parts learn of a namespace one after the other.
        try:
            await harness.client.count_workflows()
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise
            return False
        return True

    await eventually(is_served)


@pytest.mark.io_bound
async def test_two_deployments_in_one_process_keep_apart(
    harness: Harness, other_variables: dict[str, str], s3_client: S3Client
) -> None:
    before = dict(os.environ)
    await _make_namespace(harness, other_variables["TEMPORAL_NAMESPACE"])
    async with open_harness(other_variables) as other:
        await asyncio.to_thread(bind, other.application.store, other.application.repository, other.settings.s3_bucket)
        assert harness.settings.temporal_task_queue == other.settings.temporal_task_queue
        assert harness.application.store.describe() == other.application.store.describe()
        assert [each.client.namespace for each in (harness, other)] == [
            each["TEMPORAL_NAMESPACE"] for each in (harness.variables, other_variables)
        ]
        async with harness.worker(), other.worker():
            source = Source("pie", path=PHOTO)
            # The same job id: nothing but the settings tells the deployments apart.
            job_id = uuid4()
            await harness.service.submit(source, job_id=job_id, engine="textract")
            await other.service.submit(source, job_id=job_id)
            mine, theirs = await asyncio.gather(harness.service.wait(job_id), other.service.wait(job_id))
        assert [report.record.status for report in (mine, theirs)] == ["succeeded", "succeeded"]
        assert [report.record.ocr_engine for report in (mine, theirs)] == ["textract", "recorded"]
        assert mine.record.s3_bucket == harness.settings.s3_bucket
        assert theirs.record.s3_bucket == other.settings.s3_bucket
        await other.application.erasure().erase(job_id)
        assert other.application.repository.get(job_id) is None
        assert await other.application.orchestrator.state(IMAGE_PROCESSING.of(job_id)) is None
    assert harness.application.repository.get(job_id) == mine.record
    assert await harness.application.orchestrator.state(IMAGE_PROCESSING.of(job_id)) is not None
    digest = hashlib.sha256(PHOTO.read_bytes()).hexdigest()
    keys = [
        [entry["Key"] for entry in s3_client.list_objects_v2(Bucket=bucket).get("Contents", [])]
        for bucket in (harness.settings.s3_bucket, other_variables["S3_BUCKET"])
    ]
    assert any(digest in key for key in keys[0])
    assert not any(digest in key or str(job_id) in key for key in keys[1])
    assert dict(os.environ) == before


# Each would break the connection, send it elsewhere, or change what the server does with its statements.
FOREIGN = {
    "PGHOST": "nowhere.invalid",
    "PGHOSTADDR": "127.0.0.2",
    "PGPORT": "1",
    "PGDATABASE": "nothing",
    "PGUSER": "nobody",
    "PGPASSWORD": "wrong",
    "PGPASSFILE": "/nowhere/pgpass",
    "PGOPTIONS": "-c search_path=nothing",
    "PGAPPNAME": "other",
    "PGCLIENTENCODING": "SQL_ASCII",
    "PGSSLMODE": "verify-full",
    "PGSSLROOTCERT": "/nowhere/root.crt",
    "PGSSLCERTMODE": "require",
    "PGCHANNELBINDING": "require",
    "PGREQUIREAUTH": "none",
    "PGREQUIREPEER": "nothing",
    "PGTARGETSESSIONATTRS": "standby",
    "PGCONNECT_TIMEOUT": "nothing",
    # libpq sends these three whatever a connection says.
    "PGDATESTYLE": "German, DMY",
    "PGGEQO": "off",
    "PGTZ": "Asia/Kathmandu",
    "PGSSLMINPROTOCOLVERSION": "TLSv9",
    "PGMINPROTOCOLVERSION": "9.9",
    "PGMAXPROTOCOLVERSION": "1.0",
}


@pytest.mark.parametrize("name", sorted(FOREIGN))
def test_deployment_does_not_take_parameters_of_the_process(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    # Undone before the fixtures use the database again.
    with monkeypatch.context() as patch:
        patch.setenv(name, FOREIGN[name])
        with build_application(harness.settings) as application:
            assert application.repository.get(uuid4()) is None
        conninfo = database_conninfo(harness.settings)
        with connect(conninfo) as connection:
            told = connection.execute("SELECT current_setting('search_path'), current_setting('application_name')")
            assert told.fetchone() == ('"$user", public', "photo-worker")
            assert connection.info.hostaddr == "127.0.0.1"


def test_deployment_takes_its_own_parameters(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGOPTIONS", "-c search_path=nothing")
    environment = read_environment({**harness.variables, "PGOPTIONS": "-c search_path=own"}, None)
    with connect(database_conninfo(load_settings(environment))) as connection:
        assert connection.execute("SHOW search_path").fetchone() == ("own",)


def test_deployment_without_user_takes_that_of_the_system(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGUSER", "nobody")
    parts = urlsplit(harness.variables["DATABASE_URL"])
    url = parts._replace(netloc=f"{parts.hostname}:{parts.port}").geturl()
    with pytest.raises(psycopg.OperationalError, match='user "nobody"'):
        connect(with_defaults(url, {"PGUSER": "nobody", "PGPASSWORD": "wrong"}))
    system = re.escape(pwd.getpwuid(os.geteuid()).pw_name)
    with pytest.raises(psycopg.OperationalError, match=f'user "{system}"'):
        connect(with_defaults(url, {"PGPASSWORD": "wrong"}))


# Lines of a service file that break a connection, or change how the server treats its statements. The last parameter
# has no variable.
SERVICE = [
    "channel_binding=require",
    "options=-csearch_path=nothing",
    "target_session_attrs=standby",
    "replication=true",
]


def _tables_seen(conninfo: str) -> str:
    """Return which tables a connection sees, or the error of the connection or of a statement."""
    try:
        with connect(conninfo) as connection:
            return str(connection.execute("SELECT current_setting('search_path')").fetchone())
    except psycopg.Error as error:
        return str(error)


@pytest.mark.parametrize("line", SERVICE)
def test_deployment_does_not_take_service_of_the_process(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, line: str
) -> None:
    untouched = _tables_seen(harness.variables["DATABASE_URL"])
    assert "public" in untouched
    file = tmp_path / "pg_service.conf"
    file.write_text(f"[elsewhere]\n{line}\n", encoding="utf-8")
    with monkeypatch.context() as patch:
        patch.setenv("PGSERVICEFILE", str(file))
        patch.setenv("PGSERVICE", "elsewhere")
        assert _tables_seen(harness.variables["DATABASE_URL"]) != untouched, "libpq takes it"
        assert _tables_seen(database_conninfo(harness.settings)) == untouched


def test_deployment_does_not_go_where_service_of_the_process_points(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without a name, a connection string means the database with the user's name."""
    parts = urlsplit(harness.variables["DATABASE_URL"])
    file = tmp_path / "pg_service.conf"
    file.write_text("[elsewhere]\ndbname=postgres\nuser=nobody\n", encoding="utf-8")
    monkeypatch.setenv("PGSERVICEFILE", str(file))
    monkeypatch.setenv("PGSERVICE", "elsewhere")
    url = parts._replace(path="").geturl()
    for conninfo, name in ((url, "postgres"), (with_defaults(url, {}), parts.username)):
        with connect(conninfo) as connection:
            assert connection.execute("SELECT current_database()").fetchone() == (name,)
    anonymous = parts._replace(netloc=f"{parts.hostname}:{parts.port}").geturl()
    system = re.escape(pwd.getpwuid(os.geteuid()).pw_name)
    with pytest.raises(psycopg.OperationalError, match=f'user "{system}"'):
        connect(with_defaults(anonymous, {"PGPASSWORD": "wrong"}))


def test_deployment_takes_its_own_service(harness: Harness, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    parts = conninfo_to_dict(harness.variables["DATABASE_URL"])
    file = tmp_path / "pg_service.conf"
    lines = ["[own]", *(f"{name}={parts[name]}" for name in ("host", "port", "user", "password", "dbname"))]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    monkeypatch.setenv("PGSERVICEFILE", str(file))
    for process in ("own", None):
        with monkeypatch.context() as patch:
            if process is not None:
                patch.setenv("PGSERVICE", process)
            with connect(with_defaults("postgresql://", {"PGSERVICE": "own"})) as connection:
                assert connection.execute("SELECT current_database()").fetchone() == (parts["dbname"],)


async def test_deployment_with_wrong_password_leaves_other_alone(
    harness: Harness, other_variables: dict[str, str]
) -> None:
    """Its error names its own database, and the other's connections go on."""
    url = urlsplit(other_variables["DATABASE_URL"])
    wrong = url._replace(netloc=f"nobody:wrong@{url.hostname}:{url.port}").geturl()
    variables = other_variables | {"DATABASE_URL": wrong, "TEMPORAL_NAMESPACE": harness.client.namespace}
    async with open_harness(variables) as other:
        with pytest.raises(PhotoWorkerError, match="nobody@"):
            other.application.repository.get(uuid4())
        assert harness.application.repository.get(uuid4()) is None
