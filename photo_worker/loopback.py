"""This machine's own addresses, which no proxy can reach for anybody."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from ipaddress import ip_address
from typing import Any, TypeVar
from urllib.parse import urlsplit

_NAMES = ("127.0.0.1", "localhost", "::1")
_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "grpc_proxy")
_EXCEPTIONS = ("NO_PROXY", "no_proxy")
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

    Which endpoint it has, variables and profiles decide while it is made.
    """
    from urllib.request import getproxies

    client: Any = create(config=config)
    if getproxies() and is_loopback(urlsplit(client.meta.endpoint_url).hostname or ""):
        client.close()
        client = create(config=config.merge(type(config)(proxies={})))
    made: _Client = client
    return made


def proxy_exceptions(environ: Mapping[str, str]) -> dict[str, str]:
    """Return NO_PROXY in both spellings, with loopback added to what it names; nothing where no proxy is set."""
    # Python's own clients take the names of proxies in any spelling.
    if not any(value.strip() and name.lower() in _PROXIES for name, value in environ.items()):
        return {}
    values = [environ.get(name, "").strip() for name in _EXCEPTIONS]
    if _EVERYTHING in values:
        # Alone, it means every host. In a list, to most programs, it means nothing.
        return dict.fromkeys(_EXCEPTIONS, _EVERYTHING)
    given = [part.strip() for value in values for part in value.split(",")]
    names = list(dict.fromkeys([*filter(None, given), *_NAMES]))
    return dict.fromkeys(_EXCEPTIONS, ",".join(names))
