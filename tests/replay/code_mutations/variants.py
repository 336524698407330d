"""Writes code mutations so that one run of the gate checks them all: each gets a workflow type of its own."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from uuid import NAMESPACE_OID, uuid5

from tests.replay.code_mutations.code_mutation import IMAGE, SUPPORT, CodeMutation, Shown
from tests.support.mutation import ROOT

_SUPPORT = "from photo_worker.workflows._support import"

_DEFN = re.compile(r"""@workflow\.defn\(name=["'](planted_kitchen|image_processing_workflow)["']\)\nclass (\w+)""")


def lay_out(
    mutations: Sequence[CodeMutation], histories: Mapping[Shown, Path], directory: Path
) -> tuple[str, dict[str, Path]]:
    """Write a module and a history for each mutation below ``directory``.

    Returns the dotted path of the workflow classes, importable with ``directory`` on the path, and
    the history of each mutation by name. It differs from the original only in its type name and run id.
    """
    lines, files = [], {}
    for number, mutation in enumerate(mutations):
        text, module = mutation.text(), f"variant_{number:02}"
        if mutation.source == SUPPORT:
            (directory / f"{module}_support.py").write_text(text, encoding="utf-8")
            text = (ROOT / IMAGE).read_text(encoding="utf-8")
            assert text.count(_SUPPORT) == 1
            text = text.replace(_SUPPORT, f"from {module}_support import")
        found = _DEFN.search(text)
        assert found is not None, f"{mutation.name}: no workflow class"
        kind = f"{found[1]}_{number:02}"
        (directory / f"{module}.py").write_text(
            re.sub(rf"""name=["']{found[1]}["']""", f'name="{kind}"', text), encoding="utf-8"
        )
        lines.append(f"from {module} import {found[2]} as Variant{number}")
        history = histories[mutation.shown_by].read_text(encoding="utf-8")
        started = json.loads(history)["events"][0]["workflowExecutionStartedEventAttributes"]
        run_id = started["originalExecutionRunId"]
        history = history.replace(run_id, str(uuid5(NAMESPACE_OID, f"{run_id}{number}")))
        target = directory / "histories" / kind / "mutated" / f"{module}.json"
        target.parent.mkdir(parents=True)
        target.write_text(history.replace(f'"{found[1]}"', f'"{kind}"'), encoding="utf-8")
        files[mutation.name] = target
    classes = ", ".join(f"Variant{number}" for number in range(len(mutations)))
    (directory / "variants.py").write_text("\n".join([*lines, f"WORKFLOWS = [{classes}]", ""]), encoding="utf-8")
    return "variants:WORKFLOWS", files
