"""The order in which this project's tests start."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.order import waiting_first


@dataclass(frozen=True)
class Test:
    """The properties of a test that determine its order."""

    __test__ = False

    module: str
    number: int
    waits: bool

    @property
    def path(self) -> Path:
        return Path(self.module)

    def get_closest_marker(self, name: str) -> bool:
        return self.waits and name == "io_bound"


def ordered(tests: list[Test], processes: int) -> list[Test]:
    return cast(list[Test], waiting_first(cast(list[pytest.Item], tests), processes))


def module(name: str, count: int, *, waits: bool = False) -> list[Test]:
    return [Test(name, number, waits) for number in range(count)]


def test_waiting_first_starts_each_process_with_waiting_tests() -> None:
    tests = [*module("a", 6), *module("slow", 2, waits=True), *module("b", 6), *module("slower", 2, waits=True)]
    found = ordered(tests, 2)
    shares = [found[:8], found[8:]]
    assert [[test.module for test in share[:3]] for share in shares] == [
        ["slow", "slow", "a"],
        ["slower", "slower", "b"],
    ]


def test_waiting_first_with_one_process_puts_waiting_tests_first() -> None:
    tests = [*module("a", 3), *module("slow", 2, waits=True)]
    assert [test.module for test in ordered(tests, 1)] == ["slow", "slow", "a", "a", "a"]


@given(st.lists(st.tuples(st.integers(1, 9), st.booleans()), max_size=9), st.integers(1, 5))
def test_waiting_first_keeps_all_tests_and_their_order(modules: list[tuple[int, bool]], processes: int) -> None:
    tests = [test for n, (count, waits) in enumerate(modules) for test in module(f"m{n}", count, waits=waits)]
    found = ordered(tests, processes)
    assert sorted(found, key=tests.index) == tests
    assert [test for test in found if not test.waits] == [test for test in tests if not test.waits]
    for name in {test.module for test in tests if test.waits}:
        at = [index for index, test in enumerate(found) if test.module == name]
        assert at == list(range(at[0], at[0] + len(at)))
