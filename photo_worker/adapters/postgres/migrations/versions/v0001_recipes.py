"""The tables ``recipes`` and ``recipe_ocr``.

``content_sha256`` is the empty string until the job has read the asset's bytes, ``s3_raw_bucket`` if the writer did not
give it. A trigger sets ``updated_at``, so that it is right for every writer, and only if a column really changes. Plain
SQL for Postgres 15 to 18, without extensions.
"""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None

STATEMENTS = (
    """
    CREATE TABLE recipes (
        id UUID PRIMARY KEY,
        s3_raw_bucket TEXT NOT NULL DEFAULT '',
        s3_raw_key TEXT NOT NULL,
        content_sha256 TEXT NOT NULL,
        status TEXT NOT NULL DEFAULT 'queued'
            CONSTRAINT recipes_status_known CHECK (status IN ('queued', 'running', 'succeeded', 'failed')),
        error_code TEXT,
        error_message TEXT,
        created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
        updated_at TIMESTAMPTZ NOT NULL DEFAULT now()
    )
    """,
    "CREATE INDEX recipes_content_sha256 ON recipes (content_sha256)",
    "CREATE INDEX recipes_status ON recipes (status)",
    """
    CREATE FUNCTION recipes_touch() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        NEW.updated_at := now();
        RETURN NEW;
    END
    $$
    """,
    """
    CREATE TRIGGER recipes_touch BEFORE UPDATE ON recipes
        FOR EACH ROW WHEN (OLD.* IS DISTINCT FROM NEW.*) EXECUTE FUNCTION recipes_touch()
    """,
    """
    CREATE TABLE recipe_ocr (
        recipe_id UUID PRIMARY KEY REFERENCES recipes ON DELETE CASCADE,
        s3_bucket TEXT,
        s3_ocr_key TEXT NOT NULL,
        s3_manifest_key TEXT,
        ocr_engine TEXT NOT NULL,
        ocr_version TEXT NOT NULL,
        page_count INT DEFAULT 1,
        created_at TIMESTAMPTZ NOT NULL DEFAULT now()
    )
    """,
)


def upgrade() -> None:
    """Create the tables, their indexes and the trigger."""
    for statement in STATEMENTS:
        op.execute(statement)
