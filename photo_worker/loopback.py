"""This machine's own addresses, which no proxy can reach for anybody."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from ipaddress import ip_address
from typing import Any, TypeVar
from urllib.parse import urlsplit

_NAMES = ("127.0.0.1", "localhost", "::1")
_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "grpc_proxy")
_EXCEPTIONS = ("NO_PROXY", "no_proxy")

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
    if not any(environ.get(name, "").strip() or environ.get(name.upper(), "").strip() for name in _PROXIES):
        return {}
    given = [part.strip() for name in _EXCEPTIONS for part in environ.get(name, "").split(",")]
    names = list(dict.fromkeys([*filter(None, given), *_NAMES]))
    return dict.fromkeys(_EXCEPTIONS, ",".join(names))
