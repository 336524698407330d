"""Fifty code mutations, each a mutation of a real workflow against a real history: the gate catches every one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gate_support.histories import GOOD
from temporal_replay_gate.gate import CheckedHistory, GateOptions, GateReport, check
from tests.replay.code_mutations.code_mutation import CodeMutation, Shown
from tests.replay.code_mutations.mutations import CODE_MUTATIONS, HARMLESS
from tests.replay.code_mutations.variants import lay_out
from tests.replay.product import product_code

DIRECTORY = Path(__file__).parent / "code_mutations"
SHOWN: tuple[Shown, ...] = ("kitchen", "success", "failure", "cancellation")

# These begin in asyncio tasks of their own, or at the workflow's end, so no line of the workflow is running.
WITHOUT_A_LINE = {"one argument more", "one argument less", "signal to another workflow"}
LOCATED = [
    mutation
    for mutation in CODE_MUTATIONS
    if (mutation.kind == "drift" or "added" in mutation.name)
    and mutation.says not in {"result", "failure"}
    and mutation.name not in WITHOUT_A_LINE
]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> tuple[GateReport, dict[str, Path]]:
    """Run the gate once over all mutations; return its report and the history of each mutation by name."""
    directory = tmp_path_factory.mktemp("code_mutations")
    histories = {name: DIRECTORY / f"{name}.json" for name in SHOWN} | {"kitchen": GOOD}
    workflows, files = lay_out([*CODE_MUTATIONS, *HARMLESS], histories, directory)
    code = product_code(workflows=workflows, path=(str(directory),))
    return check(GateOptions((directory / "histories",), code, coverage=False, provenance=False)), files


def of(report: tuple[GateReport, dict[str, Path]], mutation: CodeMutation) -> CheckedHistory:
    found, files = report
    (checked,) = [each for each in found.checked if each.path == files[mutation.name]]
    return checked


def named(mutations: list[CodeMutation]) -> list[object]:
    return [pytest.param(mutation, id=mutation.name.replace(" ", "-")) for mutation in mutations]


@pytest.mark.parametrize("mutation", named(CODE_MUTATIONS))
def test_code_mutation_is_caught_and_named(report: tuple[GateReport, dict[str, Path]], mutation: CodeMutation) -> None:
    checked = of(report, mutation)
    assert checked.state == "failed"
    assert {finding.kind for finding in checked.findings} == {mutation.kind}
    said = [f"{finding.code} {finding.what} {finding.issued}" for finding in checked.findings]
    assert any(mutation.says in text for text in said), said
    for finding in checked.findings:
        assert finding.file == str(checked.path)
        assert finding.why
        assert finding.fix


@pytest.mark.parametrize("mutation", named(LOCATED))
def test_code_mutation_finding_names_source_line(
    report: tuple[GateReport, dict[str, Path]], mutation: CodeMutation
) -> None:
    checked = of(report, mutation)
    module = checked.path.stem
    place = re.compile(rf"\b({module}(_support)?|workflows/_support)\.py:")
    assert any(place.search(finding.source or "") for finding in checked.findings), checked.findings


@pytest.mark.parametrize("mutation", named(HARMLESS))
def test_harmless_change_stays_green(report: tuple[GateReport, dict[str, Path]], mutation: CodeMutation) -> None:
    checked = of(report, mutation)
    assert (checked.state, checked.findings) == ("ok", ())


def test_negative_control_runs_for_each_harmless_change(report: tuple[GateReport, dict[str, Path]]) -> None:
    found, _ = report
    harmless = found.controls
    assert all(
        harmless[f"planted_kitchen_{len(CODE_MUTATIONS) + number:02}"]["command"] for number in range(len(HARMLESS))
    )


def test_code_mutations_are_enough_of_each_kind() -> None:
    assert len(CODE_MUTATIONS) >= 25
    assert sum(mutation.kind == "drift" for mutation in CODE_MUTATIONS) >= 15
    assert len({mutation.name for mutation in [*CODE_MUTATIONS, *HARMLESS]}) == len(CODE_MUTATIONS) + len(HARMLESS)
