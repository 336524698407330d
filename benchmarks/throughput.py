"""Jobs per second with the ``recorded`` backend, compared with the least that such jobs could cost.

The floor is a workflow of three minimal activities that make the same S3 and Postgres calls directly,
with plain dictionaries, on the same server and with the same worker settings. The no-op workflow has
three activities that do nothing, which measures the cost of Temporal itself.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import secrets
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

from temporalio import activity
from temporalio.client import Client
from temporalio.worker import Worker

from benchmarks.noop_workflow import Floor, Noop

ROOT = Path(__file__).resolve().parents[1]
JOBS = 200
ROUNDS = 3
BAR = 0.9


def floor_activities(s3: Any, pool: Any, bucket: str, recorded: Path) -> list[Callable[..., Any]]:
    """Return the floor's activities: the statements and requests of the product, and nothing else."""
    running = (
        "INSERT INTO recipes (id, s3_raw_bucket, s3_raw_key, content_sha256, status)"
        " VALUES (%s, %s, %s, %s, 'running') ON CONFLICT (id) DO UPDATE"
        " SET status = 'running', content_sha256 = EXCLUDED.content_sha256, updated_at = now()"
    )
    done = (
        "WITH job AS (UPDATE recipes SET status = 'succeeded', updated_at = now() WHERE id = %s RETURNING id)"
        " INSERT INTO recipe_ocr (recipe_id, s3_bucket, s3_ocr_key, s3_manifest_key, ocr_engine, ocr_version,"
        " page_count) SELECT id, %s, %s, %s, 'recorded', '1.0', 1 FROM job ON CONFLICT (recipe_id) DO NOTHING"
    )

    def execute(statement: str, *values: object) -> None:
        with pool.connection() as connection:
            connection.execute(statement, values)

    @activity.defn
    def floor_verify(job: dict[str, str]) -> dict[str, str]:
        execute(running, job["job_id"], job["bucket"], job["key"], "")
        digest = hashlib.sha256()
        for chunk in s3.get_object(Bucket=job["bucket"], Key=job["key"])["Body"].iter_chunks(1 << 20):
            digest.update(chunk)
        execute(running, job["job_id"], job["bucket"], job["key"], digest.hexdigest())
        return {"sha256": digest.hexdigest()}

    @activity.defn
    def floor_ocr(job: dict[str, str]) -> dict[str, str]:
        response = json.loads((recorded / f"{job['sha256']}.json").read_bytes())
        key = f"artifacts/{job['job_id']}/textract.json"
        s3.put_object(
            Bucket=bucket,
            Key=key,
            Body=json.dumps(response, ensure_ascii=False, separators=(",", ":")).encode(),
            ContentType="application/json",
        )
        return {"s3_ocr_key": key}

    @activity.defn
    def floor_persist(job: dict[str, str]) -> None:
        key = f"artifacts/{job['job_id']}/manifest.json"
        s3.put_object(Bucket=bucket, Key=key, Body=json.dumps(job).encode(), ContentType="application/json")
        execute(done, job["job_id"], bucket, job["s3_ocr_key"], key)

    @activity.defn
    def noop_step(job: dict[str, str]) -> None:
        return None

    return [floor_verify, floor_ocr, floor_persist, noop_step]


async def _rate(start: Callable[[str, str], Awaitable[Any]], queue: str, jobs: int) -> float:
    """Start all jobs at once and return how many complete per second."""
    began = time.perf_counter()
    await asyncio.gather(*(start(str(uuid4()), queue) for _ in range(jobs)))
    return jobs / (time.perf_counter() - began)


