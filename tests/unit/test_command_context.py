"""The environment of a command, and the variables that it sets for botocore."""

from __future__ import annotations

from pathlib import Path

import boto3
import click
import pytest

from photo_worker.cli.context import resolve_context


@pytest.mark.parametrize(
    "given",
    [
        {"AWS_REGION": "eu-central-1"},
        {"AWS_DEFAULT_REGION": "eu-central-1"},
        {"AWS_REGION": "eu-central-1", "AWS_DEFAULT_REGION": "us-west-2"},
    ],
)
def test_resolve_context_sets_region_from_either_variable(
    given: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "worker.env"
    # The explicit address keeps a stack that may run here from being used.
    lines = {**given, "TEMPORAL_TARGET": "127.0.0.1:7233"}
    file.write_text("".join(f"{name}={value}\n" for name, value in lines.items()), "utf-8")
    environ: dict[str, str] = {}
    context = click.Context(click.Command("worker"), obj={"env_file": file, "debug": False})
    resolve_context(context, environ=environ)
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
        if name in environ:
            monkeypatch.setenv(name, environ[name])
    assert boto3.Session().region_name == "eu-central-1"
