"""The words of a project that scrubbing keeps: codes, statuses, fixed parts of messages; no content of any document."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

__all__ = [
    "SHA256",
    "TEMPORALS_WORDS",
    "UUID",
    "Vocabulary",
]

# What the server and the SDK write themselves: the reasons of timeouts and cancellations.
TEMPORALS_WORDS = frozenset(
    {"activity StartToClose timeout", "activity Heartbeat timeout", "Workflow cancelled", "Cancelled"}
)

UUID = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
SHA256 = r"[0-9a-f]{64}"


@dataclass(frozen=True)
class Vocabulary:
    """What stays as it is in a scrubbed history, beside ids, types, times and numbers.

    ``words`` are whole strings; ``fields`` are names of fields whose values are words; ``forms`` are patterns of whole
    strings, such as a UUID. ``messages`` are patterns of whole messages with a group for each part that was filled in,
    which is scrubbed by itself; ``failure_types`` are the types of failures that have such messages.
    """

    words: frozenset[str] = TEMPORALS_WORDS
    fields: frozenset[str] = frozenset({"status"})
    forms: tuple[re.Pattern[str], ...] = field(default_factory=lambda: (re.compile(UUID), re.compile(SHA256)))
    messages: tuple[re.Pattern[str], ...] = ()
    failure_types: frozenset[str] = frozenset()

    def keeps(self, text: str) -> bool:
        """Tell whether the whole text stays as it is."""
        return text in self.words or any(form.fullmatch(text) for form in self.forms)
