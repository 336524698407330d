"""What shells are offered for the values of options. Light: `photo-worker status` imports it, and may take 200 ms."""

from __future__ import annotations

import click


def complete_stack(_ctx: click.Context, _option: click.Parameter, incomplete: str) -> list[str]:
    """Return the names of this worktree's stacks that begin so, for a shell."""
    try:
        from photo_worker.devkit.layout import default_home, stack_names
    except ImportError:
        return []
    return [name for name in stack_names(default_home()) if name.startswith(incomplete)]
