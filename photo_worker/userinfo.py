"""Removes user names and passwords from URLs, which no message may show."""

from __future__ import annotations

import re

# RFC 3986, 3.2.1. If a password contains an @, the last @ ends it, as in Python's urlsplit.
_USERINFO = re.compile(r"""(?<=://)[^\s/"'<>]*@""")


def without_userinfo(text: str) -> str:
    """Return the text without the user name and password of any URL in it."""
    return _USERINFO.sub("", text)
