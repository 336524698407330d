"""The options that choose the parts of a stack, for the commands that may start one."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

import click

from photo_worker.devkit.local_stack import StackOptions

if TYPE_CHECKING:
    from photo_worker.devkit.stack import Stack

_F = TypeVar("_F", bound=Callable[..., Any])
NONE = "none"

kind_option = click.option(
    "--stack",
    "kind",
    envvar="PHOTO_WORKER_STACK_KIND",
    type=click.Choice(("native", "compose")),
    help="Runtime of the services: native processes, or Docker Compose containers.  [default: as before, or native]",
)
base_port_option = click.option(
    "--base-port",
    type=click.IntRange(1024, 65_516),
    help="First of the stack's twenty ports.  [default: as before, or derived from the worktree's path and the name]",
)
s3_option = click.option(
    "--s3",
    envvar="PHOTO_WORKER_S3",
    type=click.Choice(("ministack", "seaweedfs", "minio", "localstack")),
    help="S3 server: ministack, seaweedfs or minio (native); localstack or minio (compose).  "
    "[default: as before, or ministack or localstack]",
)


def _parse_external(_ctx: click.Context, _option: click.Parameter, values: tuple[str, ...]) -> dict[str, str] | None:
    """Return the endpoints by service; None if the option is not given, empty for the word none."""
    if not values:
        return None
    if values == (NONE,):
        return {}
    from photo_worker.devkit import external
    from photo_worker.devkit.errors import ExternalInvalid

    found: dict[str, str] = {}
    for value in values:
        service, given, endpoint = value.partition("=")
        # The message does not repeat the value, which may be a URL with a password.
        if not given or service not in external.forms():
            forms = ", ".join(f"{name}={form}" for name, form in external.forms().items())
            raise click.BadParameter(f"give one of {forms}; or the one word {NONE}.")
        if service in found:
            raise click.BadParameter(f"{service} is named twice.")
        try:
            found[service] = external.parse(service, endpoint)
        except ExternalInvalid as error:
            raise click.BadParameter(error.message) from error
    try:
        external.require_sns_with_sqs(found)
    except ExternalInvalid as error:
        raise click.BadParameter(error.message) from error
    return found


def _complete_external(_ctx: click.Context, _option: click.Parameter, incomplete: str) -> list[str]:
    from photo_worker.devkit import external

    return [name for name in (*(f"{service}=" for service in external.forms()), NONE) if name.startswith(incomplete)]


# Never read from a variable: the named services are migrated and written to, which must be intended.
external_option = click.option(
    "--external",
    multiple=True,
    metavar="SERVICE=ENDPOINT",
    callback=_parse_external,
    shell_complete=_complete_external,
    help="Use an existing temporal, postgres, s3, sns, sqs or textract, and create in it what the stack needs; "
    "nothing in it is ever deleted. Repeatable; the word none uses no external service.  [default: as before]",
)


def _parse_extras(_ctx: click.Context, _option: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...] | None:
    """Return the names of optional services; None if the option is not given, empty for the word none."""
    if not values:
        return None
    if values == (NONE,):
        return ()
    from photo_worker.devkit.service_registry import optional_services

    known = optional_services()
    if not set(values) <= set(known):
        raise click.BadParameter(f"give one of {', '.join(known)}; or the one word {NONE}.")
    return tuple(name for name in known if name in values)


def _complete_extras(_ctx: click.Context, _option: click.Parameter, incomplete: str) -> list[str]:
    from photo_worker.devkit.service_registry import optional_services

    return [name for name in (*optional_services(), NONE) if name.startswith(incomplete)]


extras_option = click.option(
    "--with",
    "extras",
    multiple=True,
    metavar="SERVICE",
    callback=_parse_extras,
    shell_complete=_complete_extras,
    help="Also run an optional service: pgbouncer, in front of Postgres. Repeatable; the word none runs none.  "
    "[default: as before]",
)
offline_option = click.option(
    "--offline",
    is_flag=True,
    envvar="PHOTO_WORKER_OFFLINE",
    help="Refuse anything that would connect to another machine.",
)


def stack_options(command: _F) -> _F:
    """Add the options; the command gets them as one ``StackOptions``, named ``options``."""

    @wraps(command)
    def together(*args: Any, **values: Any) -> Any:
        names = ("kind", "base_port", "s3", "external", "extras", "offline")
        options = StackOptions(**{name: values.pop(name) for name in names})
        return command(*args, options=options, **values)

    decorated: Any = together
    for option in (offline_option, extras_option, external_option, s3_option, base_port_option, kind_option):
        decorated = option(decorated)
    result: _F = decorated
    return result


def external_services_warnings(stack: Stack, what: str) -> list[str]:
    """Return a warning that external services were left as they are, or nothing if the stack has none."""
    from photo_worker.devkit import external
    from photo_worker.devkit.state import StackRecord

    record = StackRecord.load_whole(stack.paths)
    if record is None or not record.external:
        return []
    names = external.describe(record.external)
    return [f"{names} {'is' if len(record.external) == 1 else 'are'} external: {what}"]
