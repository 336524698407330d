"""The sessions of this repository: `nox --list`, or `python3 dev.py nox --list`.

In the environment that dev.py made, sessions run in place. Under any other nox each
gets its own environment with the same hash-pinned requirements.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tomllib
from pathlib import Path

import nox

ROOT = Path(__file__).resolve().parent
DEVELOPMENT = "requirements-dev.txt"
PYTHONS = ["3.11", "3.12", "3.13", "3.14"]
IN_PLACE = (Path(sys.prefix) / "photo-worker-env.json").exists()
BACKEND = "none" if IN_PLACE else None
# The distributions beside the worker's own.
PACKAGES = [f"packages/{found.parent.name}" for found in sorted(ROOT.glob("packages/*/pyproject.toml"))]

nox.needs_version = ">=2026.4"
nox.options.sessions = ["lint", "types", "tests", "conformance"]
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.reuse_venv = "yes"
nox.options.error_on_missing_interpreters = False
# Interpreters come from the machine; sessions download none.
nox.options.download_python = "never"

# uv reads none of pip's settings; users who have set these for pip expect them in every install.
for pip_name, uv_name in (("PIP_INDEX_URL", "UV_DEFAULT_INDEX"), ("PIP_CERT", "SSL_CERT_FILE")):
    if pip_name in os.environ:
        os.environ.setdefault(uv_name, os.environ[pip_name])


def prepare(session: nox.Session) -> str:
    """Install the requirements if the session has its own environment; return its Python."""
    if session.virtualenv.venv_backend == "none":
        return sys.executable
    session.install("--quiet", "--no-deps", "--require-hashes", "--only-binary", ":all:", "-r", DEVELOPMENT)
    editable = [word for name in [*PACKAGES, "."] for word in ("--editable", name)]
    session.install("--quiet", "--no-deps", "--no-build-isolation", *editable)
    return str(Path(session.bin) / "python")


def workers() -> int:
    """Return the number of test processes: cores plus one, as a third of a test's time is waiting for services."""
    return min((os.cpu_count() or 1) + 1, 8)


def pytest(session: nox.Session, *directories: str, marked: str | None = None) -> None:
    """Run pytest in parallel on directories, or on the session's arguments; ``marked`` selects by marker."""
    python = prepare(session)
    named = any(not argument.startswith("-") and Path(argument.split("::")[0]).exists() for argument in session.posargs)
    chosen = [] if named else [directory for directory in directories if (ROOT / directory).exists()]
    parallel = ["--numprocesses", str(workers()), "--dist", "worksteal"]
    chosen += [] if marked is None else ["-m", marked]
    session.run(python, "-m", "pytest", *parallel, *chosen, *session.posargs)


@nox.session(venv_backend=BACKEND)
def demo(session: nox.Session) -> None:
    """Start the local stack and process the fixture photos."""
    session.run(prepare(session), "-m", "photo_worker.cli", "demo", *session.posargs)


@nox.session(venv_backend=BACKEND)
def tests(session: nox.Session) -> None:
    """Run the tests of units, adapters, the stack and the whole, and textract-local's; `replay` has the gate's."""
    directories = ("packages/textract-local", "tests/unit", "tests/integration", "tests/stack", "tests/e2e")
    pytest(session, *directories, "tests/compose/test_file.py")


@nox.session(python=PYTHONS)
def unit(session: nox.Session) -> None:
    """Run the unit tests on every supported Python that is installed."""
    own = session.python == f"{sys.version_info.major}.{sys.version_info.minor}"
    pytest(session, "packages", "tests/unit", marked=None if own else "not single_python")


@nox.session(venv_backend=BACKEND)
def integration(session: nox.Session) -> None:
    """Run the tests of the adapters against the native stack."""
    pytest(session, "tests/integration")


@nox.session(venv_backend=BACKEND)
def conformance(session: nox.Session) -> None:
    """Run the conformance suite on the Textract emulator, or with PHOTO_WORKER_CONFORMANCE=aws on the real service."""
    pytest(session, "tests/conformance")


