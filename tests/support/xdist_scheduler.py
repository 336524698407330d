"""Keeps tests together that share an expensive resource: all of an S3 server, and otherwise all of a file.

For runs with ``--dist loadgroup``. pytest-xdist passes its own groups in a changed node id, which pytest 9.2 does not
support: its marks are ignored (https://github.com/pytest-dev/pytest-xdist/issues/1386).
"""

from __future__ import annotations

import re
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

_PARAMETERS = re.compile(r"\[(.*)\]$")


def group_of(nodeid: str) -> str:
    """Return the group of a test: the S3 server in its parameters, or its file."""
    # Imported after pytest has registered this package for assertion rewriting.
    from tests.contracts.s3.table import SERVERS

    found = _PARAMETERS.search(nodeid)
    servers = [] if found is None else [part for part in found[1].split("-") if part in SERVERS]
    return servers[0] if servers else nodeid.partition("::")[0]


class GroupingScheduler(LoadScopeScheduling):  # type: ignore[misc]
    """Assigns whole groups to processes."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling | None:
    """Return the scheduler of groups for ``--dist loadgroup``."""
    if config.getoption("dist", "no") != "loadgroup":
        return None
    # In their order, which starts the longest waits first; not the group with the most tests first.
    config.option.loadscopereorder = False
    return GroupingScheduler(config, log)
