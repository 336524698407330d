"""Which services a native stack runs, and how its S3 servers are started."""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path

import pytest

from photo_worker.devkit.environment import direct_environment_of, environment_of
from photo_worker.devkit.errors import OptionalServiceUnfit, PgBouncerMissing, S3ServerMissing, S3ServerUnfit
from photo_worker.devkit.layout import StackPaths
from photo_worker.devkit.plan import ServicePlan
from photo_worker.devkit.ports import BLOCK
from photo_worker.devkit.postgres import User
from photo_worker.devkit.service import Service
from photo_worker.devkit.service_registry import (
    optional_services,
    require_programs,
    s3_servers,
    select_services,
    services_of,
)
from photo_worker.devkit.services import minio
from photo_worker.devkit.services.pgbouncer import pgbouncer
from photo_worker.devkit.stack import Stack
from photo_worker.devkit.state import StackRecord

Patch = pytest.MonkeyPatch


@pytest.fixture
def paths(tmp_path: Path) -> StackPaths:
    paths = StackPaths(tmp_path / "home", "dev")
    paths.create()
    return paths


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: Patch) -> Path:
    """A directory on PATH with programs of the servers' names; no wheel is installed, and nothing was built."""
    directory = tmp_path / "bin"
    directory.mkdir()
    for name in ("weed", "minio"):
        (directory / name).write_text("#!/bin/sh\n")
        (directory / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(directory))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(minio.MINIO_VARIABLE, raising=False)
    monkeypatch.setattr(metadata, "distribution", _no_distribution)
    return directory


def _no_distribution(name: str) -> None:
    from importlib.metadata import PackageNotFoundError

    raise PackageNotFoundError(name)


# One record for all: a new one would have another password, and so other credentials.
# The S3 servers with a port of their own.
SERVERS = ("seaweedfs", "minio")
RECORD = StackRecord.new("dev", 20_000, durable=True)


def server(s3: str) -> Service:
    return next(service for service in select_services("native", s3) if service.name == "s3")


def plan_of(s3: str, paths: StackPaths) -> ServicePlan:
    return server(s3).plan(record(s3), paths)


def record(s3: str) -> StackRecord:
    return RECORD.with_(s3=s3)


@pytest.mark.parametrize(
    ("s3", "external", "names", "served"),
    [
        ("ministack", (), ["temporal", "postgres", "aws", "textract"], "s3,sns,sqs"),
        ("seaweedfs", (), ["temporal", "postgres", "s3", "aws", "textract"], "sns,sqs"),
        ("minio", ("temporal",), ["postgres", "s3", "aws", "textract"], "sns,sqs"),
        ("minio", ("s3", "postgres"), ["temporal", "aws", "textract"], "sns,sqs"),
        ("ministack", ("sns", "sqs", "textract"), ["temporal", "postgres", "aws"], "s3"),
        ("minio", ("sns", "sqs"), ["temporal", "postgres", "s3", "textract"], None),
        ("ministack", ("temporal", "postgres", "s3", "sns", "sqs", "textract"), [], None),
    ],
)
def test_select_services_omits_external_and_replaced_ones(
    s3: str, external: tuple[str, ...], names: list[str], served: str | None, paths: StackPaths
) -> None:
    services = {service.name: service for service in select_services("native", s3, external)}
    assert list(services) == names
    if served is None:
        assert "aws" not in services
    else:
        assert services["aws"].plan(record(s3), paths).env["SERVICES"] == served


@pytest.mark.parametrize("kind", ["native", "compose"])
def test_service_ports_of_one_stack_are_apart(kind: str) -> None:
    for s3 in s3_servers(kind):
        services = select_services(kind, s3, extras=optional_services())
        ports = [RECORD.ports[use] for service in services for use in service.uses]
        assert len(ports) == len(set(ports))
        assert max(ports) < RECORD.base_port + BLOCK


def test_pgbouncer_off_by_default_if_on_in_front_of_postgres(paths: StackPaths, monkeypatch: Patch) -> None:
    monkeypatch.setattr(User, "for_postgres", lambda: None)
    program = paths.home / "pgbouncer"
    program.write_text("#!/bin/sh\necho PgBouncer 1.2.3\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{paths.home}:/usr/bin:/bin")
    for kind in ("native", "compose"):
        server = s3_servers(kind)[0]
        assert "pgbouncer" not in [service.name for service in select_services(kind, server)]
        names = [service.name for service in select_services(kind, server, extras=["pgbouncer"])]
        assert names[1:3] == ["postgres", "pgbouncer"]
    pooled = RECORD.with_(extras=["pgbouncer"])
    assert environment_of(RECORD)["DATABASE_URL"].partition("@")[2] == "127.0.0.1:20004/photo_worker?sslmode=disable"
    assert environment_of(pooled)["DATABASE_URL"].partition("@")[2] == "127.0.0.1:20002/photo_worker?sslmode=disable"
    assert direct_environment_of(pooled) == environment_of(RECORD)
    assert list(environment_of(pooled)) == list(environment_of(RECORD))
    (service,) = (one for one in services_of(pooled) if one.name == "pgbouncer")
    assert service.version() == "PgBouncer 1.2.3"
    plan = service.plan(pooled, paths)
    assert RECORD.password not in " ".join([*plan.argv, *plan.env.values()])
    configuration = Path(plan.argv[-1])
    assert "listen_addr = 127.0.0.1" in configuration.read_text().splitlines()
    assert {file.stat().st_mode & 0o777 for file in configuration.parent.iterdir()} == {0o600}


