"""Loopback addresses and proxies: a client must not use a proxy for them, because the proxy cannot reach them."""

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
    """Tell, without a DNS query, whether a host is this machine: a loopback address or the name localhost."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def direct_client(create: Callable[..., _Client], config: Any) -> _Client:
    """Return the boto3 client that ``create`` makes from a ``Config``, without proxies if its endpoint is loopback.

    The endpoint is known only after creation, since variables and profiles determine it. Proxies are also disabled if
    NO_PROXY contains a star, which boto3 itself treats as a host name when it is one of several entries.
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
    """Return NO_PROXY and no_proxy with the loopback names added, or an empty dict if no proxy is set."""
    # Python's own clients accept the names of the proxy variables in any case.
    if not any(value.strip() and name.lower() in _PROXIES for name, value in environ.items()):
        return {}
    return dict.fromkeys(EXCEPTIONS, joined([*(environ.get(name, "") for name in EXCEPTIONS), *_NAMES]))


def joined(lists: Iterable[str]) -> str:
    """Merge several comma-separated NO_PROXY values into one."""
    parts = _parts(lists)
    # Alone a star means every host; as one of several entries most programs ignore it.
    return _EVERYTHING if _EVERYTHING in parts else ",".join(parts)


def _parts(lists: Iterable[str]) -> list[str]:
    given = [part.strip() for one in lists for part in one.split(",")]
    return list(dict.fromkeys(filter(None, given)))
