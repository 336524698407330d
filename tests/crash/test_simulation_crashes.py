"""Every crash point of small programs: right ones end as without a fault, and a planted bug is found."""

from __future__ import annotations

import pytest

from tests.crash.contract.enumerating import play, violations
from tests.crash.contract.programs import PLANTED, RIGHT


@pytest.mark.parametrize("name", RIGHT)
def test_enumeration_right_program_ends_as_without_fault(name: str) -> None:
    cells, wrong = violations(RIGHT[name])
    assert not wrong, "\n".join(wrong)
    assert cells >= 10, "a program has crash points"


@pytest.mark.parametrize("name", PLANTED)
def test_enumeration_planted_bug_is_found(name: str) -> None:
    """Nothing is wrong without a fault: the bug is found by a crash point, and said in words."""
    planted = PLANTED[name]
    _, outcome = play(planted.broken)
    assert outcome["client ended"]
    assert {status for status, _, _ in outcome["workflows"].values()} == {"completed"}
    _, wrong = violations(planted.broken)
    assert any(planted.shows in line for line in wrong), wrong
