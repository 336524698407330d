from __future__ import annotations

import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.crash import report as crash_report
from tests.crash.report import (
    DIRECTORY_VARIABLE,
    NOT_REACHED,
    RED,
    SAME,
    SURVIVED,
    VIOLATED,
    Cell,
    Report,
    SafeguardOutcome,
    collect,
    record,
    record_run,
    record_safeguard,
    summary,
    totals,
)
from tests.crash.report_page import as_html
from tests.crash.simulation.gate import Mode

CELL = Cell(
    layer="enumeration",
    usage="photo",
    number=3,
    call="store.put_new",
    source="photo_worker/activities/ocr.py:61",
    mode="die",
    phase="after",
    outcome=SAME,
    seconds=0.004,
    command="python3 dev.py nox --session crash -- tests/crash/test_enumeration.py --cell photo/3/die/after",
)
SAFEGUARD = SafeguardOutcome(
    name="stored-response",
    protects="a retry takes the response that is stored",
    invariant="3",
    where="photo_worker/activities/ocr.py:49",
    test="tests/unit/test_activities.py::TestOcr::test_a_retry",
    outcome=RED,
    seconds=0.7,
    command="again <safeguard>",
)
BARE = Report(version="1", revision="abc", python="3", system="here", written_at="2026-01-01T00:00:00+00:00")


