"""How long to wait after a throttled call."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

# Without Retry-After, the wait is random: callers that were throttled together must not retry together.
_WITHOUT_WORD_SECONDS = (5.0, 15.0)

# A longer Retry-After is cut to this: a job should not wait an hour because of one response's header.
LONGEST_SECONDS = 300.0


def throttle_wait(response: Mapping[str, Any]) -> float:
    """Return the seconds to wait after a throttled call, from the Retry-After of botocore's ``response``.

    Retry-After is a number of seconds or a date (RFC 9110, 10.2.3). AWS sends numbers; a date counts as no header.
    """
    headers = response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    try:
        asked = float(headers.get("retry-after", ""))
    except ValueError:
        return random.uniform(*_WITHOUT_WORD_SECONDS)  # noqa: S311
    return min(max(asked, 1.0), LONGEST_SECONDS)
