"""A workflow whose payloads pass a codec that makes them unreadable, as encryption does."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from temporalio import workflow
from temporalio.api.common.v1 import Payload
from temporalio.converter import DataConverter, PayloadCodec

_MASK = 0x55


def _masked(content: bytes) -> bytes:
    return bytes(byte ^ _MASK for byte in content)


class Sealed(PayloadCodec):
    """Masks every byte."""

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Return masked payloads."""
        return [
            Payload(metadata={"encoding": b"binary/sealed"}, data=_masked(payload.SerializeToString()))
            for payload in payloads
        ]

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Return the payloads as they were."""
        return [Payload.FromString(_masked(payload.data)) for payload in payloads]


data_converter = dataclasses.replace(DataConverter.default, payload_codec=Sealed())


@workflow.defn(name="planted_letter")
class Letter:
    """Returns a reply to a letter."""

    @workflow.run
    async def run(self, text: str) -> str:
        """Return the reply."""
        return f"re: {text}"


@workflow.defn(name="planted_letter")
class OtherLetter:
    """Returns another reply."""

    @workflow.run
    async def run(self, text: str) -> str:
        """Return another reply."""
        return f"about: {text}"
