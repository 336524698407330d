"""How long to wait where a service asks to slow down."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

# Without the service's own word: callers that were refused together must not come back together.
_WITHOUT_WORD_SECONDS = (5.0, 15.0)

# What a service asks for beyond this is asked again: a job should not wait an hour for one answer's header.
LONGEST_SECONDS = 300.0


def throttle_wait(response: Mapping[str, Any]) -> float:
    """Return the seconds to wait after a throttled call, from the Retry-After of botocore's ``response``.

    Retry-After is a number of seconds, or a date (RFC 9110, 10.2.3); AWS sends numbers, and a date counts as no word.
    """
    headers = response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    try:
        asked = float(headers.get("retry-after", ""))
    except ValueError:
        return random.uniform(*_WITHOUT_WORD_SECONDS)  # noqa: S311
    return min(max(asked, 1.0), LONGEST_SECONDS)
