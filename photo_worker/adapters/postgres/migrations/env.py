"""Runs the steps on the connection that ``photo_worker.adapters.postgres.migrate`` passes in.

The caller owns the transaction, so that the lock it holds and every step end together.
"""

from __future__ import annotations

from alembic import context

context.configure(connection=context.config.attributes["connection"])
with context.begin_transaction():
    context.run_migrations()
