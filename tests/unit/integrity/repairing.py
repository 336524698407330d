"""Scans a deployment, repairs it, and says what was done."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from photo_worker.contracts.keys import manifest_key, ocr_key
from photo_worker.services.consistency.inspector import InspectionPorts
from photo_worker.services.consistency.repair import Repairer, RepairResult
from photo_worker.services.consistency.scan import ScanReport, open_scanner
from tests.support.healthy_deployment import BUCKET, Deployment


@dataclass
class Repaired:
    report: ScanReport
    said: list[tuple[str, str]] = field(default_factory=list)
    details: list[str] = field(default_factory=list)
    erased: list[UUID] = field(default_factory=list)

    @property
    def left(self) -> list[str]:
        return sorted(found.code for found in self.report.findings)


async def repair(
    deployment: Deployment, *only: UUID, ports: InspectionPorts | None = None, between: Any = None
) -> Repaired:
    """Scan and repair; ``between`` is called after the scan."""
    erased: list[UUID] = []

    async def erase(job_id: UUID) -> None:
        erased.append(job_id)
        await deployment.temporal.erase(job_id)
        for key in (ocr_key(job_id), manifest_key(job_id)):
            deployment.store.delete(BUCKET, key)
        deployment.rows.delete(job_id)

    async with open_scanner(ports or deployment.ports, deployment.means()) as scanner:
        report = await scanner.scan_jobs(only) if only else await scanner.scan_all()
        if between is not None:
            between()
        said: list[RepairResult] = []
        steps = await Repairer(scanner, erase).repair(report, said.append)
    assert [step for step in said if step.outcome != "begun"] == steps
    return Repaired(
        report, [(step.finding.code, step.outcome) for step in said], [step.detail for step in steps], erased
    )


def repaired(code: str) -> list[tuple[str, str]]:
    return [(code, "begun"), (code, "done")]