class Page(HTMLParser):
    """The parsed page: unclosed tags, tables as rows of cells, and loaded resources."""

    VOID = frozenset({"meta", "br", "link", "img", "input", "hr"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loads: list[str] = []
        self.tables: list[list[list[str]]] = []
        self.cells: list[dict[str, str]] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.loads += [given[name] for name in ("src", "href") if name in given]
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in {"td", "th"}:
            self.tables[-1][-1] += ["", *[""] * (int(given.get("colspan", "1")) - 1)]
            if "data-command" in given:
                self.cells.append(given)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if {"td", "th"} & set(self.open):
            self.tables[-1][-1][-1] += data


@pytest.fixture
def lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(DIRECTORY_VARIABLE, str(tmp_path / "crash"))
    return tmp_path / "crash"


class TestCollecting:
    def test_collect_returns_recorded_outcomes(self, lines: Path) -> None:
        record(CELL)
        record_run("model", seed=7, command="again", examples=20, steps=600)
        record_safeguard(SAFEGUARD)
        found = collect(lines, lines / "no-soak.json")
        assert found.cells == (CELL,)
        assert [(run.layer, run.seed, dict(run.figures)) for run in found.runs] == [
            ("model", "7", {"examples": 20, "steps": 600})
        ]
        assert found.safeguards == (SAFEGUARD,)
        assert found.soak is None
        assert found.holds

    def test_collect_merges_processes_and_counts_cell_once(self, lines: Path) -> None:
        record(CELL)
        record(CELL)
        other = {"kind": "cell", **vars(replace(CELL, number=1))}
        (lines / "0.jsonl").write_text(json.dumps(other) + "\n", encoding="utf-8")
        assert [cell.number for cell in collect(lines, lines).cells] == [1, 3]

    def test_collect_repeated_cell_keeps_violation(self, lines: Path) -> None:
        record(replace(CELL, outcome=VIOLATED))
        record(CELL)
        assert [cell.outcome for cell in collect(lines, lines).cells] == [VIOLATED]

    def test_collect_counts_torn_line_as_missing(self, lines: Path) -> None:
        record(CELL)
        with next(lines.glob("*.jsonl")).open("a", encoding="utf-8") as file:
            file.write('{"kind": "cell", "layer": "enum')
        found = collect(lines, lines)
        assert (len(found.cells), found.torn) == (1, 1)
        assert "1 outcomes are missing" in as_html(found)

    def test_collect_empty_run_says_nothing_was_run(self, lines: Path) -> None:
        assert not collect(lines, lines).cells
        assert "Nothing was run." in as_html(BARE)


class TestVerdict:
    def test_verdict_not_reached_holds_and_is_counted(self) -> None:
        found = replace(BARE, cells=(CELL, replace(CELL, number=4, outcome=NOT_REACHED)))
        assert found.holds
        assert totals(found)["not_reached"] == 1

    @pytest.mark.parametrize(
        "broken",
        [
            replace(BARE, cells=(CELL, replace(CELL, outcome=VIOLATED))),
            replace(BARE, cells=(replace(CELL, outcome="an unknown outcome"),)),
            replace(BARE, safeguards=(SAFEGUARD, replace(SAFEGUARD, name="other", outcome=SURVIVED))),
            replace(BARE, soak={"uploads": 300, "violations": 2}),
            replace(BARE, soak={"uploads": 300, "violations": ["invariant 3: two charges"]}),
        ],
        ids=["violated", "unknown outcome", "survivor", "soak", "soak's list"],
    )
    def test_verdict_unless_known_to_hold_is_red(self, broken: Report) -> None:
        assert not broken.holds
        page = Page(as_html(broken))
        assert "What is red" in page.text
        assert "every invariant held" not in page.text

    def test_summary_shows_command_of_violated_cell(self) -> None:
        said = summary(replace(BARE, cells=(replace(CELL, outcome=VIOLATED, detail="invariant 3: 2 charges"),)), [])
        assert "enumeration/photo/3 store.put_new die after" in said
        assert "invariant 3: 2 charges" in said
        assert f"again: {CELL.command}" in said
        assert "1 cells (1 enumeration) in 1 usages, 1 violations" in said


class TestPage:
    def test_page_has_row_per_call_and_column_per_mode_and_phase(self) -> None:
        cells = [
            replace(CELL, number=number, call=call, mode=mode, phase=phase)
            for number, call in ((1, "store.head"), (2, "store.put"))
            for mode, phase in (("raise", "before"), ("die", "after"), ("die", "before"))
        ]
        cells[0] = replace(cells[0], outcome=VIOLATED)
        page = Page(as_html(replace(BARE, cells=tuple(cells))))
        ((groups, columns, *rows),) = page.tables
        assert [name for name in groups if name] == ["die", "raise"]
        assert columns == ["", "call", "line", "before", "after", "before"]
        assert rows == [
            ["1", "store.head", CELL.source, "✓", "✓", "✗"],
            ["2", "store.put", CELL.source, "✓", "✓", "✓"],
        ]

    def test_page_has_column_for_every_mode(self) -> None:
        cells = tuple(replace(CELL, mode=mode) for mode in sorted(Mode))
        ((groups, *_),) = Page(as_html(replace(BARE, cells=cells))).tables
        shown = [name for name in groups if name]
        assert sorted(shown) == sorted(Mode)
        # Ordered by process, service and others, not alphabetically.
        assert shown.index("double") < shown.index("away") < shown.index("refuse") < shown.index("intrude")

    def test_page_cell_not_run_is_empty(self) -> None:
        cells = (CELL, replace(CELL, number=4, call="repository.succeed", mode="pause"))
        ((_, _, *rows),) = Page(as_html(replace(BARE, cells=cells))).tables
        assert [row[3:] for row in rows] == [["✓", ""], ["", "✓"]]

    def test_page_cells_carry_command_and_time(self) -> None:
        (cell,) = Page(as_html(replace(BARE, cells=(CELL,)))).cells
        assert cell["data-command"] == CELL.command
        assert SAME in cell["title"]
        assert "0.004 s" in cell["title"]

    def test_page_is_complete_html_and_loads_nothing(self) -> None:
        page = Page(as_html(replace(BARE, cells=(CELL,), safeguards=(SAFEGUARD,), soak={"seed": 1, "uploads": 300})))
        assert page.open == []
        assert page.loads == []
        assert "@import" not in page.text
        assert "url(" not in page.text

    def test_page_escapes_text_of_failure(self) -> None:
        nasty = replace(CELL, outcome=VIOLATED, call="<script>", detail='"><img src=x>', command="a 'b' \"c\" <d>")
        page = Page(as_html(replace(BARE, cells=(nasty,))))
        assert page.loads == []
        assert page.open == []
        assert page.cells[0]["data-command"] == nasty.command

    def test_page_orders_layers_by_number(self) -> None:
        cells = tuple(replace(CELL, layer=layer) for layer in ("real", "own", "enumeration", "model"))
        text = as_html(replace(BARE, cells=cells, soak={"uploads": 300}, safeguards=(SAFEGUARD,)))
        titles = ["Layer 1", "Layer 2", "Layer 3", "Layer: own", "Layer 4", "Layer 5"]
        places = [text.index(f"<h2>{title}") for title in titles]
        assert places == sorted(places)

    def test_page_shows_seed_and_soak_figures(self, lines: Path) -> None:
        record_run("model", seed=4711, command="again <now>", steps=600)
        (lines.parent / "soak.json").write_text(json.dumps({"uploads": 300, "kills": 21, "restarts": {"postgres": 1}}))
        page = Page(as_html(collect(lines, lines.parent / "soak.json")))
        assert "600 steps; seed 4711: again <now>" in page.text
        assert ["restarts", "postgres 1"] in page.tables[-1]


class TestCommand:
    def test_main_with_violation_writes_page_and_json_and_exits_1(
        self, lines: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        record(CELL)
        record(replace(CELL, number=4, outcome=VIOLATED))
        assert crash_report.main(["--reports", str(lines.parent)]) == 1
        written = json.loads((lines.parent / "crash.json").read_text(encoding="utf-8"))
        assert written["totals"]["cells"] == 2
        assert written["totals"]["violations"] == 1
        assert [cell["number"] for cell in written["cells"]] == [3, 4]
        assert "What is red" in (lines.parent / "crash.html").read_text(encoding="utf-8")
        assert "1 violations" in capsys.readouterr().out

    def test_main_clean_removes_earlier_outcomes(self, lines: Path) -> None:
        record(CELL)
        (lines.parent / "soak.json").write_text("{}")
        assert crash_report.main(["--reports", str(lines.parent), "--clean"]) == 0
        found = collect(lines, lines.parent / "soak.json")
        assert (found.cells, found.soak) == ((), None)
