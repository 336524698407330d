"""Checks each row of the conformance suite on the emulator or the real service."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.conformance import target
from tests.conformance.expectation import Expectation
from tests.conformance.expectations import EXPECTATIONS
from tests.conformance.service import Service


@pytest.mark.stack
@pytest.mark.timeout(300)
@pytest.mark.parametrize("expectation", EXPECTATIONS, ids=lambda expectation: expectation.id)
def test_expectation(service: Service, expectation: Expectation) -> None:
    if not target.is_aws():
        expectation.check(service)
        return
    if expectation.emulator_only:
        pytest.skip(expectation.emulator_only)
    try:
        expectation.check(service)
    except (AssertionError, LookupError) as error:
        if expectation.basis.certain:
            raise
        pytest.xfail(f"basis {expectation.basis}, the real service does otherwise: {error}")


def test_expectation_ids_are_unique() -> None:
    assert [name for name, number in Counter(row.id for row in EXPECTATIONS).items() if number > 1] == []


def test_expectations_of_own_interface_are_emulator_only() -> None:
    assert all(row.emulator_only for row in EXPECTATIONS if row.basis == "E")
