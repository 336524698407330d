"""Write photo_worker/adapters/postgres/migrations/schema.sql; run this after adding a migration."""

from __future__ import annotations

from photo_worker.adapters.postgres import migrate

if __name__ == "__main__":
    migrate.SCHEMA.write_text(migrate.rendered(), encoding="utf-8")
