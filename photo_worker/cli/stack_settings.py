"""The options of a local stack for ``config show``: each value with its source.

The stack's own variables are read only from the environment, as click reads those of the options.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from photo_worker.config import Environment, Origin
from photo_worker.devkit.errors import StackError

if TYPE_CHECKING:
    from photo_worker.devkit.state import StackRecord

PREFIX = "PHOTO_WORKER_"
_OWN = (
    "PHOTO_WORKER_HOME",
    "PHOTO_WORKER_STACK",
    "PHOTO_WORKER_STACK_KIND",
    "PHOTO_WORKER_S3",
    "PHOTO_WORKER_OFFLINE",
    "PHOTO_WORKER_MINIO",
    "PHOTO_PG_BIN",
)
_DEFAULT = Origin("default")
_RECORD = Origin("stack")


def stack_settings(name: str | None, environ: Mapping[str, str]) -> Iterator[tuple[str, str | None, Origin]]:
    """Yield name, value and origin of each option that ``up`` would use now; nothing without the dev kit.

    Values may hold passwords of external services. An option that has no variable is yielded under its own name.
    """
    try:
        from photo_worker.devkit.layout import DEFAULT_NAME, StackPaths, check_name, default_home
        from photo_worker.devkit.ports import derived_base
        from photo_worker.devkit.state import StackRecord
    except ImportError:
        # The worker's own image has no dev kit.
        return
    given = {variable: environ[variable] for variable in _OWN if environ.get(variable, "").strip()}
    home, chosen = default_home(), check_name(name or given.get("PHOTO_WORKER_STACK") or DEFAULT_NAME)
    record: StackRecord | None = None
    # An unreadable record is ignored here; `doctor` reports what is wrong with it.
    with suppress(StackError):
        record = StackRecord.load(StackPaths(home, chosen))
    kind = given.get("PHOTO_WORKER_STACK_KIND") or (record.kind if record else "native")
    # The record's S3 server is kept only if the kind stays the same.
    server = record.s3 if record and record.kind == kind else None
    found = {
        "PHOTO_WORKER_HOME": (str(home), _DEFAULT),
        "PHOTO_WORKER_STACK": (chosen, _DEFAULT),
        "PHOTO_WORKER_STACK_KIND": (kind, _RECORD if record else _DEFAULT),
        "PHOTO_WORKER_S3": (server or _first_server(kind), _RECORD if server else _DEFAULT),
        "PHOTO_WORKER_OFFLINE": ("false", _DEFAULT),
    }
    for variable in _OWN:
        if variable in given:
            yield variable, given[variable], Origin("environment")
        else:
            yield variable, *found.get(variable, (None, _DEFAULT))
    base = record.base_port if record else derived_base(home, chosen)
    yield "--base-port", str(base), _RECORD if record else _DEFAULT
    for service, endpoint in sorted(record.external.items() if record else ()):
        yield f"--external {service}", endpoint, _RECORD
    for service in record.extras if record else ():
        yield f"--with {service}", "on", _RECORD


def ignored_stack_variables(environment: Environment) -> Iterator[str]:
    """Yield a warning for each stack variable in the .env file, which the stack's commands do not read."""
    for name, origin in environment.origins.items():
        if origin.kind == "file" and name in _OWN:
            yield f"{name} in {origin} is ignored: the stack's commands read it from the environment alone"


def _first_server(kind: str) -> str:
    from photo_worker.devkit.service_registry import s3_servers

    return s3_servers(kind)[0]