async def measure(variables: dict[str, str], *, jobs: int = JOBS, rounds: int = ROUNDS) -> dict[str, Any]:
    """Run product, floor and no-op in turn, ``rounds`` times, and return medians and ratios."""
    from photo_worker.adapters.postgres.job_repository import make_pool
    from photo_worker.adapters.s3.object_store import make_client
    from photo_worker.adapters.temporal.connection import connect
    from photo_worker.aws import aws_session
    from photo_worker.bootstrap import build_activities, build_application, workflow_classes
    from photo_worker.config import load_settings, read_environment
    from photo_worker.contracts.image import ImageProcessingInput
    from photo_worker.sources import Source
    from photo_worker.worker import build_worker

    settings = load_settings(read_environment(variables, None))
    application = build_application(settings)
    client = await connect(settings, variables)
    plain = await Client.connect(settings.temporal_target or "", namespace=client.namespace)
    photo = Source("photo", path=sorted((ROOT / "fixtures" / "photos").glob("*.png"))[0])
    assert photo.path is not None
    body = photo.path.read_bytes()
    key = f"bench/{secrets.token_hex(4)}.png"
    application.store.put(settings.s3_bucket, key, body, content_type="image/png")
    recorded = ROOT / "fixtures" / "recorded"
    threads = settings.max_activities
    pool = make_pool(settings.require_database_url(), max_size=threads)
    pool.open()
    floor_queue = f"floor-{secrets.token_hex(4)}"

    async def product(job_id: str, queue: str) -> None:
        request = ImageProcessingInput(job_id=job_id, bucket=settings.s3_bucket, key=key, engine="recorded")
        await client.execute_workflow("image_processing_workflow", request, id=job_id, task_queue=queue)

    async def floor(job_id: str, queue: str) -> None:
        job = {"job_id": job_id, "bucket": settings.s3_bucket, "key": key}
        await plain.execute_workflow("floor", job, id=job_id, task_queue=queue)

    async def noop(job_id: str, queue: str) -> None:
        await plain.execute_workflow("noop", {"job_id": job_id}, id=job_id, task_queue=queue)

    rates: dict[str, list[float]] = {"product": [], "floor": [], "noop": []}
    with ThreadPoolExecutor(threads) as ours, ThreadPoolExecutor(threads) as bare:
        s3 = make_client(session=aws_session(variables), max_pool_connections=threads)
        floor_worker = Worker(
            plain,
            task_queue=floor_queue,
            workflows=[Floor, Noop],
            activities=floor_activities(s3, pool, settings.s3_bucket, recorded),
            activity_executor=bare,
            max_concurrent_activities=threads,
            max_concurrent_workflow_tasks=settings.max_workflow_tasks,
        )
        worker = build_worker(client, settings, workflow_classes(), build_activities(application), ours)
        async with worker, floor_worker:
            await _rate(product, settings.temporal_task_queue, 10)
            await _rate(floor, floor_queue, 10)
            for _ in range(rounds):
                rates["floor"].append(await _rate(floor, floor_queue, jobs))
                rates["product"].append(await _rate(product, settings.temporal_task_queue, jobs))
                rates["noop"].append(await _rate(noop, floor_queue, jobs))
    pool.close()
    application.close()
    middle = {name: statistics.median(values) for name, values in rates.items()}
    pairs = [ours / bare for ours, bare in zip(rates["product"], rates["floor"], strict=True)]
    return {
        "jobs": jobs,
        "rounds": rounds,
        "jobs_per_second": {name: round(value, 2) for name, value in middle.items()},
        "ratio_to_floor": round(statistics.median(pairs), 3),
        "ratio_to_floor_by_round": [round(pair, 3) for pair in pairs],
        "ratio_to_noop": round(middle["product"] / middle["noop"], 3),
        "bar": BAR,
        "met": statistics.median(pairs) >= BAR,
    }


def run(variables: dict[str, str], *, jobs: int = JOBS, rounds: int = ROUNDS) -> dict[str, Any]:
    """Measure on a running stack whose variables are in the process environment already."""
    return asyncio.run(
        measure(
            variables
            | {
                "TEMPORAL_TASK_QUEUE": f"bench-{secrets.token_hex(4)}",
                "OCR_RECORDED_DIR": str(ROOT / "fixtures" / "recorded"),
            },
            jobs=jobs,
            rounds=rounds,
        )
    )


def table(result: dict[str, Any]) -> Sequence[tuple[str, str]]:
    """Return the lines to show."""
    rates = result["jobs_per_second"]
    return [
        ("product, jobs/s", str(rates["product"])),
        ("floor, jobs/s", str(rates["floor"])),
        ("no-op, jobs/s", str(rates["noop"])),
        ("product / floor", f"{result['ratio_to_floor']} (bar {BAR}; by round {result['ratio_to_floor_by_round']})"),
        ("product / no-op", str(result["ratio_to_noop"])),
    ]
