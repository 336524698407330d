"""``photo-worker migrate``: migrate the database schema, and bind the bucket to the database."""

from __future__ import annotations

import sys
from typing import Any

import click

from photo_worker.cli.context import CommandContext, resolve_context, stack_option
from photo_worker.cli.output import ErrorReportingCommand, OutputFormat, echo_printable, emit, output_option
from photo_worker.errors import (
    BindingUnreadable,
    BucketBoundElsewhere,
    BucketNotBound,
    PhotoWorkerError,
    RebindUnconfirmed,
)


@click.command(cls=ErrorReportingCommand)
@click.option(
    "--bind",
    "must_bind",
    is_flag=True,
    help="Bind the bucket even if the database was bound to one before; fail if it cannot be bound.",
)
@click.option(
    "--rebind", is_flag=True, help="Rebind the bucket if it is bound to another database; asks for confirmation."
)
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@stack_option
@output_option("text", "json")
@click.pass_context
def migrate(
    ctx: click.Context, *, must_bind: bool, rebind: bool, yes: bool, stack_name: str | None, output: OutputFormat
) -> None:
    """Migrate the database at DATABASE_URL to this release's schema, and bind S3_BUCKET to it.

    Safe to run at any time, also concurrently: migrations take a lock, and applied migrations are not run
    again. The bucket is bound once, by a small object in it; without that object, repair and erase never
    delete anything in the bucket. If S3 is not configured or does not respond, the schema is migrated all the
    same, and the command warns; with --bind it then fails. It also warns, and binds nothing, if the database was
    bound to another bucket before: S3_BUCKET may be wrong, and workers take no work until --bind.
    """
    from photo_worker.adapters.postgres.migrate import current, upgrade
    from photo_worker.bootstrap import database_conninfo

    context = resolve_context(ctx, stack_name=stack_name)
    url = database_conninfo(context.settings)
    before = current(url)
    upgrade(url)
    after = current(url)
    text = f"schema is at {after}" if before == after else f"schema went from {before or 'empty'} to {after}"
    if output == "text":
        # Printed before the bucket is bound: the migration is done even if binding fails.
        click.echo(text)
    found = _bind(context, must_bind=must_bind or rebind, rebind=rebind, yes=yes)
    bucket = context.settings.s3_bucket
    todo = (
        BucketNotBound.hint
        if found["code"] == BucketNotBound.code
        else "Run `photo-worker migrate --bind` when S3 can be used; until then nothing is deleted."
    )
    warning = f"bucket {bucket} is not bound to this database yet: [{found['code']}] {found['reason']} {todo}"
    emit(
        "migrate",
        output,
        data={"before": before, "after": after, "bucket": {"name": bucket, **found}},
        text=f"bucket {bucket} {_state(found)}",
        warnings=[] if found["bound"] else [warning],
    )


def _state(found: dict[str, Any]) -> str:
    if not found["bound"]:
        return "is not bound"
    return "is now bound to this database" if found["changed"] else "is bound to this database"


def _bind(context: CommandContext, *, must_bind: bool, rebind: bool, yes: bool) -> dict[str, Any]:
    """Bind the bucket if possible; return whether it is bound, whether that changed, and why it is not.

    Raises ``BucketBoundElsewhere``, ``BindingUnreadable``, ``RebindUnconfirmed``, and with ``must_bind`` any error
    that keeps it from being bound.
    """
    from photo_worker.services.binding import (
        BoundElsewhere,
        Unbound,
        bind,
        bound_since,
        read_binding,
        require_own_bucket,
    )

    bucket = context.settings.s3_bucket
    try:
        with context.application() as application:
            store, repository = application.store, application.repository
            if rebind and not yes:
                found = read_binding(store, repository, bucket)
                if isinstance(found, BoundElsewhere):
                    _confirm(bucket, found.marker.database, repository.describe())
                elif isinstance(found, Unbound) and bound_since(store, bucket) is not None:
                    _confirm(bucket, "that a marker names which cannot be read", repository.describe())
            if not must_bind:
                # Deployments run this before their workers: with a wrong S3_BUCKET it must not bind that bucket.
                require_own_bucket(store, repository, bucket)
            changed = bind(store, repository, bucket, rebind=rebind)
    except (BucketBoundElsewhere, BindingUnreadable, RebindUnconfirmed):
        raise
    except PhotoWorkerError as error:
        if must_bind:
            raise
        return {"bound": False, "changed": False, "code": error.code, "reason": error.message}
    return {"bound": True, "changed": changed, "code": None, "reason": None}


def _confirm(bucket: str, known: str, own: str) -> None:
    if not sys.stdin.isatty():
        raise RebindUnconfirmed(bucket=bucket, known=known)
    echo_printable(f"Bucket {bucket} is bound to the database {known}.", err=True)
    click.confirm(
        f"Bind it to {own}? Where the first one is still in use, `check --repair` will take its photos for orphans.",
        abort=True,
        err=True,
    )
