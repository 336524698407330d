"""Decodes the payloads of recorded events if the worker's data converter has a codec (encryption, compression)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from google.protobuf.message import Message
from temporalio.api.common.v1 import Payload, Payloads, SearchAttributes
from temporalio.api.history.v1 import HistoryEvent
from temporalio.converter import DataConverter, PayloadCodec


async def decoded(converter: DataConverter, events: Sequence[HistoryEvent]) -> list[HistoryEvent]:
    """Return the events with payloads as the workflow's code sees them. Raises whatever the codec raises."""
    codec = converter.payload_codec
    if codec is None:
        return list(events)
    found = []
    for event in events:
        copy = HistoryEvent()
        copy.CopyFrom(event)
        await _decode(codec, copy)
        found.append(copy)
    return found


async def _decode(codec: PayloadCodec, message: Message) -> None:
    for part in list(_parts(message)):
        if isinstance(part, Payloads):
            payloads = await codec.decode(list(part.payloads))
            del part.payloads[:]
            part.payloads.extend(payloads)
        elif isinstance(part, Payload):
            part.CopyFrom((await codec.decode([part]))[0])


def _parts(message: Message) -> Iterator[Message]:
    # The server reads search attributes, so they are never encoded.
    if isinstance(message, SearchAttributes):
        return
    if isinstance(message, (Payload, Payloads)):
        yield message
        return
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        for inner in _values(value):
            if isinstance(inner, Message):
                yield from _parts(inner)


def _values(value: Any) -> Iterator[Any]:
    if isinstance(value, Message):
        yield value
    elif hasattr(value, "values"):
        yield from value.values()
    else:
        yield from value
