"""Tells whether the Temporal namespace of the settings is the one in which a database's jobs run.

Only the jobs themselves connect the two: a workflow has its job's id.
"""

from __future__ import annotations

import heapq
from functools import partial
from uuid import UUID

from photo_worker.services.consistency.inspector import JobInspector

# How many jobs, those that changed last: Temporal keeps a closed workflow for a day at least, and deletes it later.
ASKED = 100


async def find_namespace_mismatch(inspector: JobInspector) -> str | None:
    """Return why the namespace may be another deployment's, None if a job of the database has a workflow in it.

    Also None if no job has ever begun: then no workflow can be expected. Reads every row, and asks Temporal about the
    workflows of at most twice ``ASKED`` jobs.
    """
    begun, queued = await inspector.in_thread(lambda: _newest(inspector))
    kinds = [pipeline.kind for pipeline in inspector.ports.pipelines]
    for job_id in (*begun, *queued):
        for kind in kinds:
            if await inspector.with_retries(partial(inspector.ports.orchestrator.state, kind.of(job_id))) is not None:
                return None
    if not begun:
        return None
    return (
        f"of the {len(begun)} jobs that changed last none has a workflow in this namespace, so it may be the wrong one;"
        " check TEMPORAL_TARGET and TEMPORAL_NAMESPACE. If they are right, submit one of the open jobs again under"
        " its id, then repair"
    )


def _newest(inspector: JobInspector) -> tuple[list[UUID], list[UUID]]:
    """Return the ids of the jobs that a worker has begun, and of the queued ones, the latest first."""

    def newest(*, queued: bool) -> list[UUID]:
        rows = (row for row in inspector.ports.repository.all() if (row.status == "queued") is queued)
        return [job_id for _, job_id in heapq.nlargest(ASKED, ((row.updated_at, row.id) for row in rows))]

    return newest(queued=False), newest(queued=True)
