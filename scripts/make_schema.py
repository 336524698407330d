"""Write photo_worker/storage/migrations/schema.sql; run this after adding a migration."""

from __future__ import annotations

from photo_worker.storage import migrate

if __name__ == "__main__":
    migrate.SCHEMA.write_text(migrate.rendered(), encoding="utf-8")
