"""The context that a command runs in: settings, and the variables they came from."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from photo_worker.cli.completion import complete_stack
from photo_worker.config import Environment, Origin, Settings, load_settings, read_environment
from photo_worker.devkit.errors import StackNotRunning
from photo_worker.errors import ConfigurationError
from photo_worker.loopback import proxy_exceptions

if TYPE_CHECKING:
    from photo_worker.bootstrap import Application

# The key in the object of click's root context under which a caller of ``cli`` passes what builds the application.
BUILD = "build_application"

# If one of these is set, it locates the services, and the local stack is not used.
ENDPOINT_VARIABLES = (
    "TEMPORAL_TARGET",
    "TEMPORAL_ADDRESS",
    "TEMPORAL_PROFILE",
    "TEMPORAL_CONFIG_FILE",
    "DATABASE_URL",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_ENDPOINT_URL_TEXTRACT",
)


stack_option = click.option(
    "--name",
    "stack_name",
    metavar="STACK",
    envvar="PHOTO_WORKER_STACK",
    shell_complete=complete_stack,
    help="Name of the local stack to use.",
)


@dataclass(frozen=True)
class CommandContext:
    """Settings with the variables they came from; ``stack`` is the local stack in use, or None.

    ``build`` takes the place of ``bootstrap.build_application`` if it is given.
    """

    settings: Settings
    variables: Mapping[str, str]
    stack: str | None
    build: Callable[[Settings], Application] | None = None

    def application(self) -> Application:
        """Return the application of these settings; the caller closes it. Raises ``ConfigurationError``."""
        from photo_worker.bootstrap import build_application

        return (self.build or build_application)(self.settings)


def env_file_of(ctx: click.Context) -> Path | None:
    """Return the file that ``--env-file`` names."""
    found: Path | None = _passed(ctx).get("env_file")
    return found


def _passed(ctx: click.Context) -> Mapping[str, Any]:
    return ctx.find_root().obj or {}


def resolve_context(
    ctx: click.Context,
    *,
    stack_name: str | None = None,
    stack_variables: Mapping[str, str] | None = None,
    environ: Mapping[str, str] | None = None,
) -> CommandContext:
    """Resolve the settings: the environment first, then the .env file, then the local stack that runs here.

    The stack is used whole or not at all: as soon as one service's location is set elsewhere, all of the
    stack's variables are ignored, so that no job mixes a laptop's credentials with a cloud's endpoints. An
    explicit ``stack_variables`` or ``--name`` has precedence over everything.

    If the stack is used and a proxy is set, loopback is added to NO_PROXY.
    """
    given = os.environ if environ is None else environ
    environment, used = resolve_environment(ctx, given, stack_name=stack_name, stack_variables=stack_variables)
    settings = load_settings(environment)
    return CommandContext(settings=settings, variables=environment.variables, stack=used, build=_passed(ctx).get(BUILD))


def resolve_environment(
    ctx: click.Context,
    environ: Mapping[str, str],
    *,
    stack_name: str | None = None,
    stack_variables: Mapping[str, str] | None = None,
    use_stack: bool = True,
) -> tuple[Environment, str | None]:
    """Return the variables that ``resolve_context`` reads settings from, and the local stack in use, or None.

    Without ``use_stack``, a running stack is ignored.

    Raises ``StackNotRunning`` if the stack was named and does not run.
    """
    asked = env_file_of(ctx)
    environment = _environment(environ, asked)
    used: str | None = None
    explicit = stack_variables is not None or stack_name is not None
    if not use_stack:
        return environment, None
    if explicit or not any(environment.variables.get(name, "").strip() for name in ENDPOINT_VARIABLES):
        found = stack_variables if stack_variables is not None else _running_stack(stack_name)
        if found is None and explicit:
            raise StackNotRunning(name=stack_name or "dev")
        if found:
            used = stack_name or "here"
            environment = _merge(environment, found, first=explicit)
    return environment, used


def _environment(environ: Mapping[str, str], asked: Path | None) -> Environment:
    try:
        return read_environment(environ, asked or Path(".env"), required=asked is not None)
    except ConfigurationError as error:
        if asked is not None and not asked.is_file():
            raise error.from_option() from error
        raise


def _running_stack(name: str | None) -> Mapping[str, str] | None:
    try:
        from photo_worker.devkit.environment import stack_environment
    except ImportError:
        # The worker's own image has no dev kit.
        return None
    return stack_environment(name)


def _merge(environment: Environment, stack: Mapping[str, str], *, first: bool) -> Environment:
    variables = dict(environment.variables)
    origins = dict(environment.origins)
    exceptions = proxy_exceptions(variables)
    for name, value in {**stack, **exceptions}.items():
        if first or name in exceptions or not variables.get(name, "").strip():
            variables[name] = value
            origins[name] = Origin("stack")
    return Environment(variables, origins)
