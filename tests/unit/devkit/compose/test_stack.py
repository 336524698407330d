"""The parts of a Compose stack, and what prevents its start, tested without an engine."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from photo_worker.devkit.compose import doctor, images, program, project
from photo_worker.devkit.compose.guards import require_same_postgres
from photo_worker.devkit.container_engine import ContainerEngine
from photo_worker.devkit.containers import is_up, project_name
from photo_worker.devkit.environment import stack_environment
from photo_worker.devkit.errors import (
    ComposeFileMissing,
    ComposeMissing,
    DataMismatch,
    DockerMissing,
    ImageMissing,
    ImageUnavailable,
    ImageUnbuildable,
    S3ServerUnfit,
    StackNotRunning,
    StackOfOtherKind,
)
from photo_worker.devkit.layout import StackPaths, exclusive
from photo_worker.devkit.local_stack import local_stack
from photo_worker.devkit.stack import Stack
from photo_worker.devkit.state import StackRecord
from tests.unit.devkit.compose.fake_engine import FakeEngine


@pytest.fixture
def paths(tmp_path: Path) -> StackPaths:
    paths = StackPaths(tmp_path / "home", "mine")
    paths.create()
    return paths


def record(**changes: Any) -> StackRecord:
    return StackRecord.new("mine", 15_000, durable=True).with_(**{"kind": "compose", "s3": "localstack", **changes})


@contextlib.contextmanager
def engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, responses: Mapping[str, tuple[int, object] | bytes]
) -> Iterator[FakeEngine]:
    known = {"GET /containers/json": (200, []), "GET /networks": (200, []), "GET /volumes": (200, {"Volumes": None})}
    with FakeEngine(tmp_path / "s", {**known, **responses}) as fake:
        monkeypatch.setenv("DOCKER_HOST", f"unix://{fake.path}")
        yield fake


def container(paths: StackPaths, service: str, state: str = "running") -> dict[str, object]:
    return {
        "Id": service,
        "Names": [f"/{project_name(paths)}-{service}-1"],
        "State": state,
        "Status": "Up 1 second",
        "Image": "image:1",
        "Ports": [],
        "Labels": {"com.docker.compose.service": service},
    }


def compose(tmp_path: Path, model: Mapping[str, object], otherwise: str = "exit 1") -> program.Compose:
    """Return a fake Compose that prints this model for ``config`` and runs ``otherwise`` for other commands."""
    (tmp_path / "model.json").write_text(json.dumps({"services": model}))
    script = tmp_path / "compose"
    script.write_text(
        f'#!/bin/sh\ncase "$*" in *" config "*) cat {tmp_path / "model.json"} ;; *) {otherwise} ;; esac\n'
    )
    script.chmod(0o755)
    found = program.Program((str(script),), "5.6.1")
    return program.Compose(found, tmp_path / "f.yml", "p", {}, engine=f"unix://{tmp_path / 's'}")


@pytest.mark.parametrize(
    ("s3", "external", "own"),
    [
        ("localstack", (), ("temporal", "postgres", "aws", "textract")),
        ("minio", (), ("temporal", "postgres", "aws", "s3", "textract")),
        ("minio", ("s3",), ("temporal", "postgres", "aws", "textract")),
        ("minio", ("sns", "sqs"), ("temporal", "postgres", "s3", "textract")),
        ("localstack", ("sns", "sqs"), ("temporal", "postgres", "aws", "textract")),
        ("localstack", ("s3", "sns", "sqs"), ("temporal", "postgres", "textract")),
        ("localstack", ("temporal", "postgres", "textract"), ("aws",)),
    ],
)
def test_own_services_excludes_external_ones(s3: str, external: tuple[str, ...], own: tuple[str, ...]) -> None:
    assert project.own_services(record(s3=s3, external=dict.fromkeys(external, "http://x:1"))) == own


def test_variables_replace_loopback_of_external_services() -> None:
    external = {
        "s3": "http://127.0.0.1:9000",
        "sns": "https://sns.example.org",
        "sqs": "https://sqs.example.org",
        "temporal": "localhost:7233",
        "postgres": "postgresql://me:secret@127.0.0.1:5432/mine",
    }
    values = project.variables(record(external=external))
    assert values["PW_S3_ENDPOINT"] == "http://host.docker.internal:9000"
    assert values["PW_SNS_ENDPOINT"] == "https://sns.example.org"
    assert values["PW_TEMPORAL_TARGET"] == "host.docker.internal:7233"
    assert values["PW_DATABASE_URL"] == "postgresql://me:secret@host.docker.internal:5432/mine"
    assert values["PW_TEXTRACT_ENDPOINT"] == "http://textract:8765"
    assert project.variables(record())["PW_S3_ENDPOINT"] == "http://aws:4566"
    assert project.variables(record(s3="minio"))["PW_S3_ENDPOINT"] == "http://s3:9000"


def test_compose_file_reads_every_passed_variable() -> None:
    text = project.compose_file().read_text()
    passed = project.variables(record(external={"postgres": "postgresql://a:b@c/d"}))
    assert [name for name in passed if f"${{{name}" not in text] == []


def test_project_name_differs_between_worktrees(tmp_path: Path) -> None:
    one, other = (project_name(StackPaths(tmp_path / home, "dev")) for home in ("a", "b"))
    assert one != other
    assert one.startswith("photo-worker-dev-")


def test_compose_file_outside_checkout_is_missing(tmp_path: Path) -> None:
    assert project.compose_file(tmp_path).name == "docker-compose.yml", "found beside the code"
    with pytest.raises(ComposeFileMissing, match="there-is-none"):
        project.compose_file(tmp_path, relative=Path("compose", "there-is-none.yml"))


def test_compose_stack_unsupported_s3_server_is_refused(paths: StackPaths) -> None:
    with pytest.raises(S3ServerUnfit, match="compose stack has no S3 server 'ministack'; it has localstack and minio"):
        Stack(paths.home, "mine", kind="compose", s3="ministack")


def test_compose_stack_without_engine_is_stopped_with_cause(
    paths: StackPaths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path / 'none.sock'}")
    record().save(paths)
    stack = local_stack("mine", home=paths.home)
    assert stack.kind == "compose"
    seen = stack.status()
    assert (seen.running, {line.state for line in seen.services}) == (False, {"stopped"})
    assert seen.problem is not None
    assert "none.sock" in seen.problem
    assert stack_environment("mine", paths.home) is None
    with pytest.raises(StackNotRunning):
        stack.env()
    for act in (stack.up, stack.down, stack.reset):
        with pytest.raises(DockerMissing, match=r"none\.sock"):
            act()
    findings = list(doctor.examine(paths, record()))
    assert [(one.check, one.state) for one in findings] == [("engine", "problem")]


def test_up_while_other_kind_runs_is_refused(
    paths: StackPaths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record().save(paths)
    with engine(tmp_path, monkeypatch, {"GET /containers/json": (200, [container(paths, "postgres")])}) as fake:
        assert is_up(paths)
        with pytest.raises(StackOfOtherKind, match="runs as compose already"):
            Stack(paths.home, "mine").up()
        assert not [asked for asked in fake.asked if not asked.startswith("GET")]
    with (
        engine(tmp_path / "home", monkeypatch, {}) as fake,
        exclusive(paths.supervisor_lock, timeout=1, doing="test"),
        pytest.raises(StackOfOtherKind, match="runs as native already"),
    ):
        Stack(paths.home, "mine", kind="compose").up()


def test_is_up_with_exited_container_is_false(
    paths: StackPaths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record().save(paths)
    with engine(tmp_path, monkeypatch, {"GET /containers/json": (200, [container(paths, "postgres", "exited")])}):
        assert not is_up(paths)
        assert stack_environment("mine", paths.home) is None


USELESS = ["{", "[]", '{"format": 99, "kind": "compose"}', '{"format": 1, "kind": "compose", "base_port": "high"}']


@pytest.mark.parametrize("content", USELESS)
@pytest.mark.parametrize("left", ["a stopped container", "a volume"])
def test_reset_with_unusable_record_deletes_volumes(
    left: str, content: str, paths: StackPaths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If it were taken for a native stack, the reset would report success and keep the volumes."""
    paths.record.write_text(content)
    responses: dict[str, tuple[int, object] | bytes] = {
        "GET /volumes": (200, {"Volumes": [{"Name": "v", "Labels": None}]}),
        "DELETE /volumes/v": (204, None),
    }
    if left == "a stopped container":
        responses |= {
            "GET /containers/json": (200, [container(paths, "postgres", "exited")]),
            "DELETE /containers/postgres": (204, None),
        }

    def find() -> program.Program:
        raise ComposeMissing(reason="the test has none")

    monkeypatch.setattr(program, "find", find)
    # It restarts afterwards, as far as possible here; the record does not prevent it.
    with engine(tmp_path, monkeypatch, responses) as fake:
        stack = local_stack("mine", home=paths.home)
        assert stack.kind == "compose"
        with pytest.raises(ComposeMissing):
            stack.reset()
    assert [asked for asked in fake.asked if asked.startswith("DELETE /volumes/v")]


