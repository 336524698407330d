"""MinIO as the S3 server: natively if it is installed or was built, in containers from its maintained fork's image."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from photo_worker.devkit import probes
from photo_worker.devkit.environment import environment_of
from photo_worker.devkit.errors import S3ServerMissing
from photo_worker.devkit.ports import LOOPBACK
from photo_worker.devkit.s3_service import S3Service
from photo_worker.devkit.service import base_environment, make_directory, plan_of

if TYPE_CHECKING:
    from photo_worker.devkit.layout import StackPaths
    from photo_worker.devkit.plan import ServicePlan
    from photo_worker.devkit.state import StackRecord

PORTS = {"s3": 7, "s3-admin": 15}
MINIO_VARIABLE = "PHOTO_WORKER_MINIO"
# The project's last published version, months after its last release: only a Go module, no image or binary.
MINIO_VERSION = "v0.0.0-20260212201848-7aac2a2c5b7c"
# No page can have this origin: names below .invalid do not exist (RFC 6761).
_NO_ORIGIN = "http://none.invalid"


class _MinIO(S3Service):
    """MinIO on one directory, from the user's own program or the one that ``photo-worker prefetch`` built."""

    uses = tuple(PORTS)
    position = 35
    s3_server = "minio"
    # The container's console is off.
    published = ("s3",)

    def version(self) -> str:
        # A build by `go install` reports DEVELOPMENT; running any other program takes longer than a reset may.
        with_date = MINIO_VERSION.split("-")[1]
        built = _minio_or_none() == minio_cache()
        return f"MinIO {with_date[:4]}-{with_date[4:6]}-{with_date[6:8]}" if built else "MinIO"

    def program(self) -> Path:
        return minio_program()

    def plan(self, record: StackRecord, paths: StackPaths) -> ServicePlan:
        program = minio_program()
        data = make_directory(paths.data / "s3-minio")
        variables = environment_of(record)
        env = {
            **base_environment(paths),
            "MINIO_ROOT_USER": variables["AWS_ACCESS_KEY_ID"],
            "MINIO_ROOT_PASSWORD": variables["AWS_SECRET_ACCESS_KEY"],
            "MINIO_SITE_REGION": record.region,
            "MINIO_BROWSER": "off",
            # By default, a page of any origin may read responses.
            "MINIO_API_CORS_ALLOW_ORIGIN": _NO_ORIGIN,
            # No checks for a newer release, and no reports to MinIO's support if it is subscribed.
            "MINIO_UPDATE": "off",
            "MINIO_CALLHOME_ENABLE": "off",
            # MinIO makes a directory in HOME.
            "HOME": str(make_directory(paths.run / "s3-minio")),
        }
        argv = [str(program), "server", "--anonymous", "--address", f"{LOOPBACK}:{record.ports['s3']}"]
        argv += ["--console-address", f"{LOOPBACK}:{record.ports['s3-admin']}"]
        argv += ["--certs-dir", str(make_directory(paths.run / "s3-minio" / "certs")), str(data)]
        plan = plan_of(self.name, argv, env, paths, cwd=data, stop_stage=1)
        return replace(plan, discard=str(data))

    def is_alive(self, record: StackRecord) -> bool:
        return probes.http_ok(record.ports["s3"], "/minio/health/live")


def minio_program() -> Path:
    """Return MinIO's server: ``PHOTO_WORKER_MINIO``, else ``minio`` on PATH, else the one that was built.

    Raises ``S3ServerMissing``.
    """
    named = os.environ.get(MINIO_VARIABLE, "").strip()
    if named:
        program = Path(named).expanduser().absolute()
        if not os.access(program, os.X_OK) or program.is_dir():
            reason = f"{MINIO_VARIABLE} names {program}, which is no program; correct it or unset it"
            raise S3ServerMissing(service="S3 by MinIO", reason=reason, s3="minio")
        return program
    found = shutil.which("minio")
    if found is not None:
        return Path(found)
    if os.access(minio_cache(), os.X_OK):
        return minio_cache()
    reason = f"no minio on PATH, and {MINIO_VARIABLE} is not set"
    raise S3ServerMissing(service="S3 by MinIO", reason=reason, s3="minio")


def minio_cache() -> Path:
    """Return the path of the MinIO that ``photo-worker prefetch`` builds, whether it exists or not."""
    cache = os.environ.get("XDG_CACHE_HOME", "")
    # A relative path is ignored (XDG Base Directory Specification).
    home = Path(cache) if cache.startswith("/") else Path.home() / ".cache"
    return home / "photo-worker" / f"minio-{MINIO_VERSION.partition('-')[2]}" / "minio"


def _minio_or_none() -> Path | None:
    try:
        return minio_program()
    except S3ServerMissing:
        return None


SERVICES = (_MinIO(),)
