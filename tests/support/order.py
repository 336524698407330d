"""Starts the tests that mostly wait first, spread over the test processes, so that others run meanwhile.

At the end of a run such a test would be the only one left. Otherwise the order stays random.
"""

from __future__ import annotations

from itertools import groupby, islice
from pathlib import Path

import pytest

_MARK = "io_bound"


def waiting_first(items: list[pytest.Item], processes: int) -> list[pytest.Item]:
    """Return ``items`` with the marked ones first in each process' share.

    The shares are those that pytest-xdist's ``worksteal`` hands out at the start: equal parts of the list, in
    order. A process that has finished its share takes from the end of another's. Modules are not split, so
    that a module's fixtures serve all its tests.
    """

    def module(item: pytest.Item) -> Path:
        return item.path

    waiting = [item for item in items if item.get_closest_marker(_MARK)]
    heads: list[list[pytest.Item]] = [[] for _ in range(processes)]
    for _, group in groupby(waiting, key=module):
        min(heads, key=len).extend(group)
    others = iter([item for item in items if not item.get_closest_marker(_MARK)])
    ordered: list[pytest.Item] = []
    for number, head in enumerate(heads):
        share = (len(items) - len(ordered)) // (processes - number)
        ordered += [*head, *islice(others, max(0, share - len(head)))]
    return [*ordered, *others]


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Reorder the items after selection and shuffling, identically in every test process."""
    processes = getattr(config, "workerinput", {}).get("workercount", 1)
    items[:] = waiting_first(items, processes)
