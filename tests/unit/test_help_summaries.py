"""The summaries of commands in the help of their group: whole sentences on a terminal of 80 columns."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from photo_worker.cli import cli


@pytest.mark.parametrize("group", [[], ["config"], ["faults"], ["replay"], ["snapshot"]], ids=" ".join)
def test_help_of_group_cuts_no_summary(group: list[str]) -> None:
    shown = CliRunner().invoke(cli, [*group, "--help"], terminal_width=80).stdout
    listed = shown.partition("\nCommands:\n")[2].partition("\n\n")[0].splitlines()
    assert listed
    assert [line for line in listed if not line.endswith(".") or line.endswith("...")] == []
