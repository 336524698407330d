"""``config show``: the resolved value of each setting, and its source."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import click
from pydantic import SecretStr

from photo_worker.cli.context import resolve_environment, stack_option
from photo_worker.cli.output import ErrorReportingCommand, OutputFormat, emit, emit_error, output_option, table
from photo_worker.cli.stack_settings import PREFIX, ignored_stack_variables, stack_settings
from photo_worker.config import DEFAULT_TEMPORAL_TARGET, Environment, Origin, Settings, load_settings
from photo_worker.errors import ConfigurationError

HIDDEN = "(hidden)"
_MASK = "***"
_SECRET = re.compile(r"SECRET|TOKEN|PASSW|API_KEY|PRIVATE|KEY_DATA|CREDENTIALS?$|ACCESS_KEY")
# Read by the Temporal and AWS libraries, and shown even if they are not set.
_SERVICES = (
    "TEMPORAL_NAMESPACE",
    "TEMPORAL_PROFILE",
    "AWS_REGION",
    "AWS_PROFILE",
    "AWS_ENDPOINT_URL_S3",
    "AWS_ENDPOINT_URL_TEXTRACT",
)
_SERVICE_PREFIXES = ("TEMPORAL_", "AWS_", "SNS_", "SQS_")


@dataclass(frozen=True)
class Resolved:
    """A resolved setting; ``value`` is None if it is not set, and has its secrets removed."""

    name: str
    value: str | None
    origin: Origin


@click.group()
def config() -> None:
    """Inspect the settings."""


@config.command(cls=ErrorReportingCommand)
@stack_option
@output_option("text", "json")
@click.pass_context
def show(ctx: click.Context, stack_name: str | None, output: OutputFormat) -> None:
    """Show each setting, its value and its source; secrets are hidden.

    The application's settings come first, then those that the Temporal and AWS libraries read, then the options that
    `up` would start the local stack with.

    Exits with code 1 if a worker would not start with these settings.
    """
    environment, stack = resolve_environment(ctx, os.environ, stack_name=stack_name)
    effective: dict[str, Resolved] = {}
    error: ConfigurationError | None = None
    try:
        settings = load_settings(environment)
        effective = {**_values(settings, environment), **_temporal(settings, environment)}
    except ConfigurationError as problem:
        # The given values are shown all the same: they may reveal the mistake.
        error = problem
    rows = list(resolved_settings(environment, effective))
    rows += [
        Resolved(name, None if value is None else without_secrets(name, value), origin)
        for name, value, origin in stack_settings(stack_name, os.environ)
    ]
    data = {"stack": stack, "settings": [_as_data(row) for row in rows]}
    if error is not None and output == "json":
        emit_error("config show", output, error, data=data)
        ctx.exit(1)

    def text() -> None:
        shown = [(row.name, "-" if row.value is None else row.value, str(row.origin)) for row in rows]
        for line in table([("SETTING", "VALUE", "FROM"), *shown]):
            click.echo(line)

    emit(
        "config show",
        output,
        data=data,
        text=text,
        warnings=[*misspelled_variables(environment), *ignored_stack_variables(environment)],
    )
    if error is not None:
        emit_error("config show", output, error)
        ctx.exit(1)


def resolved_settings(environment: Environment, effective: Mapping[str, Resolved]) -> Iterator[Resolved]:
    """Yield this project's settings in their order, then those that its services' libraries read, by name.

    ``effective`` has the resolved settings; of a setting that is not in it, the given value is shown only if it
    cannot hold a secret.
    """
    given = {name: value for name, value in environment.variables.items() if value.strip()}
    own = _own_names()
    others = {name for name in given if name.startswith(_SERVICE_PREFIXES)} | {*_SERVICES, *effective}
    for name in (*own, *sorted(others - set(own))):
        if name in effective:
            yield effective[name]
        elif name in given:
            # Not validated: it may be a secret that was put into the wrong variable.
            value = HIDDEN if name in own else without_secrets(name, given[name])
            yield Resolved(name, value, environment.origins[name])
        else:
            yield Resolved(name, None, Origin("default"))


def without_secrets(name: str, value: str) -> str:
    """Return a value to show: a secret is hidden, and of a URL the password and secret query parameters are masked."""
    if _SECRET.search(name):
        return HIDDEN
    if "://" not in value:
        return value
    try:
        url = urlsplit(value)
        port = "" if url.port is None else f":{url.port}"
    except ValueError:
        return HIDDEN
    user, has_user, _ = url.netloc.rpartition("@")
    if has_user:
        name_of_user, has_password, _ = user.partition(":")
        user = f"{name_of_user}:{_MASK}@" if has_password else f"{user}@"
    host = f"[{url.hostname}]" if ":" in (url.hostname or "") else url.hostname or ""
    query = [(key, _MASK if _SECRET.search(key.upper()) else entry) for key, entry in parse_qsl(url.query)]
    rest = f"?{urlencode(query, safe='*/')}" if query else ""
    return f"{url.scheme}://{user}{host}{port}{url.path}{rest}"


def misspelled_variables(environment: Environment) -> Iterator[str]:
    """Yield a warning for each unknown name in the .env file that resembles a known one."""
    known = {*_own_names(), *_SERVICES}
    for name, origin in environment.origins.items():
        if origin.kind != "file" or name in known or name.startswith((*_SERVICE_PREFIXES, PREFIX)):
            continue
        for meant in difflib.get_close_matches(name, known, n=1, cutoff=0.85):
            yield f"{name} in {origin} is read by nothing; is {meant} meant?"


def _own_names() -> list[str]:
    return [field.alias for field in Settings.model_fields.values() if field.alias]


def _values(settings: Settings, environment: Environment) -> dict[str, Resolved]:
    found = {}
    for field, facts in Settings.model_fields.items():
        name, value = facts.alias or field, getattr(settings, field)
        if isinstance(value, SecretStr):
            value = value.get_secret_value()
        shown = None if value is None else without_secrets(name, str(value))
        found[name] = Resolved(name, shown, _origin(name, environment))
    return found


def _temporal(settings: Settings, environment: Environment) -> dict[str, Resolved]:
    """Resolve what the Temporal library reads from its variables and its profile; its import takes half a second."""
    from photo_worker.adapters.temporal.connection import connection_options

    options = connection_options(settings, environment.variables)
    profile = Origin("profile")
    found = {}
    for name, variables, option, default in (
        ("TEMPORAL_TARGET", ("TEMPORAL_TARGET", "TEMPORAL_ADDRESS"), "target_host", DEFAULT_TEMPORAL_TARGET),
        ("TEMPORAL_NAMESPACE", ("TEMPORAL_NAMESPACE",), "namespace", "default"),
    ):
        value = str(options[option])
        given = [origin for variable in variables if (origin := _origin(variable, environment)).kind != "default"]
        otherwise = Origin("default") if value == default else profile
        found[name] = Resolved(name, value, given[0] if given else otherwise)
    return found


def _origin(name: str, environment: Environment) -> Origin:
    given = environment.variables.get(name, "").strip()
    return environment.origins[name] if given else Origin("default")


def _as_data(row: Resolved) -> dict[str, Any]:
    origin = asdict(row.origin)
    return {"name": row.name, "value": row.value, "origin": origin.pop("kind"), **origin}
