"""The table ``erasures``, and the trigger that keeps an erased job from coming back.

The table keeps the sha256 of an erased job's id and the time: enough to recognise the id in a late write, and nothing
that describes the job.

The trigger runs within every statement that writes a job, whichever release sends it, a worker of the release before
this one included. It takes two locks until the statement's transaction ends, both shared, so that writers do not wait
for each other: one on the job, which marking takes exclusively (a mark is not written while a writer that has not seen
it still runs), and one on the raw object's key, which ``sole_user`` takes exclusively. A job that has its row needs no
lock on the object: ``sole_user`` sees the row, and a running job must not wait for an erasure that hangs. A statement
sees the rows that existed when it began, but each query of a volatile function those that exist when that query begins;
so a writer that waited for the mark sees it.

SQLSTATE PW001 is of no class that the standard or Postgres uses. Its message omits the id, because the server logs it.
The index is a hash index, because a key that S3 itself would refuse has its row too, and the entries of a B-tree have a
size limit. Plain SQL for Postgres 15 to 18, without extensions.
"""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"

STATEMENTS = (
    """
    CREATE TABLE erasures (
        job_digest BYTEA PRIMARY KEY,
        erased_at TIMESTAMPTZ NOT NULL DEFAULT now()
    )
    """,
    """
    CREATE FUNCTION recipes_job_digest(job UUID) RETURNS bytea LANGUAGE sql IMMUTABLE
        AS $$ SELECT sha256(convert_to(job::text, 'UTF8')) $$
    """,
    """
    CREATE FUNCTION recipes_job_lock(job UUID) RETURNS bigint LANGUAGE sql IMMUTABLE
        AS $$ SELECT hashtextextended(job::text, 1) $$
    """,
    """
    CREATE FUNCTION recipes_object_lock(raw_key TEXT) RETURNS bigint LANGUAGE sql IMMUTABLE
        AS $$ SELECT hashtextextended(raw_key, 2) $$
    """,
    """
    CREATE FUNCTION recipes_refuse_erased() RETURNS trigger LANGUAGE plpgsql VOLATILE AS $$
    BEGIN
        PERFORM pg_advisory_xact_lock_shared(recipes_job_lock(NEW.id));
        IF EXISTS (SELECT FROM erasures WHERE job_digest = recipes_job_digest(NEW.id)) THEN
            RAISE EXCEPTION 'the job has been erased' USING ERRCODE = 'PW001';
        END IF;
        IF NOT EXISTS (SELECT FROM recipes WHERE id = NEW.id) THEN
            PERFORM pg_advisory_xact_lock_shared(recipes_object_lock(NEW.s3_raw_key));
        END IF;
        RETURN NEW;
    END
    $$
    """,
    """
    CREATE TRIGGER recipes_refuse_erased BEFORE INSERT ON recipes
        FOR EACH ROW EXECUTE FUNCTION recipes_refuse_erased()
    """,
    "CREATE INDEX recipes_s3_raw_key ON recipes USING hash (s3_raw_key)",
)


def upgrade() -> None:
    """Create the table, the trigger with its functions, and the index for finding an object's jobs."""
    for statement in STATEMENTS:
        op.execute(statement)
