"""The S3 servers under test: given by an endpoint, or started here on a free port.

``PHOTO_WORKER_S3_MINISTACK``, ``_SEAWEEDFS``, ``_MINIO``, ``_LOCALSTACK`` give a running server as
``http://key:secret@host:port``. Servers that are started here listen on loopback, keep their data in a
directory of the test run and end with it.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote, urlsplit
from urllib.request import urlopen

from botocore.exceptions import BotoCoreError, ClientError

from photo_worker.devkit.errors import S3ServerMissing
from photo_worker.devkit.services.minio import minio_program
from photo_worker.devkit.services.seaweedfs import seaweedfs_program
from tests.contracts.s3.case import Endpoint, delete_bucket, new_bucket

HOST = "127.0.0.1"
_START_SECONDS = 60.0
_STOP_SECONDS = 15.0
# The variables of the caller's environment that servers inherit.
_PASSED = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")


class NotToBeHad(Exception):
    """A server is not available on this machine; the text says why."""


class ServerFailed(Exception):
    """A server that was given, started or requested by name cannot be used."""


@dataclass(frozen=True)
class Recipe:
    """How to start a server: arguments, environment variables, and credentials."""

    argv: list[str]
    env: Mapping[str, str]
    port: int
    access_key: str = "local"
    secret_key: str = "localsecret"


@contextmanager
def open_server(name: str, directory: Path) -> Iterator[Endpoint]:
    """Yield a usable server; raises ``NotToBeHad`` and ``ServerFailed``."""
    given = os.environ.get(f"PHOTO_WORKER_S3_{name.upper()}")
    if given:
        server = _given(name, given)
        with closing(server):
            try:
                wait_until_usable(server, lambda: None, seconds=10)
            except TimeoutError as error:
                raise ServerFailed(str(error)) from error
            yield server
        return
    if name not in _RECIPES:
        raise NotToBeHad(f"there is no S3 server named {name}")
    with _started(name, directory) as server:
        yield server


def version_of(server: Endpoint) -> str | None:
    """Return the version that a server reports, or None if it reports none."""
    with suppress(OSError, ValueError):
        if server.name == "ministack":
            with urlopen(f"{server.url}/_ministack/health", timeout=5) as response:  # noqa: S310
                return str(json.load(response)["version"])
        if server.name == "localstack":
            with urlopen(f"{server.url}/_localstack/health", timeout=5) as response:  # noqa: S310
                return str(json.load(response)["version"])
        if server.name == "seaweedfs":
            with urlopen(f"{server.url}/healthz", timeout=5) as response:  # noqa: S310
                return str(response.headers["Server"]).partition(" ")[2].partition(" ")[0] or None
    return None


def _given(name: str, url: str) -> Endpoint:
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname or not parts.port:
        raise ServerFailed(f"PHOTO_WORKER_S3_{name.upper()} is no http://KEY:SECRET@HOST:PORT: {url!r}")
    known = "test" if name == "localstack" else "local"
    access_key, secret_key = unquote(parts.username or known), unquote(parts.password or known)
    return Endpoint(name, f"http://{parts.hostname}:{parts.port}", access_key, secret_key)


@contextmanager
def _started(name: str, directory: Path) -> Iterator[Endpoint]:
    directory.mkdir(parents=True)
    recipe = _RECIPES[name](directory)
    log = directory / "log.txt"
    base = {key: os.environ[key] for key in _PASSED if key in os.environ}
    with log.open("wb") as output:
        process = subprocess.Popen(
            recipe.argv,
            env={**base, **recipe.env},
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )

    def still_runs() -> None:
        if process.poll() is not None:
            raise ServerFailed(f"{name} ended with code {process.returncode}:\n{_tail(log)}")

    try:
        with closing(Endpoint(name, f"http://{HOST}:{recipe.port}", recipe.access_key, recipe.secret_key)) as server:
            try:
                wait_until_usable(server, still_runs, seconds=_START_SECONDS)
            except TimeoutError as error:
                raise ServerFailed(f"{error}\n{_tail(log)}") from error
            yield server
    finally:
        _stop(process)
        shutil.rmtree(directory, ignore_errors=True)


def wait_until_usable(server: Endpoint, still_runs: Callable[[], None], *, seconds: float) -> None:
    """Wait until an object can be written and read: servers respond before they can do that.

    ``still_runs`` raises if waiting cannot help. Raises ``TimeoutError``.
    """
    deadline = time.monotonic() + seconds
    client = server.s3()
    while True:
        still_runs()
        try:
            bucket = new_bucket(client)
            client.put_object(Bucket=bucket, Key="k", Body=b"x")
            client.get_object(Bucket=bucket, Key="k")["Body"].read()
            delete_bucket(client, bucket)
        except (BotoCoreError, ClientError) as error:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{server.name} at {server.url} is not usable: {error}") from error
            time.sleep(0.05)
        else:
            return


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _tail(log: Path) -> str:
    return "\n".join(log.read_text("utf-8", "replace").splitlines()[-20:])


def _free_ports(count: int) -> list[int]:
    with_sockets = [socket.create_server((HOST, 0)) for _ in range(count)]
    try:
        return [one.getsockname()[1] for one in with_sockets]
    finally:
        for one in with_sockets:
            one.close()


def _found(find: Callable[[], Path]) -> str:
    try:
        return str(find())
    except S3ServerMissing as error:
        raise NotToBeHad(str(error)) from error


def _ministack(directory: Path) -> Recipe:
    if find_spec("ministack") is None:
        raise NotToBeHad("the package ministack is not installed")
    (port,) = _free_ports(1)
    recipe = Recipe([sys.executable, "-m", "ministack"], {}, port)
    env = {
        "AWS_ACCESS_KEY_ID": recipe.access_key,
        # Presigned URLs must be signed with it.
        "AWS_SECRET_ACCESS_KEY": recipe.secret_key,
        "BIND_HOST": HOST,
        "MINISTACK_HOST": HOST,
        "GATEWAY_PORT": str(port),
        "SERVICES": "s3,sns,sqs",
        "IOT_MTLS_ENABLED": "0",
        "SFTP_ENABLED": "0",
        "DOCKER_HOST": f"unix://{directory / 'no-docker'}",
        "S3_PERSIST": "1",
        "S3_DATA_DIR": str(directory / "s3"),
        "LOG_LEVEL": "WARNING",
    }
    return replace(recipe, env=env)


def _seaweedfs(directory: Path) -> Recipe:
    weed = _found(seaweedfs_program)
    ports = dict(zip(_WEED_PORTS, _free_ports(len(_WEED_PORTS)), strict=True))
    actions = ["Admin", "Read", "Write", "List", "Tagging"]
    recipe = Recipe([], {}, ports["s3.port"])
    credentials = [{"accessKey": recipe.access_key, "secretKey": recipe.secret_key}]
    identities = {"identities": [{"name": "local", "credentials": credentials, "actions": actions}]}
    config = directory / "s3.json"
    config.write_text(json.dumps(identities), "utf-8")
    options = {
        "dir": str(directory),
        "ip": HOST,
        "ip.bind": HOST,
        "s3.config": str(config),
        # As in S3: no bucket is created implicitly, and none with objects is deleted.
        "s3.autoCreateBucket": "false",
        "s3.allowDeleteBucketNotEmpty": "false",
        "s3.localSocket": str(directory / "s3.sock"),
        "filer.localSocket": str(directory / "filer.sock"),
        "s3.port.iceberg": "0",
        "s3.port.lance": "0",
        "webdav": "false",
        "admin.ui": "false",
        "master.telemetry": "false",
        **{name: str(port) for name, port in ports.items()},
    }
    return replace(recipe, argv=[weed, "mini", *(f"-{name}={value}" for name, value in options.items())])


_WEED_PORTS = tuple(
    f"{part}.{port}" for part in ("s3", "admin", "master", "volume", "filer") for port in ("port", "port.grpc")
)


def _minio(directory: Path) -> Recipe:
    minio = _found(minio_program)
    port, console = _free_ports(2)
    recipe = Recipe(
        [
            minio,
            "server",
            str(directory / "data"),
            "--address",
            f"{HOST}:{port}",
            "--console-address",
            f"{HOST}:{console}",
        ],
        {},
        port,
    )
    env = {
        "MINIO_ROOT_USER": recipe.access_key,
        "MINIO_ROOT_PASSWORD": recipe.secret_key,
        "MINIO_BROWSER": "off",
        "MINIO_UPDATE": "off",
        "MINIO_CALLHOME_ENABLE": "off",
    }
    return replace(recipe, env=env)


def _localstack(directory: Path) -> Recipe:
    program = os.environ.get("PHOTO_WORKER_LOCALSTACK_PYTHON", "")
    if not os.access(program, os.X_OK):
        raise NotToBeHad(
            "give its endpoint as PHOTO_WORKER_S3_LOCALSTACK, or a Python 3.13 that has localstack-core as "
            "PHOTO_WORKER_LOCALSTACK_PYTHON"
        )
    (port,) = _free_ports(1)
    env = {
        "FILESYSTEM_ROOT": str(directory / "root"),
        "GATEWAY_LISTEN": f"{HOST}:{port}",
        "LOCALSTACK_HOST": f"{HOST}:{port}",
        # The default server listens on every interface.
        "GATEWAY_SERVER": "hypercorn",
        "DNS_ADDRESS": "0",
        "DISABLE_EVENTS": "1",
        "SKIP_SSL_CERT_DOWNLOAD": "1",
        "SERVICES": "s3,sns,sqs",
        # By default, it accepts any presigned URL.
        "S3_SKIP_SIGNATURE_VALIDATION": "0",
    }
    # It checks signatures with this secret for any access key.
    return Recipe([program, "-m", "localstack.runtime.main"], env, port, "test", "test")


_RECIPES: dict[str, Callable[[Path], Recipe]] = {
    "ministack": _ministack,
    "seaweedfs": _seaweedfs,
    "minio": _minio,
    "localstack": _localstack,
}
