"""One row of the conformance suite."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.conformance.service import Service

REQUEST_INVALID = "Request has invalid parameters"
NO_OBJECT = "Unable to get object metadata from S3. Check object key, region and/or access permissions."
NO_FORMAT = "Request has unsupported document format"
NO_JOB = "Request has invalid Job Id"


class Basis(StrEnum):
    """The source of an expectation, with the letters of the emulator's table of errors."""

    DOCUMENTED = "D"
    OBSERVED = "O"
    CONVENTION = "C"
    UNKNOWN = "?"
    OWN = "E"
    """The emulator's control interface, which AWS does not have."""

    @property
    def certain(self) -> bool:
        """Whether the real service is known to behave like this."""
        return self in {Basis.DOCUMENTED, Basis.OBSERVED}


D, O, C, UNKNOWN, OWN = Basis.DOCUMENTED, Basis.OBSERVED, Basis.CONVENTION, Basis.UNKNOWN, Basis.OWN  # noqa: E741


@dataclass(frozen=True)
class Expectation:
    """One behaviour that a client can observe. ``check`` raises ``AssertionError`` if the service differs.

    ``emulator_only`` is the reason why it cannot be checked on AWS; empty if it can.
    """

    id: str
    basis: Basis
    sent: str
    expected: str
    check: Callable[[Service], None]
    emulator_only: str = ""

    @property
    def chapter(self) -> str:
        """The part of the id before the first dot."""
        return self.id.partition(".")[0]


def refusal(
    id: str,
    basis: Basis,
    operation: str,
    given: Mapping[str, Any] | Callable[[Service], Mapping[str, Any]],
    code: str,
    message: str = "",
    *,
    sent: str = "",
    emulator_only: str = "",
) -> Expectation:
    """Return the expectation that a request gets an error of status 400.

    The message is checked only if it is given, that is, if it was observed.
    """
    expected = f"400 `{code}`" + (f", `{message}`" if message else "")
    check = functools.partial(_refused, operation=operation, given=given, code=code, message=message)
    return Expectation(id, basis, sent or f"`{operation}` `{_short(given)}`", expected, check, emulator_only)


def _refused(
    service: Service,
    *,
    operation: str,
    given: Mapping[str, Any] | Callable[[Service], Mapping[str, Any]],
    code: str,
    message: str,
) -> None:
    response = service.send(operation, given(service) if callable(given) else given)
    assert (response.status, response.json.get("__type")) == (400, code), (response.status, response.body[:500])
    assert set(response.json) == {"__type", "Message"}
    assert response.json["Message"]
    if message:
        assert response.json["Message"] == message


def _short(given: object) -> str:
    text = str(given)
    return text if len(text) <= 90 else text[:87] + "..."
