"""This machine's own addresses, which no proxy can reach for anybody."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from ipaddress import ip_address
from typing import Any, TypeVar
from urllib.parse import urlsplit

_NAMES = ("127.0.0.1", "localhost", "::1")
_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "grpc_proxy")
EXCEPTIONS = ("NO_PROXY", "no_proxy")
_EVERYTHING = "*"

_Client = TypeVar("_Client")


def is_loopback(host: str) -> bool:
    """Say whether a host is this machine without asking anybody: an address of loopback, or the name localhost."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def direct_client(create: Callable[..., _Client], config: Any) -> _Client:
    """Return the client of boto3 that ``create`` makes of a ``Config``; no proxy is asked for an endpoint on loopback.

    Which endpoint it has, variables and profiles decide while it is made. Nor is one asked where NO_PROXY has a star,
    which boto3 itself takes for a name in a list.
    """
    from urllib.request import getproxies

    client: Any = create(config=config)
    here = is_loopback(urlsplit(client.meta.endpoint_url).hostname or "")
    if getproxies() and (here or _EVERYTHING in _parts(os.environ.get(name, "") for name in EXCEPTIONS)):
        client.close()
        client = create(config=config.merge(type(config)(proxies={})))
    made: _Client = client
    return made


def proxy_exceptions(environ: Mapping[str, str]) -> dict[str, str]:
    """Return NO_PROXY in both spellings, with loopback added to what it names; nothing where no proxy is set."""
    # Python's own clients take the names of proxies in any spelling.
    if not any(value.strip() and name.lower() in _PROXIES for name, value in environ.items()):
        return {}
    return dict.fromkeys(EXCEPTIONS, joined([*(environ.get(name, "") for name in EXCEPTIONS), *_NAMES]))


def joined(lists: Iterable[str]) -> str:
    """Return one list of what several name, each of them as NO_PROXY has it."""
    parts = _parts(lists)
    # Alone, it means every host. In a list, to most programs, it means nothing.
    return _EVERYTHING if _EVERYTHING in parts else ",".join(parts)


def _parts(lists: Iterable[str]) -> list[str]:
    given = [part.strip() for one in lists for part in one.split(",")]
    return list(dict.fromkeys(filter(None, given)))
