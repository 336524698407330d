"""The table ``earlier_hashes``: the replaced hashes of a job's photo, which its row no longer holds.

A photo in a format that OCR cannot read has a copy whose key contains the photo's location and hash. An attempt that
was overtaken, because its photo was replaced, may leave the copy of bytes whose hash the row no longer holds. With the
hashes of all bytes that a job has read, an erasure knows the keys of all copies and lists nothing. A hash is in the row
before its copy is stored, and triggers write this table, so that it is complete whichever release stored the copy.

When a job's row is deleted, its hashes pass on to another job with the same location, if there is one: a copy that the
other job might read stays when this job is erased, and is deleted with the other. ``recipes.hashes_kept`` is false for
rows from before this step, and an empty hash stands for the unknown ones that such a row has passed on.
Plain SQL for Postgres 15 to 18, without extensions.
"""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"

STATEMENTS = (
    "ALTER TABLE recipes ADD COLUMN hashes_kept BOOLEAN NOT NULL DEFAULT false",
    "ALTER TABLE recipes ALTER COLUMN hashes_kept SET DEFAULT true",
    """
    CREATE TABLE earlier_hashes (
        recipe_id UUID NOT NULL REFERENCES recipes ON DELETE CASCADE,
        content_sha256 TEXT NOT NULL,
        PRIMARY KEY (recipe_id, content_sha256)
    )
    """,
    """
    CREATE FUNCTION recipes_keep_hash() RETURNS trigger LANGUAGE plpgsql VOLATILE AS $$
    BEGIN
        INSERT INTO earlier_hashes VALUES (OLD.id, OLD.content_sha256) ON CONFLICT DO NOTHING;
        RETURN NULL;
    END
    $$
    """,
    """
    CREATE TRIGGER recipes_keep_hash AFTER UPDATE OF content_sha256 ON recipes
        FOR EACH ROW WHEN (OLD.content_sha256 NOT IN ('', NEW.content_sha256)) EXECUTE FUNCTION recipes_keep_hash()
    """,
    """
    CREATE FUNCTION recipes_hand_hashes_on() RETURNS trigger LANGUAGE plpgsql VOLATILE AS $$
    BEGIN
        WITH heir AS MATERIALIZED (
            SELECT id FROM recipes
            WHERE s3_raw_key = OLD.s3_raw_key AND id <> OLD.id
                AND (s3_raw_bucket = OLD.s3_raw_bucket OR '' IN (s3_raw_bucket, OLD.s3_raw_bucket))
                AND NOT EXISTS (SELECT FROM erasures WHERE job_digest = recipes_job_digest(recipes.id))
            LIMIT 1 FOR KEY SHARE SKIP LOCKED
        ), known AS (
            SELECT content_sha256 FROM earlier_hashes WHERE recipe_id = OLD.id
            UNION SELECT OLD.content_sha256 WHERE OLD.content_sha256 <> ''
            UNION SELECT '' WHERE NOT OLD.hashes_kept
        )
        INSERT INTO earlier_hashes SELECT heir.id, known.content_sha256 FROM heir, known ON CONFLICT DO NOTHING;
        RETURN OLD;
    END
    $$
    """,
    """
    CREATE TRIGGER recipes_hand_hashes_on BEFORE DELETE ON recipes
        FOR EACH ROW EXECUTE FUNCTION recipes_hand_hashes_on()
    """,
    # Workers of the release before go on beside this step, with roles that were granted nothing on its table.
    """
    DO $$
    DECLARE
        name TEXT;
    BEGIN
        FOREACH name IN ARRAY ARRAY['recipes_keep_hash()', 'recipes_hand_hashes_on()'] LOOP
            EXECUTE format(
                'ALTER FUNCTION %s SECURITY DEFINER SET search_path = %I, pg_temp', name, current_schema()
            );
        END LOOP;
    END
    $$
    """,
    "REVOKE EXECUTE ON FUNCTION recipes_keep_hash(), recipes_hand_hashes_on() FROM PUBLIC",
)


def upgrade() -> None:
    """Create the column and the table, and the triggers that write it."""
    for statement in STATEMENTS:
        op.execute(statement)
