"""Keeps tests together that share something dear: all of an S3 server, and otherwise all of a file.

For runs with ``--dist loadgroup``. pytest-xdist's own groups travel in a changed node id, which pytest 9.2 has no
place for: its marks are ignored there (https://github.com/pytest-dev/pytest-xdist/issues/1386).
"""

from __future__ import annotations

import re
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

_PARAMETERS = re.compile(r"\[(.*)\]$")


def group_of(nodeid: str) -> str:
    """Return what a test shares with others: the S3 server in its parameters, or its file."""
    # Not before pytest knows that it rewrites the assertions of this package.
    from tests.contracts.s3.table import SERVERS

    found = _PARAMETERS.search(nodeid)
    servers = [] if found is None else [part for part in found[1].split("-") if part in SERVERS]
    return servers[0] if servers else nodeid.partition("::")[0]


class GroupingScheduler(LoadScopeScheduling):  # type: ignore[misc]
    """Hands out whole groups."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling | None:
    """Schedule by groups where groups are asked for."""
    if config.getoption("dist", "no") != "loadgroup":
        return None
    # As they come, which is what waits longest first; not the group with the most tests.
    config.option.loadscopereorder = False
    return GroupingScheduler(config, log)
