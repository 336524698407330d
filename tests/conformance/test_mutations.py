"""For each mutation of the emulator, the named check of the suite fails; without a mutation it passes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance import target
from tests.conformance.expectations import named
from tests.conformance.mutated_emulator import NOTHING
from tests.conformance.mutations import MUTATIONS
from tests.conformance.service import Service

pytestmark = [
    pytest.mark.stack,
    pytest.mark.skipif(target.is_aws(), reason="the real service cannot be mutated"),
]

_PROGRAM = ("-m", "tests.conformance.mutated_emulator")


@pytest.mark.parametrize("name", MUTATIONS)
def test_mutation_fails_its_check(stack_env: dict[str, str], tmp_path: Path, name: str) -> None:
    mutation = MUTATIONS[name]
    check = named(mutation.check).check
    with target.emulated(stack_env, tmp_path, *_PROGRAM, name) as broken, pytest.raises(AssertionError):
        check(broken)
    log = "".join(file.read_text("utf-8") for file in tmp_path.glob("emulator-*.log"))
    # A mutant that cannot run, or is never imported, fails checks for another reason.
    assert "the mutant itself is broken" not in log
    assert "defect" not in log
    for edit in mutation.edits:
        assert f"the mutant imports {edit.file}" in log


@pytest.fixture(scope="module")
def unbroken(stack_env: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The emulator with the mutation that changes nothing."""
    directory = tmp_path_factory.mktemp("unbroken")
    with target.emulated(stack_env, directory, *_PROGRAM, NOTHING) as made:
        yield made


@pytest.mark.parametrize("check", sorted({mutation.check for mutation in MUTATIONS.values()}))
def test_mutation_check_passes_without_mutation(unbroken: Service, check: str) -> None:
    named(check).check(unbroken)
