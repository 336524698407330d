"""``photo-worker migrate``: the database schema."""

from __future__ import annotations

import click

from photo_worker.cli.context import stack_option, surroundings
from photo_worker.cli.output import Command, OutputFormat, emit, output_option


@click.command(cls=Command)
@stack_option
@output_option("text", "json")
@click.pass_context
def migrate(ctx: click.Context, stack_name: str | None, output: OutputFormat) -> None:
    """Bring the database at DATABASE_URL to this release's schema.

    Safe to run at any time and by several at once: migrations take a lock, and those that ran are
    not run again.
    """
    from photo_worker.storage.migrate import current, upgrade

    url = surroundings(ctx, stack_name=stack_name).settings.require_database_url()
    before = current(url)
    upgrade(url)
    after = current(url)
    text = f"schema is at {after}" if before == after else f"schema went from {before or 'empty'} to {after}"
    emit("migrate", output, data={"before": before, "after": after}, text=text)
