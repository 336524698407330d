"""Which HTTP requests a local service takes: those of programs, and none of a web page of another origin.

A page can send requests to loopback in three ways, and each shows in the headers, which a page cannot choose:

- to another origin, with ``Origin`` on all that is no plain GET or HEAD (Fetch Standard, "append a request Origin
  header"), and with ``Sec-Fetch-Site`` on everything (W3C Fetch Metadata; loopback counts as trustworthy);
- to its own name, which its owner has made point to 127.0.0.1 in the meantime (DNS rebinding): same-origin to the
  browser, but ``Host`` still has that name.

Standard library alone and no import from the package: LocalStack's container runs this file as well.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from ipaddress import ip_address

HOSTS_VARIABLE = "PHOTO_WORKER_ALLOWED_HOSTS"

_HOST = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,253})(?P<port>:[0-9]{1,5})?")
# The browser has no page in mind, or the page is the service's own.
_OWN_SITES = ("none", "same-origin")
_SHOWN = 100


class Rules:
    """What is asked of each request; ``hosts`` are names that count beside those of loopback.

    With ``same_origin``, a page that the service itself has served may call it.
    """

    def __init__(self, hosts: Iterable[str] = (), *, same_origin: bool = False) -> None:
        self._hosts = frozenset(_bare(host) for host in hosts)
        self._same_origin = same_origin

    def refusal(self, headers: Iterable[tuple[bytes, bytes]]) -> str | None:
        """Say why a request is refused, and what to do; None where it is taken. Names are in lower case."""
        host: str | None = None
        origin: str | None = None
        for name, value in headers:
            if name == b"host":
                given = value.decode("latin-1").strip()
                if host is not None and given != host:
                    return _told("it has two Host headers", "Send one")
                host = given
            elif name == b"origin":
                origin = value.decode("latin-1").strip()
            elif name == b"sec-fetch-site":
                site = value.decode("latin-1").strip().lower()
                if site not in _OWN_SITES:
                    reason = f"a web page of another origin sent it (Sec-Fetch-Site: {site[:_SHOWN]})"
                    return _told(reason, "Call the service from a program, or open its address yourself")
        if host is None or not self._is_known(host):
            shown = "is missing" if not host else f"{host[:_SHOWN]!r} is not a name of this machine"
            return _told(
                f"its Host {shown}",
                f"Use 127.0.0.1 or localhost, or start the service with the name in {HOSTS_VARIABLE} (comma-separated)",
            )
        if origin is not None and not (self._same_origin and origin.lower() == f"http://{host}".lower()):
            reason = f"a web page of another origin sent it (Origin: {origin[:_SHOWN]!r})"
            return _told(reason, "Call the service from a program, without an Origin header")
        return None

    def _is_known(self, host: str) -> bool:
        match = _HOST.fullmatch(host)
        if match is None:
            return False
        name = _bare(match["name"])
        return name in self._hosts or _is_loopback(name)


def allowed_hosts(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return the names that ``PHOTO_WORKER_ALLOWED_HOSTS`` adds to those of loopback."""
    return split_hosts(environ.get(HOSTS_VARIABLE, ""))


def split_hosts(text: str) -> tuple[str, ...]:
    """Return the names of a comma-separated list, without ports."""
    return tuple(name for name in (part.strip() for part in text.split(",")) if name)


def _bare(name: str) -> str:
    # The last dot of a full name is not part of the name.
    return name.lower().removesuffix(".")


@lru_cache(maxsize=64)
def _is_loopback(name: str) -> bool:
    try:
        return ip_address(name.removeprefix("[").removesuffix("]")).is_loopback
    except ValueError:
        # RFC 6761 reserves all names below localhost for loopback: a page can have none of them.
        return name == "localhost" or name.endswith(".localhost")


def _told(reason: str, advice: str) -> str:
    return f"photo-worker refuses this request: {reason}. {advice}."
