"""Calls of the command line in this process, with an application that a test has built."""

from __future__ import annotations

from click.testing import CliRunner, Result

from photo_worker.bootstrap import Application
from photo_worker.cli import cli
from photo_worker.cli.context import BUILD
from photo_worker.config import Settings


def invoke_with(application: Application, *arguments: str) -> Result:
    """Run ``photo-worker`` with these arguments; the command uses ``application``, whatever its settings are."""

    def build(settings: Settings) -> Application:
        return application

    return CliRunner().invoke(cli, arguments, obj={BUILD: build})
