"""The table of S3 behaviours and servers, read from ``behaviours.toml``."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from photo_worker.errors import StorageUnavailable

# The errors of a deviation; those of a dead server or of a mistake in a test are none of these.
DEVIATES = (AssertionError, KeyError, ClientError, StorageUnavailable, pytest.fail.Exception)
FILE = Path(__file__).with_name("behaviours.toml")


@dataclass(frozen=True)
class Server:
    """``title``, ``version`` and ``about`` are for the documentation; ``messages`` tells whether it has SNS and SQS."""

    title: str
    version: str
    messages: bool
    about: str


@dataclass(frozen=True)
class Behaviour:
    """A behaviour of S3. The test of the same name, with ``test_`` before it, in the group's suite tests it.

    ``needed`` says what the application needs the behaviour for, empty if it does not. ``not_kept`` says by server what
    happens instead, and what that means for a user; a server that is not in it keeps the behaviour.
    """

    group: str
    says: str
    needed: str = ""
    not_kept: Mapping[str, str] = field(default_factory=dict)


def _read() -> tuple[dict[str, Server], dict[str, Behaviour], dict[str, dict[str, str]]]:
    content = tomllib.loads(FILE.read_text("utf-8"))
    servers = {name: Server(**given) for name, given in content["servers"].items()}
    behaviours = {
        name: Behaviour(group=group, **given)
        for group, members in content["behaviours"].items()
        for name, given in members.items()
    }
    return servers, behaviours, content["object_store"]


# OBJECT_STORE gives, by test of the port's contract and by server, the reason why it does not hold.
SERVERS, BEHAVIOURS, OBJECT_STORE = _read()


def why_not_kept(name: str, server: str) -> str | None:
    """Return why a server does not keep a behaviour, or fails a test of the port's contract; None if it does not."""
    found = BEHAVIOURS[name].not_kept if name in BEHAVIOURS else OBJECT_STORE.get(name, {})
    return found.get(server)


def expect_deviations(items: Iterable[pytest.Item], server_of: Callable[[pytest.Function], str]) -> None:
    """Expect a failure if the table says that a server deviates; a success is then a failure."""
    for item in items:
        if isinstance(item, pytest.Function):
            why = why_not_kept(item.originalname.removeprefix("test_"), server_of(item))
            if why is not None:
                item.add_marker(pytest.mark.xfail(reason=why, strict=True, raises=DEVIATES))
