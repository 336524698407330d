"""How contracts become payloads: pydantic JSON, with a clear error where a payload breaks its contract."""

from __future__ import annotations

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

from photo_worker.errors import InvalidContract


class _ContractJsonConverter(PydanticJSONPlainPayloadConverter):
    def from_payload(self, payload: Payload, type_hint: type | None = None) -> Any:
        try:
            return super().from_payload(payload, type_hint)
        except ValidationError as error:
            # A plain exception here would fail the workflow task, which Temporal tries again for
            # ever; an ApplicationError ends the workflow with its reason. Values are left out.
            faults = "; ".join(
                f"{'.'.join(str(part) for part in fault['loc']) or 'value'}: {fault['msg']}"
                for fault in error.errors(include_url=False, include_input=False, include_context=False)
            )
            problem = InvalidContract(contract=getattr(type_hint, "__name__", str(type_hint)), reason=faults)
            raise ApplicationError(problem.message, problem.hint, type=problem.code, non_retryable=True) from None


class ContractPayloadConverter(CompositePayloadConverter):
    """Temporal's default converters with JSON done by pydantic."""

    def __init__(self) -> None:
        json_converter = _ContractJsonConverter()
        super().__init__(
            *(
                json_converter if isinstance(converter, JSONPlainPayloadConverter) else converter
                for converter in DefaultPayloadConverter.default_encoding_payload_converters
            )
        )


data_converter = DataConverter(payload_converter_class=ContractPayloadConverter)
