"""The statements of the Postgres repository: constants, composed of constants.

Each is one round trip. An empty bucket or hash means "not known yet", on either side (see ``rows.same_asset``), and
``instead_of`` is a hash that a running job replaces. If the row is about another asset, the statement writes nothing
and returns no row. The schema itself refuses every write of an erased job with ``JOB_ERASED`` (step 0002).
"""
# ruff: noqa: S608

from __future__ import annotations

from typing import LiteralString

JOB_ERASED = "PW001"

_COLUMNS: LiteralString = """
    job.id, job.status, job.s3_raw_bucket, job.s3_raw_key, job.content_sha256, job.created_at, job.updated_at,
    job.error_code, job.error_message,
    ocr.s3_bucket, ocr.s3_ocr_key, ocr.s3_manifest_key, ocr.ocr_engine, ocr.ocr_version, ocr.page_count"""

_UPSERT: LiteralString = """
    INSERT INTO recipes (id, s3_raw_bucket, s3_raw_key, content_sha256, status, error_code, error_message)
    VALUES (%(id)s, %(bucket)s, %(key)s, %(sha256)s, %(status)s, %(code)s, %(message)s)
    ON CONFLICT (id) DO UPDATE SET
        s3_raw_bucket = COALESCE(NULLIF(recipes.s3_raw_bucket, ''), EXCLUDED.s3_raw_bucket),
        content_sha256 = COALESCE(NULLIF(EXCLUDED.content_sha256, ''), recipes.content_sha256),
        status = CASE WHEN recipes.status IN ('succeeded', 'failed') OR EXCLUDED.status = 'queued'
            THEN recipes.status ELSE EXCLUDED.status END,
        error_code = CASE WHEN recipes.status IN ('succeeded', 'failed')
            THEN recipes.error_code ELSE EXCLUDED.error_code END,
        error_message = CASE WHEN recipes.status IN ('succeeded', 'failed')
            THEN recipes.error_message ELSE EXCLUDED.error_message END
    WHERE recipes.s3_raw_key = EXCLUDED.s3_raw_key
        AND (recipes.s3_raw_bucket = EXCLUDED.s3_raw_bucket
            OR '' IN (recipes.s3_raw_bucket, EXCLUDED.s3_raw_bucket))
        AND (recipes.content_sha256 = EXCLUDED.content_sha256
            OR '' IN (recipes.content_sha256, EXCLUDED.content_sha256)
            OR (recipes.content_sha256 = %(instead_of)s AND recipes.status NOT IN ('succeeded', 'failed')))
    RETURNING *"""

WRITE_STATUS: LiteralString = f"""
    WITH job AS ({_UPSERT})
    SELECT {_COLUMNS} FROM job LEFT JOIN recipe_ocr AS ocr ON ocr.recipe_id = job.id"""

WRITE_RESULT: LiteralString = f"""
    WITH job AS ({_UPSERT}),
    ocr AS (
        INSERT INTO recipe_ocr
            (recipe_id, s3_bucket, s3_ocr_key, s3_manifest_key, ocr_engine, ocr_version, page_count)
        SELECT id, %(s3_bucket)s, %(s3_ocr_key)s, %(s3_manifest_key)s, %(ocr_engine)s, %(ocr_version)s, %(page_count)s
        FROM job WHERE status = 'succeeded'
        ON CONFLICT (recipe_id) DO UPDATE SET
            s3_bucket = EXCLUDED.s3_bucket, s3_ocr_key = EXCLUDED.s3_ocr_key,
            s3_manifest_key = EXCLUDED.s3_manifest_key, ocr_engine = EXCLUDED.ocr_engine,
            ocr_version = EXCLUDED.ocr_version, page_count = EXCLUDED.page_count
        RETURNING *
    )
    SELECT {_COLUMNS} FROM job LEFT JOIN ocr ON ocr.recipe_id = job.id"""

READ_DEPLOYMENT: LiteralString = "SELECT id FROM deployment"

# Waits for another caller's row that is not committed yet.
MAKE_DEPLOYMENT: LiteralString = "INSERT INTO deployment DEFAULT VALUES ON CONFLICT DO NOTHING RETURNING id"

READ: LiteralString = f"""
    SELECT {_COLUMNS} FROM recipes AS job LEFT JOIN recipe_ocr AS ocr ON ocr.recipe_id = job.id
    WHERE job.id = %(id)s"""

# A job id may be all zeros, so that the first page includes it.
READ_PAGE: LiteralString = f"""
    SELECT {_COLUMNS} FROM recipes AS job LEFT JOIN recipe_ocr AS ocr ON ocr.recipe_id = job.id
    WHERE job.id >= %(first)s ORDER BY job.id LIMIT %(page)s"""

# The lock waits for writers of this job that began before the mark and cannot have seen it.
MARK_ERASED: LiteralString = """
    WITH held AS MATERIALIZED (SELECT pg_advisory_xact_lock(recipes_job_lock(%(id)s)))
    INSERT INTO erasures (job_digest) SELECT recipes_job_digest(%(id)s) FROM held
    ON CONFLICT DO NOTHING RETURNING true"""

IS_ERASED: LiteralString = "SELECT EXISTS (SELECT FROM erasures WHERE job_digest = recipes_job_digest(%(id)s))"

# An empty hash says that there may have been others, see step 0004.
EARLIER_HASHES: LiteralString = """
    SELECT content_sha256 FROM earlier_hashes WHERE recipe_id = %(id)s
    UNION SELECT '' FROM recipes WHERE id = %(id)s AND NOT hashes_kept"""

DELETE: LiteralString = "DELETE FROM recipes WHERE id = %(id)s RETURNING true"

# A separate statement, so that the next one sees every row that was written under the shared lock.
LOCK_OBJECT: LiteralString = "SELECT pg_advisory_xact_lock(recipes_object_lock(%(key)s))"

# A job that is being erased does not count: two such jobs with one photo would keep it for each other.
IS_SOLE_USER: LiteralString = """
    SELECT NOT EXISTS (
        SELECT FROM recipes
        WHERE s3_raw_key = %(key)s AND (s3_raw_bucket = %(bucket)s OR '' IN (s3_raw_bucket, %(bucket)s))
            AND (%(sha256)s::text = '' OR content_sha256 IN ('', %(sha256)s))
            AND id <> %(id)s
            AND NOT EXISTS (SELECT FROM erasures WHERE job_digest = recipes_job_digest(recipes.id))
    )"""
