"""Every crash point of small programs: right ones end as without a fault, and broken ones are found."""

from __future__ import annotations

import pytest

from tests.crash.contract.enumerating import play, violations
from tests.crash.contract.programs import BROKEN, RIGHT


@pytest.mark.parametrize("name", RIGHT)
def test_enumeration_right_program_ends_as_without_fault(name: str) -> None:
    cells, wrong = violations(RIGHT[name])
    assert not wrong, "\n".join(wrong)
    assert cells >= 10, "a program has crash points"


@pytest.mark.parametrize("name", BROKEN)
def test_enumeration_broken_program_is_found(name: str) -> None:
    """Nothing is wrong without a fault: the bug is found by a crash point, and said in words."""
    mutant = BROKEN[name]
    _, outcome = play(mutant.program)
    assert outcome["client ended"]
    assert {status for status, _, _ in outcome["workflows"].values()} == {"completed"}
    _, wrong = violations(mutant.program)
    assert any(mutant.shows in line for line in wrong), wrong
