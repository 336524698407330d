"""Validates the arguments of a workflow: Temporal's UI and CLI can start one with any arguments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from photo_worker.errors import InvalidContract

_Model = TypeVar("_Model", bound=BaseModel)


def only_argument(given: Sequence[object], contract: type[_Model]) -> _Model:
    """Return the only argument of a call, validated as ``contract``.

    Raises ``InvalidContract`` if there is not exactly one argument, or if it does not fit the contract.
    """
    if len(given) != 1:
        raise InvalidContract(contract=contract.__name__, reason=f"there are {len(given)} arguments instead of one")
    (fields,) = given
    if not isinstance(fields, dict):
        raise InvalidContract(contract=contract.__name__, reason="the argument is no JSON object")
    try:
        return contract.model_validate(fields)
    except ValidationError as error:
        raise InvalidContract(contract=contract.__name__, reason=validation_problems(error)) from None


def validation_problems(error: ValidationError) -> str:
    """Return a validation error's faults field by field, without the values."""
    return "; ".join(
        f"{'.'.join(str(part) for part in fault['loc']) or 'value'}: {fault['msg']}"
        for fault in error.errors(include_url=False, include_input=False, include_context=False)
    )