def test_local_stack_with_native_data_is_native(
    paths: StackPaths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    volumes = {"GET /volumes": (200, {"Volumes": [{"Name": "v", "Labels": None}]})}
    with engine(tmp_path, monkeypatch, volumes):
        assert local_stack("mine", home=paths.home).kind == "native", "no record: it never ran, or was deleted"
        paths.record.write_text("{")
        (paths.data / "postgres").mkdir()
        assert local_stack("mine", home=paths.home).kind == "native"
        paths.record.write_text('{"format": 99, "kind": "compose"}')
        assert local_stack("mine", home=paths.home).kind == "compose"


def test_up_with_volumes_of_other_password_is_refused(
    paths: StackPaths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record().save(paths)
    volume = {"Name": "v", "Labels": {"photo-worker.password": "of another day"}}
    with (
        engine(tmp_path, monkeypatch, {"GET /volumes": (200, {"Volumes": [volume]})}),
        pytest.raises(DataMismatch, match="another password") as caught,
    ):
        Stack(paths.home, "mine", kind="compose").up()
    assert "of another day" not in caught.value.message


def test_require_same_postgres_other_major_is_refused() -> None:
    require_same_postgres({"postgres": "postgres:18.6-trixie"}, {"postgres": "mirror/postgres:18.7"}, "v")
    require_same_postgres({}, {"postgres": "postgres:18.6"}, "v")
    with pytest.raises(DataMismatch, match=r"postgres:17\.5 wrote it, and this is postgres:18\.6"):
        require_same_postgres({"postgres": "postgres:17.5"}, {"postgres": "postgres:18.6"}, "v")


def test_images_offline_missing_image_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = {
        "a": {"image": "here:1"},
        "b": {"image": "stood-in:1"},
        "c": {"image": "gone:1", "build": {"context": "."}},
    }
    responses = {
        "GET /images/here:1/json": (200, {"Config": {"Labels": None}}),
        "GET /images/stood-in:1/json": (200, {"Config": {"Labels": {"photo-worker.stand-in": "wheel"}}}),
    }
    run = compose(tmp_path, model)
    with engine(tmp_path, monkeypatch, responses):
        found = images.images(run, ContainerEngine(), ("a", "b", "c"))
    assert [(one.name, one.how, one.ours) for one in found] == [
        ("here:1", "here", False),
        ("stood-in:1", "stand-in", False),
        ("gone:1", "missing", True),
    ]
    with pytest.raises(ImageMissing, match="gone:1 of the service c"):
        images.obtain(run, found, offline=True)


@pytest.mark.parametrize(("ours", "error"), [(False, ImageUnavailable), (True, ImageUnbuildable)])
def test_obtain_failed_names_image_and_last_output(
    tmp_path: Path, ours: bool, error: type[ImageUnavailable] | type[ImageUnbuildable]
) -> None:
    told: list[str] = []
    run = compose(tmp_path, {}, "echo trying; echo 'no such host' >&2; exit 18")
    with pytest.raises(error, match=r"gone:1 of the service c cannot be .*: no such host"):
        images.obtain(run, [images.Image("c", "gone:1", "missing", ours)], offline=False, tell=told.append)
    assert told[0] == f"{'build' if ours else 'pull'} gone:1 for c"
    assert "trying" in told


def test_obtain_fetches_missing_images_only(tmp_path: Path) -> None:
    told: list[str] = []
    run = compose(tmp_path, {}, f'echo "$@" >> {tmp_path / "runs"}')
    known = [images.Image("a", "a:1", "here", False), images.Image("b", "b:1", "missing", False)]
    known.append(images.Image("c", "c:1", "missing", True))
    assert [one.how for one in images.obtain(run, known, offline=False, tell=told.append)] == [
        "here",
        "pulled",
        "built",
    ]
    runs = [line.split("--progress plain ")[1] for line in (tmp_path / "runs").read_text().splitlines()]
    assert runs == ["pull b", "build c"]
