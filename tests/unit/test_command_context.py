"""The context of a command: its settings, and the AWS session that is made from them."""

from __future__ import annotations

import os
from pathlib import Path

import click
import pytest

from photo_worker.aws import aws_session
from photo_worker.cli.context import resolve_context


@pytest.mark.parametrize(
    "given",
    [
        {"AWS_REGION": "eu-central-1"},
        {"AWS_DEFAULT_REGION": "eu-central-1"},
        {"AWS_REGION": "eu-central-1", "AWS_DEFAULT_REGION": "us-west-2"},
    ],
)
def test_resolve_context_region_is_that_of_either_variable(given: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "worker.env"
    # The explicit address keeps a stack that may run here from being used.
    lines = {**given, "TEMPORAL_TARGET": "127.0.0.1:7233"}
    file.write_text("".join(f"{name}={value}\n" for name, value in lines.items()), "utf-8")
    context = click.Context(click.Command("worker"), obj={"env_file": file, "debug": False})
    before = dict(os.environ)
    settings = resolve_context(context, environ={}).settings
    assert aws_session(settings.variables).region_name == "eu-central-1"
    assert dict(os.environ) == before
