"""Reads the JSON value of a payload."""

from __future__ import annotations

import base64
import json
from typing import Any

from temporalio.api.common.v1 import Payload


def payload_value(payload: Payload) -> Any:
    """Return a payload's JSON value, or a dict of its encoding and base64 data if it is not JSON."""
    encoding = payload.metadata.get("encoding", b"").decode("ascii", "replace")
    if encoding.startswith("json/"):
        try:
            return json.loads(payload.data)
        except ValueError:
            pass
    if encoding == "binary/null":
        return None
    return {"encoding": encoding, "data": base64.b64encode(payload.data).decode("ascii")}
