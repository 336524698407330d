"""Shell completion of option values. Imports little: `photo-worker status` imports it, and may take 200 ms."""

from __future__ import annotations

import click

from photo_worker.errors import PhotoWorkerError


def complete_stack(_ctx: click.Context, _option: click.Parameter, incomplete: str) -> list[str]:
    """Return the names of this worktree's stacks that start with ``incomplete``."""
    try:
        from photo_worker.devkit.layout import default_home, stack_names
    except ImportError:
        return []
    return [name for name in stack_names(default_home()) if name.startswith(incomplete)]


def complete_service(ctx: click.Context, _argument: click.Parameter, incomplete: str) -> list[str]:
    """Return the services of the chosen stack whose names start with ``incomplete``."""
    try:
        from photo_worker.devkit.local_stack import local_stack
    except ImportError:
        return []
    try:
        services = local_stack(ctx.params.get("stack_name") or ctx.params.get("name")).services
    except PhotoWorkerError:
        # The stack cannot be read; the command itself will report it.
        return []
    return [name for name in services if name.startswith(incomplete)]
