"""Converts contracts to payloads and back: pydantic JSON, with a clear error if a payload breaks its contract."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError
from temporalio.api.common.v1 import Payload
from temporalio.contrib.pydantic import PydanticJSONPlainPayloadConverter
from temporalio.converter import (
    CompositePayloadConverter,
    DataConverter,
    DefaultPayloadConverter,
    JSONPlainPayloadConverter,
)
from temporalio.exceptions import ApplicationError

from photo_worker.contracts.arguments import validation_problems
from photo_worker.errors import InvalidContract
from photo_worker.printable import cut

# Named in errors in place of a contract if the contract is not known yet.
_ENCODING = "its encoding"


def _broken(contract: str, reason: str) -> ApplicationError:
    # A plain exception here would fail the workflow task, which Temporal retries for ever; an ApplicationError ends the
    # workflow with its reason.
    problem = InvalidContract(contract=contract, reason=reason)
    return ApplicationError(problem.message, problem.hint, type=problem.code, non_retryable=True)


class _ContractJsonConverter(PydanticJSONPlainPayloadConverter):
    def from_payload(self, payload: Payload, type_hint: type | None = None) -> Any:
        contract = _ENCODING if type_hint is None else getattr(type_hint, "__name__", str(type_hint))
        try:
            return super().from_payload(payload, type_hint)
        except ValidationError as error:
            raise _broken(contract, validation_problems(error)) from None


class ContractPayloadConverter(CompositePayloadConverter):
    """Temporal's default converters with JSON done by pydantic."""

    def from_payloads(self, payloads: Sequence[Payload], type_hints: list[type] | None = None) -> list[Any]:
        """Decode payloads into values; raises a final ``ApplicationError`` if one does not match its encoding.

        Raises ``KeyError`` for an unknown encoding: another worker may have a codec for it.
        """
        if not all("encoding" in payload.metadata for payload in payloads):
            raise _broken(_ENCODING, "it names none")
        try:
            return super().from_payloads(payloads, type_hints)
        except (RuntimeError, UnicodeError) as error:
            raise _broken(_ENCODING, cut(str(error.__cause__ or error))) from None

    def __init__(self) -> None:
        json_converter = _ContractJsonConverter()
        super().__init__(
            *(
                json_converter if isinstance(converter, JSONPlainPayloadConverter) else converter
                for converter in DefaultPayloadConverter.default_encoding_payload_converters
            )
        )


data_converter = DataConverter(payload_converter_class=ContractPayloadConverter)
