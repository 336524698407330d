"""Which HTTP requests a local service accepts: those of programs, and none of a web page of another origin.

A page can send requests to loopback in four ways; headers that a page cannot choose reveal each of them:

- to another origin by a name of loopback, with ``Origin`` on all that is no plain GET or HEAD (Fetch Standard, "append
  a request Origin header"), and with ``Sec-Fetch-Site`` on everything (W3C Fetch Metadata: loopback is trustworthy);
- to another origin by any other name that points here. Browsers send ``Sec-Fetch-Site`` to no such name without TLS, so
  that a plain GET carries neither; by these names, every request that looks like a browser's is refused;
- to its own name, which its owner has made point to 127.0.0.1 in the meantime (DNS rebinding): same-origin to the
  browser, but ``Host`` still has that name;
- by a user: the browser treats a link in a mail, or a redirect from a typed address, as the user's own request
  (``Sec-Fetch-Site: none``). Such a request may open an object and must change nothing: SNS and SQS execute the
  ``Action`` of a query string, so that no request that looks like a browser's may have one.

Standard library alone and no import from the package: LocalStack's container runs this file as well.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import ip_address
from typing import NamedTuple
from urllib.parse import parse_qsl

_HOST = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,253})(?P<port>:[0-9]{1,5})?")
_BROWSER_MEDIA = ("text/html", "image/")
# The default Accept of Java's own client (HttpURLConnection) if a program, such as AWS' SDK, sets none.
_JAVAS_MEDIA = "text/html, image/gif, image/jpeg, *"
_SHOWN = 100


class _Seen(NamedTuple):
    """The headers of a request that identify its sender, each value once."""

    hosts: list[str]
    origins: list[str]
    sites: list[str]
    browsers: str | None
    """The name of the first header that only browsers send."""

    @classmethod
    def of(cls, headers: Iterable[tuple[bytes, bytes]]) -> _Seen:
        values: dict[bytes, list[str]] = {b"host": [], b"origin": [], b"sec-fetch-site": []}
        browsers: str | None = None
        for name, value in headers:
            if browsers is None and _is_browsers(name, value):
                browsers = name.decode("latin-1")
            if name in values:
                given = value.decode("latin-1").strip()
                if given not in values[name]:
                    values[name].append(given)
        sites = [site.lower() for site in values[b"sec-fetch-site"]]
        return cls(values[b"host"], values[b"origin"], sites, browsers)


class OriginRules:
    """The rules for one service; ``hosts`` are names besides those of loopback that programs may call it by.

    ``same_origin`` is for a service that has its own pages and whose GETs change nothing: its pages may call it, and
    users may open it, also by ``hosts``. In any other service, a page may be an object that is stored in it.
    ``program`` is what refuses, and ``remedy`` how to allow another name; both are for the messages.
    """

    def __init__(
        self,
        hosts: Iterable[str] = (),
        *,
        same_origin: bool = False,
        program: str = "textract-local",
        remedy: str = "allow the name with --allow-host",
    ) -> None:
        self._program, self._remedy = program, remedy
        self._hosts = frozenset(_name_of(host) for host in hosts)
        self._same_origin = same_origin
        # "none": a user has caused the request, and no page.
        self._sites = ("none", "same-origin") if same_origin else ("none",)

    def refusal(self, headers: Iterable[tuple[bytes, bytes]], query: bytes = b"") -> str | None:
        """Return why a request is refused and what to do instead; None if it is accepted.

        Header names are in lower case; ``query`` is the part of the URL after the question mark.
        """
        reason = self._refusal(headers, query)
        return None if reason is None else f"{self._program} refuses this request: {reason}"

    def _refusal(self, headers: Iterable[tuple[bytes, bytes]], query: bytes) -> str | None:
        seen = _Seen.of(headers)
        for name, values in (("Host", seen.hosts), ("Origin", seen.origins)):
            if len(values) > 1:
                return _told(f"it has two {name} headers", "Send one at most")
        for site in seen.sites:
            if site not in self._sites:
                reason = f"a web page sent it (Sec-Fetch-Site: {site[:_SHOWN]})"
                return _told(reason, "Call the service from a program, or open its address yourself")
        host = seen.hosts[0] if seen.hosts else ""
        if not self._is_known(host):
            shown = "is missing" if not host else f"{host[:_SHOWN]!r} is not a name of this machine"
            return _told(f"its Host {shown}", f"Use 127.0.0.1 or localhost, or {self._remedy}")
        for origin in seen.origins:
            if not (self._same_origin and origin.lower() == f"http://{host}".lower()):
                reason = f"a web page sent it (Origin: {origin[:_SHOWN]!r})"
                return _told(reason, "Call the service from a program, without an Origin header")
        return None if self._same_origin else _browsers_refusal(seen, host, query)

    def _is_known(self, host: str) -> bool:
        if not is_host(host):
            return False
        name = _name_of(host)
        return name in self._hosts or _is_loopback(name)


def split_hosts(text: str) -> tuple[str, ...]:
    """Return the names of a comma-separated list."""
    return tuple(name for name in (part.strip() for part in text.split(",")) if name)


def is_host(text: str) -> bool:
    """Return whether a request's Host can be this: a name or an address, perhaps with a port."""
    return _HOST.fullmatch(text) is not None


def _name_of(host: str) -> str:
    """Return a host's name in lower case without port and without the trailing dot of a full name."""
    match = _HOST.fullmatch(host)
    return (match["name"] if match is not None else host).lower().removesuffix(".")


def _is_browsers(name: bytes, value: bytes) -> bool:
    """Return whether only browsers send such a header."""
    if name == b"user-agent":
        return value.lstrip().lower().startswith(b"mozilla/")
    if name == b"accept":
        accepted = value.decode("latin-1").strip().lower()
        return not accepted.startswith(_JAVAS_MEDIA) and any(media in accepted for media in _BROWSER_MEDIA)
    return name == b"referer" or name.startswith(b"sec-")


def _browsers_refusal(seen: _Seen, host: str, query: bytes) -> str | None:
    """Return why a service without its own pages refuses a browser's request that no page seems to have sent."""
    if seen.browsers is not None and not _is_loopback(_name_of(host)):
        reason = f"a browser sent it ({seen.browsers}), and by the name {host[:_SHOWN]!r} only programs may"
        return _told(reason, "Use 127.0.0.1 or localhost in a browser, or leave this header out")
    # Sec-Fetch-Site alone is not enough: Safari before 16.4 does not send it, nor does any browser to "localhost.".
    if seen.browsers is not None and _acts(query):
        reason = f"a browser was led to it ({seen.browsers}), and it has an Action"
        return _told(reason, "Call the service from a program")
    return None


def _acts(query: bytes) -> bool:
    """Return whether a query string has an Action for SNS or SQS (AWS query protocol)."""
    return any(name.lower() == "action" for name, _ in parse_qsl(query.decode("latin-1"), keep_blank_values=True))


@lru_cache(maxsize=64)
def _is_loopback(name: str) -> bool:
    try:
        return ip_address(name.removeprefix("[").removesuffix("]")).is_loopback
    except ValueError:
        # RFC 6761 reserves all names below localhost for loopback: a page can have none of them.
        return name == "localhost" or name.endswith(".localhost")


def _told(reason: str, advice: str) -> str:
    return f"{reason}. {advice}."