@pytest.mark.usefixtures("programs")
def test_up_with_pgbouncer_missing_names_what_to_install(tmp_path: Path) -> None:
    chosen = select_services("native", s3_servers("native")[0], extras=["pgbouncer"])
    services = [pgbouncer(directories=()) if service.name == "pgbouncer" else service for service in chosen]
    assert "pgbouncer" in [service.name for service in services]
    stack = Stack(tmp_path / "home", "dev", base_port=0, extras=["pgbouncer"], services=services)
    with pytest.raises(PgBouncerMissing, match="PgBouncer is not installed") as caught:
        stack.up()
    assert caught.value.code == "pgbouncer_missing"
    assert "apt-get install pgbouncer" in (caught.value.hint or "")
    assert StackRecord.load(stack.paths) is None


def test_pgbouncer_with_external_postgres_is_refused(tmp_path: Path) -> None:
    external = {"postgres": "postgresql://me@db.example/mine"}
    with pytest.raises(OptionalServiceUnfit, match="postgres is external"):
        Stack(tmp_path / "home", "dev", extras=["pgbouncer"], external=external).up()


def test_require_s3_server_unsupported_is_refused() -> None:
    for refuse in (require_programs, select_services):
        with pytest.raises(S3ServerUnfit, match="'localstack'; it has ministack, seaweedfs, minio"):
            refuse("native", "localstack")


@pytest.mark.usefixtures("programs")
def test_seaweedfs_plan_uses_loopback_own_ports_no_telemetry(paths: StackPaths) -> None:
    argv = plan_of("seaweedfs", paths).argv
    assert {"-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.telemetry=false"} <= set(argv)
    # As in S3, a put creates no bucket.
    assert {"-s3.autoCreateBucket=false", "-s3.allowDeleteBucketNotEmpty=false"} <= set(argv)
    numbers = [int(value) for option in argv if ".port" in option and (value := option.partition("=")[2]) != "0"]
    assert len(numbers) == len(set(numbers)) == 10
    assert {20_000 <= number < 20_020 for number in numbers} == {True}
    config = Path(next(option.partition("=")[2] for option in argv if option.startswith("-s3.config=")))
    assert config.stat().st_mode & 0o777 == 0o600
    variables = environment_of(record("seaweedfs"))
    credentials = json.loads(config.read_text())["identities"][0]["credentials"][0]
    assert credentials == {
        "accessKey": variables["AWS_ACCESS_KEY_ID"],
        "secretKey": variables["AWS_SECRET_ACCESS_KEY"],
    }


@pytest.mark.usefixtures("programs")
def test_seaweedfs_plan_long_path_omits_socket_option(tmp_path: Path) -> None:
    for length, named in ((20, True), (100, False)):
        paths = StackPaths(tmp_path / ("d" * length), "dev")
        paths.create()
        argv = plan_of("seaweedfs", paths).argv
        short = len(str(paths.run / "filer.sock")) <= 103
        assert short is named or length == 20
        assert any(option.startswith("-s3.localSocket=") for option in argv) is short


@pytest.mark.usefixtures("programs")
def test_minio_plan_uses_loopback_and_disables_updates(paths: StackPaths) -> None:
    plan = plan_of("minio", paths)
    for option in ("--address", "--console-address"):
        assert plan.argv[plan.argv.index(option) + 1].startswith("127.0.0.1:20")
    assert plan.env["MINIO_UPDATE"] == plan.env["MINIO_BROWSER"] == "off"
    assert plan.env["HOME"].startswith(str(paths.run))
    # MinIO refuses to start with fewer than eight characters.
    assert len(plan.env["MINIO_ROOT_PASSWORD"]) >= 8
    assert plan.env["MINIO_ROOT_PASSWORD"] == environment_of(record("minio"))["AWS_SECRET_ACCESS_KEY"]


def test_s3_server_plans_have_separate_data_directories(paths: StackPaths, programs: Path) -> None:
    directories = {name: plan_of(name, paths).discard for name in SERVERS}
    assert directories == {name: str(paths.data / f"s3-{name}") for name in SERVERS}
    assert programs.is_dir()


def test_minio_program_prefers_variable_then_path_then_cache(
    programs: Path, tmp_path: Path, monkeypatch: Patch
) -> None:
    named = tmp_path / "mine"
    named.write_text("#!/bin/sh\n")
    monkeypatch.setenv(minio.MINIO_VARIABLE, str(named))
    with pytest.raises(S3ServerMissing, match=r"PHOTO_WORKER_MINIO names .*mine, which is no program"):
        require_programs("native", "minio")
    named.chmod(0o755)
    assert minio.minio_program() == named
    monkeypatch.delenv(minio.MINIO_VARIABLE)
    assert minio.minio_program() == programs / "minio"
    assert server("minio").version() == "MinIO"
    (programs / "minio").unlink()
    with pytest.raises(S3ServerMissing, match="photo-worker prefetch --s3 minio"):
        require_programs("native", "minio")
    built = minio.minio_cache()
    assert built.is_relative_to(tmp_path / "cache" / "photo-worker")
    built.parent.mkdir(parents=True)
    (programs / "weed").rename(built)
    assert minio.minio_program() == built
    assert server("minio").version() == "MinIO 2026-02-12"
    with pytest.raises(S3ServerMissing, match="photo-worker prefetch --s3 seaweedfs"):
        require_programs("native", "seaweedfs")


def test_minio_cache_ignores_relative_xdg_cache_home(monkeypatch: Patch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert minio.minio_cache().is_relative_to(Path.home() / ".cache" / "photo-worker")


def test_up_missing_s3_server_fails_before_writing_record(programs: Path, tmp_path: Path) -> None:
    for program in programs.iterdir():
        program.unlink()
    for s3 in SERVERS:
        stack = Stack(tmp_path / "home", "dev", base_port=0, s3=s3)
        with pytest.raises(S3ServerMissing):
            stack.up()
        assert StackRecord.load(stack.paths) is None
        assert not stack.paths.supervisor_lock.exists()
