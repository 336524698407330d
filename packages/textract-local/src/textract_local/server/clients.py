"""Makes clients of AWS services, without proxies if the service is on this machine: no proxy can reach it."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from ipaddress import ip_address
from typing import Any, TypeVar
from urllib.parse import urlsplit

_Client = TypeVar("_Client")

_CONNECT_SECONDS = 2
_READ_SECONDS = 20
# The region if no variable or profile names one.
_FALLBACK_REGION = "us-east-1"


def breakable_client(service: str, region: str | None, *, connections: int) -> Any:
    """Return a boto3 client of ``service`` whose calls can be broken off; it keeps at most ``connections`` open.

    The standard AWS variables and profiles configure it; ``region``, if given, overrides theirs. A call is tried twice.
    Raises ``ValueError`` if the endpoint is not a URL.
    """
    # boto3 takes longer to import than most documents to read; many runs never need a client.
    import boto3
    from botocore.config import Config

    from textract_local.server.breakable_connections import breakable

    session = boto3.Session()
    create: Callable[..., Any] = session.client
    config = Config(
        connect_timeout=_CONNECT_SECONDS,
        read_timeout=_READ_SECONDS,
        max_pool_connections=connections,
        retries={"total_max_attempts": 2, "mode": "standard"},
    )
    where = region or session.region_name or _FALLBACK_REGION
    client = direct_client(partial(create, service, region_name=where), config)
    breakable(client)
    return client


def direct_client(create: Callable[..., _Client], config: Any) -> _Client:
    """Return the boto3 client that ``create`` makes from a ``Config``, without proxies if its endpoint is loopback.

    The endpoint is known only after creation, since variables and profiles determine it. Proxies are also disabled if
    NO_PROXY contains a star, which boto3 itself treats as a host name when it is one of several entries.
    """
    from urllib.request import getproxies

    client: Any = create(config=config)
    here = _is_loopback(urlsplit(client.meta.endpoint_url).hostname or "")
    if getproxies() and (here or _excepts_every_host()):
        client.close()
        client = create(config=config.merge(type(config)(proxies={})))
    made: _Client = client
    return made


def _excepts_every_host() -> bool:
    lists = (os.environ.get(name, "") for name in ("NO_PROXY", "no_proxy"))
    return any(part.strip() == "*" for one in lists for part in one.split(","))


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
