"""The schema file equals the result of all migration steps."""

from __future__ import annotations

from photo_worker.adapters.postgres import migrate


def test_schema_file_equals_rendered_migrations() -> None:
    assert migrate.SCHEMA.read_text(encoding="utf-8") == migrate.rendered(), "run python -m scripts.make_schema"