@nox.session(venv_backend=BACKEND)
def e2e(session: nox.Session) -> None:
    """Run the whole application against the native stack."""
    pytest(session, "tests/e2e")


@nox.session(name="e2e-compose", venv_backend=BACKEND)
def e2e_compose(session: nox.Session) -> None:
    """Run the whole application on Compose, with either S3 server, starting an engine if none responds."""
    python = prepare(session)
    client = prepare_tool(session, python, "localstack-client")
    session.env["PYTHONPATH"] = str(next(client.glob("lib/python*/site-packages"), ""))
    session.run(python, ".ci/e2e_compose.py", *session.posargs)


def prepare_clients(session: nox.Session, python: str) -> None:
    """Make the environment of the client programs, and set the variable that names it."""
    directory = ROOT / ".nox" / "client-programs"
    session.run(python, "scripts/make_clients.py", str(directory), silent=True)
    session.env["PHOTO_WORKER_CLIENTS"] = str(directory)


@nox.session(venv_backend=BACKEND)
def clients(session: nox.Session) -> None:
    """Test the emulator with awscli, the AWS SDK for JavaScript and parsers of Textract responses."""
    prepare_clients(session, prepare(session))
    pytest(session, "tests/clients")


# Tests of a native stack with SeaweedFS or MinIO; other sessions skip them if the programs are not installed.
S3_STACK_TESTS = (
    "tests/integration/devkit/test_s3_servers.py",
    "tests/integration/devkit/test_offline.py::test_demo_offline_sends_no_packet[seaweedfs]",
)


def prepare_tool(session: nox.Session, python: str, name: str) -> Path:
    """Make an additional environment for a test; if that fails, the test reports what is missing."""
    session.run(python, "scripts/make_test_tools.py", name, success_codes=[0, 1], silent=True)
    return ROOT / ".nox" / name


@nox.session(venv_backend=BACKEND)
def s3(session: nox.Session) -> None:
    """Test every available S3 server against the table of behaviours; `-- --servers minio,seaweedfs` requires these."""
    python = prepare(session)
    options = argparse.ArgumentParser(prog="nox -s s3 --", add_help=False, allow_abbrev=False)
    options.add_argument("--servers", default="")
    chosen, others = options.parse_known_args(session.posargs)
    session.env["PHOTO_WORKER_S3_SERVERS"] = chosen.servers
    if "seaweedfs" in (chosen.servers or "seaweedfs"):
        weed = prepare_tool(session, python, "seaweedfs") / "bin"
        session.env["PATH"] = os.pathsep.join([os.environ.get("PATH", os.defpath), str(weed)])
    tests = ["tests/s3"] if chosen.servers else ["tests/s3", *S3_STACK_TESTS]
    # Distributed by groups, so that no server is started twice.
    session.run(python, "-m", "pytest", "--numprocesses", "2", "--dist", "loadgroup", "-rfE", *tests, *others)


@nox.session(venv_backend=BACKEND)
def containers(session: nox.Session) -> None:
    """Run the tests that start throwaway services in containers, if there is a Docker engine."""
    python = prepare(session)
    client = prepare_tool(session, python, "localstack-client")
    session.env["PYTHONPATH"] = str(next(client.glob("lib/python*/site-packages"), ""))
    pytest(session, "tests/containers")


@nox.session(venv_backend=BACKEND)
def replay(session: nox.Session) -> None:
    """Replay every recorded history with the current code; without arguments, test the gate as well."""
    python = prepare(session)
    session.run(python, "-m", "photo_worker.cli", "replay", "check", *session.posargs)
    if not session.posargs:
        features = ["tests/replay/features/histories", "--workflows", "tests.replay.features.workflows:WORKFLOWS"]
        session.run(python, "-m", "photo_worker.cli", "replay", "check", *features)
        pytest(session, "tests/replay", "packages/temporal-replay-gate/tests")


