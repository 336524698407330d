"""The table ``deployment``: the database's own identity, which the marker object in its bucket repeats.

A table and not the server's system identifier or the database's name: the id has to survive a dump and a restore, a
rename and a move to another server. The table has one row at most, and none before the bucket is bound for the first
time, so that copies of a migrated template database get different ids. Earlier releases ignore the table and keep
working. Plain SQL for Postgres 15 to 18, without extensions.
"""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"

STATEMENTS = (
    """
    CREATE TABLE deployment (
        only_row BOOLEAN PRIMARY KEY DEFAULT true CONSTRAINT deployment_one_row CHECK (only_row),
        id UUID NOT NULL DEFAULT gen_random_uuid(),
        created_at TIMESTAMPTZ NOT NULL DEFAULT now()
    )
    """,
)


def upgrade() -> None:
    """Create the table, empty."""
    for statement in STATEMENTS:
        op.execute(statement)
