"""For each mutation of the emulator, the named check of the suite fails; without a mutation it passes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance import target
from tests.conformance.expectations import named
from tests.conformance.mutations import MUTATIONS, NOTHING
from tests.conformance.service import Service

pytestmark = [
    pytest.mark.stack,
    pytest.mark.skipif(target.is_aws(), reason="nothing can be planted in the real service"),
]


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_mutation_fails_its_check(stack_env: dict[str, str], tmp_path: Path, mutation: str) -> None:
    check = named(MUTATIONS[mutation][1]).check
    with (
        target.emulated(stack_env, tmp_path, "-m", "tests.conformance.mutations", mutation) as broken,
        pytest.raises(AssertionError),
    ):
        check(broken)


@pytest.fixture(scope="module")
def unbroken(stack_env: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The emulator with the mutation that changes nothing."""
    folder = tmp_path_factory.mktemp("unbroken")
    with target.emulated(stack_env, folder, "-m", "tests.conformance.mutations", NOTHING) as made:
        yield made


@pytest.mark.parametrize("check", sorted({check for _, check in MUTATIONS.values()}))
def test_mutation_check_passes_without_mutation(unbroken: Service, check: str) -> None:
    named(check).check(unbroken)