@nox.session(venv_backend=BACKEND)
def crash(session: nox.Session) -> None:
    """Kill processes at every point, switch off each safeguard, and write .reports/crash.html."""
    python = prepare(session)
    session.run(python, "-m", "tests.crash.report", "--clean")
    try:
        pytest(session, "tests/crash")
    except nox.command.CommandFailed:
        # The report includes failures; the session ends with pytest's own failure.
        session.run(python, "-m", "tests.crash.report", success_codes=[0, 1])
        raise
    session.run(python, "-m", "tests.crash.report")


@nox.session(venv_backend=BACKEND)
def soak(session: nox.Session) -> None:
    """Process 5,000 uploads, or as many as requested, while workers and services are killed."""
    session.run(prepare(session), "-m", "tests.crash.soak", *session.posargs)


@nox.session(venv_backend=BACKEND)
def lint(session: nox.Session) -> None:
    """Check style, imports between packages, and content that must not be committed."""
    python = prepare(session)
    session.run(python, "-m", "ruff", "check", ".")
    session.run(python, "-m", "ruff", "format", "--check", ".")
    session.run(str(Path(python).parent / "lint-imports"))
    session.run(python, "scripts/check_committed.py")


@nox.session(venv_backend=BACKEND)
def types(session: nox.Session) -> None:
    """Check types, strictly, tests included."""
    directories = ["photo_worker", *PACKAGES, "tests", "benchmarks", "scripts", ".ci"]
    targets = [name for name in directories if any(Path(name).rglob("*.py"))]
    session.run(prepare(session), "-m", "mypy", *(session.posargs or [*targets, "dev.py", "noxfile.py"]))


@nox.session(venv_backend=BACKEND)
def docs(session: nox.Session) -> None:
    """Write the generated pages of the documentation; `-- --check` only compares."""
    session.run(prepare(session), "-m", "scripts.generated_docs", *session.posargs)


@nox.session(venv_backend=BACKEND)
def bench(session: nox.Session) -> None:
    """Run the benchmarks and print their ratios as a table and as JSON; `-- --short` only tests that they work."""
    python = prepare(session)
    prepare_clients(session, python)
    session.run(python, "-m", "benchmarks", *session.posargs)
    if session.posargs == ["--short"]:
        session.run(python, "-m", "benchmarks.compare_emulators")
        for name in ("ocr_engines", "analysis_quality", "table_quality"):
            session.run(python, "-m", f"benchmarks.{name}", "--short")


@nox.session(venv_backend=BACKEND)
def requirements(session: nox.Session) -> None:
    """Compile the requirements files from pyproject.toml."""
    session.run(prepare(session), "scripts/compile_requirements.py", *session.posargs)


@nox.session(venv_backend="virtualenv")
@nox.parametrize("name", [*PACKAGES, "."], ids=[*(Path(name).name for name in PACKAGES), "photo-worker"])
def build(session: nox.Session, name: str) -> None:
    """Build each wheel, and test it in an environment of its own with its requirements alone."""
    project = tomllib.loads((ROOT / name / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pinned = ("--quiet", "--no-deps", "--require-hashes", "--only-binary", ":all:")
    session.install(*pinned, "-r", "requirements-build.txt", "-r", f"{name}/requirements.txt")
    wheels = Path(session.create_tmp()) / "wheels"
    shutil.rmtree(wheels, ignore_errors=True)
    # The worker needs the other distributions; each of these needs none of this repository.
    sources = [*PACKAGES, "."] if name == "." else [name]
    for source in sources:
        session.run(
            "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(wheels), f"./{source}"
        )
    made = sorted(wheels.glob("*.whl"))
    session.install("--quiet", "--no-deps", "--no-index", "--force-reinstall", *map(str, made))
    (checked,) = (ROOT / name / "scripts").glob("check_*wheel.py")
    with session.chdir(wheels):
        (wheel,) = (each for each in made if each.name.startswith(project["name"].replace("-", "_") + "-"))
        session.run("python", "-I", str(checked), wheel.name)
        for command in project["scripts"]:
            session.run(command, "--help", silent=True)
    session.log(f"{wheel.name}: {wheel.stat().st_size // 1024} KiB, works without the checkout")


if __name__ == "__main__":
    nox.main()
