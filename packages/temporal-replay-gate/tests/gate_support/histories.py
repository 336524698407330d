"""The kitchen's recorded history, copies of it, and checks of it with other code."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

from temporal_replay_gate.gate import GateOptions, GateReport
from temporal_replay_gate.histories import Provenance, core_flags, patch_ids, provenance_path, sha256_of
from temporal_replay_gate.replay_pool import CodeUnderTest

GOOD = Path(__file__).with_name("kitchen.json")
KITCHEN = CodeUnderTest(workflows="gate_support.kitchen:Kitchen")


def copy(directory: Path, name: str, *, dish: str | None = None) -> Path:
    """Write the kitchen's history with a new run id and, if ``dish`` is given, with that dish in its input."""
    document = json.loads(GOOD.read_text(encoding="utf-8"))
    started = document["events"][0]["workflowExecutionStartedEventAttributes"]
    text = json.dumps(document).replace(started["originalExecutionRunId"], str(uuid4()))
    if dish is not None:
        order = json.loads(base64.b64decode(started["input"]["payloads"][0]["data"]))
        changed = base64.b64encode(json.dumps(order | {"dish": dish}).encode()).decode()
        text = text.replace(started["input"]["payloads"][0]["data"], changed, 1)
    path = directory / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def sign(path: Path) -> None:
    """Write the provenance file of a history."""
    content = path.read_bytes()
    events = json.loads(content)["events"]
    kept = Provenance(
        sha256=sha256_of(content),
        sdk_version="1.35.0",
        core_flags=core_flags(events),
        patch_ids=patch_ids(events),
        app_version="0.1.0",
        recorded_at="2026-11-22T22:00:00Z",
        scenario=path.stem,
        exit="success",
        scrubbed=True,
    )
    provenance_path(path).write_text(kept.to_json(), encoding="utf-8")


def codes(report: GateReport) -> set[str]:
    return {finding.code for finding in report.findings}


def loose(
    *paths: Path, code: CodeUnderTest = KITCHEN, limit_seconds: float = 60.0, jobs: int | None = None
) -> GateOptions:
    """Return options that require neither coverage nor provenance."""
    return GateOptions(paths, code, limit_seconds=limit_seconds, jobs=jobs, coverage=False, provenance=False)


def codec(directory: Path, body: str) -> CodeUnderTest:
    """Write a data converter whose codec runs ``body`` for each sequence of payloads it decodes."""
    (directory / "own_converter.py").write_text(
        "import asyncio, os\n"
        "from temporalio.converter import DataConverter, PayloadCodec\n"
        "seen = set()\n"
        "class Codec(PayloadCodec):\n"
        "    async def encode(self, payloads):\n"
        "        return list(payloads)\n"
        "    async def decode(self, payloads):\n"
        "        text = b''.join(payload.data for payload in payloads)\n"
        f"        {body}\n"
        "        return list(payloads)\n"
        "converter = DataConverter(payload_codec=Codec())\n",
        encoding="utf-8",
    )
    return replace(KITCHEN, converter="own_converter:converter", path=(str(directory),))
