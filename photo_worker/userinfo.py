"""User names and passwords inside of addresses, which no message may show."""

from __future__ import annotations

import re

# RFC 3986, 3.2.1. A password that has an @ of its own ends at the last one, as it does for Python's urlsplit.
_USERINFO = re.compile(r"""(?<=://)[^\s/"'<>]*@""")


def without_userinfo(text: str) -> str:
    """Return a text without the user name and password of any address in it."""
    return _USERINFO.sub("", text)
