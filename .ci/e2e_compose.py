"""Run the end-to-end tests on Compose, on a real engine: once with LocalStack's S3 and once with MinIO's.

    python .ci/e2e_compose.py                     what `nox -s e2e-compose` runs
    python .ci/e2e_compose.py --s3 minio          one of the two; LocalStack's includes the tests of containers
    python .ci/e2e_compose.py -- -k demo          arguments for pytest

Starts an engine if none responds; pulls missing images, or builds stand-ins for those that cannot be pulled;
prints at the end which tests ran on which images. Everything that it started is stopped again, the images stay. If no
engine can run it prints `not run: ...`, also to the file of --not-run, and exits with 0.
Exit codes: 0, 1 if a test failed, all tests of a run were skipped, or an image is missing.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

import docker_engine
from make_standin_images import STAND_IN, image_names, make_all
from photo_worker.devkit.compose import program
from photo_worker.devkit.errors import ComposeMissing
from standins.docker_cli import Docker, DockerError
from standins.recipes import ROOT, NotMade, base_name

S3_SERVERS = ("localstack", "minio")
# Run on Compose and on the native stack: the whole application and its object store.
TESTS = (
    "tests/e2e",
    "tests/integration/test_image_workflow.py",
    "tests/s3/test_behaviours.py",
    "tests/s3/test_table.py",
)
# The other contracts of the store, the queue and the database.
MORE_TESTS = (
    "tests/integration/test_idempotency.py",
    "tests/integration/test_orchestration.py",
    "tests/integration/storage/test_contracts.py::TestBotoObjectStore",
    "tests/integration/storage/test_contracts.py::TestBotoObjectStoreWithVersions",
)
# Tests of the containers themselves, including LocalStack's: run once.
COMPOSE_TESTS = (
    "tests/compose/test_compose_commands.py::test_stack_commands_through_a_lifecycle_succeed",
    "tests/compose/test_pgbouncer.py",
)
MORE_COMPOSE_TESTS = ("tests/compose", "tests/containers")
_PULL_SECONDS = 600.0
# The registry responded, and has no such image or denies it.
_REFUSED = re.compile(r"not found|manifest unknown|denied|unauthorized", re.IGNORECASE)


@dataclass(frozen=True)
class Ran:
    """One run of pytest."""

    what: str
    code: int
    seconds: float
    counts: Counter[str]
    """The tests by outcome; empty without a report."""

    @property
    def is_failed(self) -> bool:
        """Whether a test failed, or all were skipped: pytest calls that a success, and it shows nothing."""
        # 5: pytest's -k selected none of these.
        return self.code not in {0, 5} or (self.code == 0 and not self.counts["passed"])


def pull_missing(docker: Docker, names: Sequence[str]) -> None:
    """Pull missing images. If the registry of one cannot be reached, the others are not tried."""
    for name in names:
        if docker.image(name) is not None:
            continue
        try:
            docker.run("pull", "--quiet", name, seconds=_PULL_SECONDS)
            print(f"pulled {name}", flush=True)
        except DockerError as error:
            reason = str(error).splitlines()[-1]
            print(f"{name} cannot be pulled: {reason}", flush=True)
            if not _REFUSED.search(reason):
                return


def obtain_images(docker: Docker, services: Sequence[str]) -> bool:
    """Pull or build the images of these services; print those that failed, and return whether all exist."""
    names = image_names()
    pull_missing(
        docker, [*(names[service] for service in services if service not in {"textract", "worker"}), base_name()]
    )
    try:
        made = make_all(docker, services)
    except (DockerError, NotMade) as error:
        print(error, flush=True)
        return False
    for entry in made:
        if entry.how in {"made", "failed"}:
            print(f"{entry.name}: {entry.how}, {entry.seconds:.0f} s {entry.reason}".rstrip(), flush=True)
    return not any(entry.how == "failed" for entry in made)


def describe_images(docker: Docker, services: Sequence[str]) -> list[str]:
    """Return a line for each image that tells its origin."""
    lines = []
    for service in services:
        name = image_names()[service]
        found = docker.image(name)
        stand_in = None if found is None else found.labels.get(STAND_IN)
        if stand_in is None:
            what = "built from this checkout" if service in {"textract", "worker"} else "pulled"
        else:
            what = "a stand-in" if stand_in == name else f"built from this checkout on a stand-in for {stand_in}"
        lines.append(f"  {name}: {what}")
    return lines


def run_tests(what: str, tests: Sequence[str], extra: Sequence[str], variables: Mapping[str, str]) -> Ran:
    """Run pytest on these tests with additional environment variables."""
    report = ROOT / ".reports" / f"e2e-compose-{what}.xml"
    report.parent.mkdir(exist_ok=True)
    report.unlink(missing_ok=True)
    print(f"\n-- {what}", flush=True)
    began = time.monotonic()
    command = [sys.executable, "-m", "pytest", "--numprocesses", "2", "--dist", "loadgroup", f"--junitxml={report}"]
    # A test process that needs the stack waits while another one starts it.
    command.append("--timeout=300")
    code = subprocess.run([*command, *tests, *extra], cwd=ROOT, env={**os.environ, **variables}, check=False).returncode
    return Ran(what, code, time.monotonic() - began, counted(report))


def counted(report: Path) -> Counter[str]:
    """Return the number of tests in a pytest report by outcome; nothing if there is no report."""
    suite = ET.parse(report).getroot().find("testsuite") if report.exists() else None  # noqa: S314 - pytest wrote it
    if suite is None:
        return Counter()
    others = Counter({name: int(suite.get(name, "0")) for name in ("failures", "errors", "skipped")})
    return Counter(passed=int(suite.get("tests", "0")) - others.total()) + others


def described(counts: Counter[str]) -> str:
    """Return the numbers of tests as text."""
    return ", ".join(f"{number} {name}" for name, number in counts.items()) or "no report of any test"


def run_all(version: str, servers: Sequence[str], extra: Sequence[str], *, prepare_only: bool, brief: bool) -> int:
    """Obtain the images, run the tests on each S3 server, and print which tests ran on which images."""
    docker = Docker()
    services = ["temporal", "postgres", "pgbouncer", "aws", "textract", "worker"]
    services += ["s3"] if "minio" in servers else []
    began = time.monotonic()
    complete = obtain_images(docker, services)
    prepared = time.monotonic() - began
    if prepare_only or not complete:
        return 0 if complete else 1
    compose = program.find()
    tests = TESTS if brief else (*TESTS, *MORE_TESTS)
    # Their images are here: a test that finds them missing fails.
    required = {"PHOTO_WORKER_TEST_CONTAINERS": " ".join(services)}
    runs = [
        run_tests(f"{server}", tests, extra, {"PHOTO_WORKER_STACK_KIND": "compose", "PHOTO_WORKER_S3": server})
        for server in servers
    ]
    if "localstack" in servers:
        # It has no wheel and therefore is not in the environment; tests that need it are skipped without it.
        subprocess.run([sys.executable, "scripts/make_test_tools.py", "localstack-client"], cwd=ROOT, check=False)
        client = next((ROOT / ".nox" / "localstack-client").glob("lib/python*/site-packages"), "")
        own_tests = COMPOSE_TESTS if brief else MORE_COMPOSE_TESTS
        runs.append(run_tests("containers", own_tests, extra, {"PYTHONPATH": str(client), **required}))
    print(f"\nDocker engine {version}, Docker Compose {compose.version}; images ready in {prepared:.0f} s:")
    print("\n".join(describe_images(docker, services)))
    for run in runs:
        print(f"{run.what}: {described(run.counts)} in {run.seconds:.0f} s")
    return 0 if not any(run.is_failed for run in runs) and any(run.code == 0 for run in runs) else 1


def main() -> int:
    """Parse the options and run; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--s3",
        choices=S3_SERVERS,
        action="append",
        help="with this S3 alone; localstack brings the containers' own tests",
    )
    parser.add_argument("--brief", action="store_true", help="leave out what other runs show too, as the gate does")
    parser.add_argument("--install", action="store_true", help="install what is missing (Debian, as root)")
    parser.add_argument("--images", action="store_true", help="get the images, and run nothing")
    parser.add_argument("--not-run", type=Path, metavar="FILE", help="where to write why nothing could run")
    parser.add_argument("pytest", nargs="*", help="arguments for pytest, after --")
    chosen = parser.parse_args()
    # An engine that was started here is stopped in any case.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        if chosen.install:
            docker_engine.install()
        with docker_engine.engine() as version:
            program.find()
            return run_all(
                version, chosen.s3 or S3_SERVERS, chosen.pytest, prepare_only=chosen.images, brief=chosen.brief
            )
    except (docker_engine.NoEngine, ComposeMissing) as error:
        line = f"not run: {error if isinstance(error, docker_engine.NoEngine) else error.message}"
        print(line)
        if chosen.not_run is not None:
            chosen.not_run.parent.mkdir(parents=True, exist_ok=True)
            chosen.not_run.write_text(f"{line}\n", encoding="utf-8")
        return 0


if __name__ == "__main__":
    sys.exit(main())
