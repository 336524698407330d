"""The servers of the run, each started once by the first test process that needs it."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import pytest

from photo_worker.adapters.s3.object_store import make_client
from tests.contracts.s3.case import REGION, Endpoint
from tests.contracts.s3.table import DEVIATES, SERVERS, expect_deviations
from tests.s3.servers import NotToBeHad, ServerFailed, open_server

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# The servers by name, comma-separated; a named one that is unavailable is a failure.
CHOSEN = "PHOTO_WORKER_S3_SERVERS"
# The S3 server of the run's Compose stack, which is then the only one.
IN_CONTAINERS = (
    os.environ.get("PHOTO_WORKER_S3") or "localstack" if os.environ.get("PHOTO_WORKER_STACK_KIND") == "compose" else ""
)
HERE = Path(__file__).parent
_ASKS_AS_A_PAGE = "test_cors_preflight_names_the_allowed_origins"


class Servers:
    """The servers of this test process, with a client of the worker's kind for each.

    ``given`` are running servers.
    """

    def __init__(self, directory: Path, stack: ExitStack, given: Mapping[str, Endpoint]) -> None:
        self._directory = directory
        self._stack = stack
        self._opened: dict[str, Endpoint | NotToBeHad | ServerFailed] = dict(given)
        self._clients: dict[str, S3Client] = {}

    def get(self, name: str) -> Endpoint:
        """Return a usable server; if there is none, skip, or fail if it was named."""
        if name not in self._opened:
            try:
                self._opened[name] = self._stack.enter_context(open_server(name, self._directory / name))
            except (NotToBeHad, ServerFailed) as reason:
                self._opened[name] = reason
        opened = self._opened[name]
        if isinstance(opened, ServerFailed):
            raise opened
        if isinstance(opened, NotToBeHad):
            if os.environ.get(CHOSEN):
                raise ServerFailed(f"{name} was asked for: {opened}") from opened
            pytest.skip(f"{name}: {opened}")
        return opened

    def client(self, server: Endpoint) -> S3Client:
        """Return a client as the worker makes it."""
        if server.name not in self._clients:
            session = boto3.Session(server.access_key, server.secret_key, region_name=REGION)
            client = make_client(session=session, endpoint_url=server.url, max_pool_connections=20)
            self._clients[server.name] = client
            self._stack.callback(client.close)
        return self._clients[server.name]


@pytest.fixture(scope="session")
def servers(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    with ExitStack() as stack:
        given = {}
        if IN_CONTAINERS:
            variables = request.getfixturevalue("stack_env")
            keys = variables["AWS_ACCESS_KEY_ID"], variables["AWS_SECRET_ACCESS_KEY"]
            given["localstack"] = Endpoint("localstack", variables["AWS_ENDPOINT_URL_SQS"], *keys)
            given[IN_CONTAINERS] = Endpoint(IN_CONTAINERS, variables["AWS_ENDPOINT_URL_S3"], *keys)
            for server in given.values():
                stack.callback(server.close)
        yield Servers(tmp_path_factory.mktemp("s3"), stack, given)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def server_of(item: pytest.Function) -> str:
        return str(item.callspec.params.get("server", "")) if hasattr(item, "callspec") else ""

    for item in items:
        if IN_CONTAINERS and getattr(item, "originalname", "") == _ASKS_AS_A_PAGE:
            # Added before the table's deviations of the bare server, whose responses no web page gets here.
            why = "A stack refuses pages of other origins, whatever the rules of a bucket allow"
            item.add_marker(pytest.mark.xfail(reason=why, strict=True, raises=DEVIATES))
    expect_deviations([item for item in items if item.path.parent == HERE], server_of)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print which servers were tested, and why the others were not."""
    tried: Counter[str] = Counter()
    left: dict[str, str] = {}
    for kind, reports in terminalreporter.stats.items():
        for report in reports:
            found = re.search(r"^tests/s3/.*\[(\w+)", getattr(report, "nodeid", ""))
            if found and found[1] in SERVERS:
                if kind == "skipped":
                    left[found[1]] = str(report.longrepr[2]).removeprefix(f"Skipped: {found[1]}: ")
                elif kind in {"passed", "xfailed", "failed"}:
                    tried[found[1]] += 1
    if tried or left:
        terminalreporter.section("S3 servers")
        for name in sorted({*tried, *left}):
            said = f"{tried[name]} tests" if tried[name] else f"not tried: {left[name]}"
            terminalreporter.write_line(f"{SERVERS[name].title}: {said}")


def _chosen() -> list[str]:
    named = [name.strip() for name in os.environ.get(CHOSEN, "").split(",") if name.strip()]
    unknown = sorted(set(named) - SERVERS.keys())
    if unknown:
        raise pytest.UsageError(f"{CHOSEN} names {', '.join(unknown)}; there are {', '.join(SERVERS)}")
    return named or ([IN_CONTAINERS] if IN_CONTAINERS else list(SERVERS))


# With --dist loadgroup, one test process has all tests of a server, and no server is started twice.
@pytest.fixture(params=_chosen())
def server(request: pytest.FixtureRequest, servers: Servers) -> Endpoint:
    """The S3 server under test."""
    return servers.get(request.param)


@pytest.fixture
def messages(server: Endpoint, servers: Servers) -> Endpoint:
    """The SNS and SQS endpoint of a stack with this S3 server."""
    if SERVERS[server.name].messages:
        return server
    return servers.get("localstack" if IN_CONTAINERS else "ministack")
