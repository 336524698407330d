"""What every test runs in: a clean environment, and one stack that all test processes share.

The stack starts with the first test that asks for ``stack_env`` and ends with the run. Tests are
kept apart by what they make in it: a database, a bucket and a task queue each.
"""

from __future__ import annotations

import gc
import json
import os
import secrets
import shutil
import signal
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# A loaded machine is slow for reasons that are not the test's.
settings.register_profile("project", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("project")

pytest_plugins = [
    "tests.support.order",
    "tests.support.xdist_scheduler",
    "tests.support.resources",
    "tests.support.harness",
    "tests.support.command_runs",
    "tests.support.response_schema_hook",
    "tests.support.async_timeout",
]

_HOME = "PHOTO_WORKER_TEST_HOME"
# What the run's stack is made of, by the variables that the command line reads; by default it is native.
_KIND, _S3 = "PHOTO_WORKER_STACK_KIND", "PHOTO_WORKER_S3"
_STACK = "PHOTO_WORKER_TEST_STACK"
# The stack's variables as JSON, from a run that has started it to a run inside it.
STACK_VARIABLES = "PHOTO_WORKER_TEST_STACK_VARIABLES"
_OWNED = pytest.StashKey[bool]()

# What a developer's shell may hold and a test must not see.
_FOREIGN = ("AWS_", "TEMPORAL_", "DATABASE_URL", "S3_", "OCR_", "LOG_", "MAX_", "PG", "PHOTO_WORKER_HOME")
# What a run's stacks are made of is for the fixtures; a test of the commands says it itself.
_CHOICES = (_KIND, _S3, "PHOTO_WORKER_OFFLINE")


def pytest_configure(config: pytest.Config) -> None:
    """Choose, in the process that starts the others, where this run's stack lives."""
    # Started in the background by a shell, or by nohup; the commands under test would ignore the signal as well.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    # A run inside a run, such as that of a mutant, uses the outer one's stack.
    if not hasattr(config, "workerinput") and _HOME not in os.environ:
        config.stash[_OWNED] = True
        home = Path(tempfile.mkdtemp(prefix="photo-worker-tests-"))
        # Root's Postgres runs as another user: behind a closed door its data would be kept elsewhere.
        home.chmod(0o711)
        os.environ[_HOME] = str(home)
        os.environ[_STACK] = f"t-{secrets.token_hex(4)}"


def pytest_collection_finish() -> None:
    """Leave what was imported, which stays to the end, out of each search for garbage: a tenth of a test's time."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop the run's stack, where a test started it, and delete what it stored."""
    if not config.stash.get(_OWNED, False):
        return
    home = Path(os.environ.pop(_HOME))
    name = os.environ.pop(_STACK)
    if (home / name).exists():
        from photo_worker.devkit.local_stack import local_stack

        local_stack(name, home=home).delete()
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="session")
def stack_choice() -> dict[str, str]:
    """Return the variables that say what this run's stacks are made of; none for the native stack as it is."""
    return {name: os.environ[name] for name in (_KIND, _S3) if os.environ.get(name)}


@pytest.fixture(scope="session")
def stack_env(stack_choice: dict[str, str]) -> dict[str, str]:
    """Return the variables of the run's stack, started by whichever test process asks first."""
    if STACK_VARIABLES in os.environ:
        return dict(json.loads(os.environ[STACK_VARIABLES]))
    from photo_worker.devkit.local_stack import StackOptions, local_stack

    kind: Any = stack_choice.get(_KIND)
    s3: Any = stack_choice.get(_S3)
    options = StackOptions(kind=kind, s3=s3, base_port=0, durable=False)
    stack = local_stack(os.environ[_STACK], options, home=Path(os.environ[_HOME]))
    stack.up()
    return stack.env()


@pytest.fixture(autouse=True)
def _scrubbed_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if (name.startswith(_FOREIGN) and name not in {_HOME, _STACK}) or name in _CHOICES:
            monkeypatch.delenv(name)
    # No test reads a developer's own profiles, or asks for credentials on the network.
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("TEMPORAL_CONFIG_FILE", os.devnull)
