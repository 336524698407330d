"""Loopback addresses and proxies: a client must not use a proxy for them, because the proxy cannot reach them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import ip_address

_NAMES = ("127.0.0.1", "localhost", "::1")
_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "grpc_proxy")
EXCEPTIONS = ("NO_PROXY", "no_proxy")
EVERY_HOST = "*"


def is_loopback(host: str) -> bool:
    """Tell, without a DNS query, whether a host is this machine: a loopback address or the name localhost."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


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
    return EVERY_HOST if EVERY_HOST in parts else ",".join(parts)


def _parts(lists: Iterable[str]) -> list[str]:
    given = [part.strip() for one in lists for part in one.split(",")]
    return list(dict.fromkeys(filter(None, given)))
