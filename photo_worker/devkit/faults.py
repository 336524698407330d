"""Fault injection in a local stack: Textract's fault script, and paused services.

This module stores nothing. The emulator holds the rules, and loses them when it ends; the stack knows
which services are paused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from photo_worker.devkit.errors import FaultNotSet, ServiceUnknown, StackNotRunning
from photo_worker.devkit.fault_rules import NoResponse, Refused, send_request

if TYPE_CHECKING:
    from photo_worker.devkit.stack import Stack
    from photo_worker.devkit.status import StackStatus

TEXTRACT = "textract"
PAUSED = "paused"


@dataclass(frozen=True)
class Fault:
    """One injected fault; ``rule`` is the emulator's rule, None for a pause."""

    service: str
    fault: str
    """``paused``, or the rule's kind."""
    since: str | None
    """ISO 8601 in UTC; None if it was not recorded."""
    rule: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class StackFaults:
    """All faults of a stack; ``seed`` is that of Textract's random draws, None if there is no rule."""

    faults: list[Fault] = field(default_factory=list)
    seed: int | None = None
    unknown: str | None = None
    """Why Textract's rules could not be read; None if they were."""


def pause(stack: Stack, service: str) -> None:
    """Pause a service; raises ``ServiceUnknown``, ``StackNotRunning`` and ``FaultNotSet``."""
    stack.pause(service)


def set_rule(stack: Stack, rule: Mapping[str, Any], *, seed: int | None = None) -> None:
    """Add a rule to the stack's Textract emulator; a ``seed`` applies to all of its rules.

    Raises ``FaultNotSet`` with the emulator's message if it refuses the rule, ``ServiceUnknown`` if
    Textract is external, and ``StackNotRunning``.
    """
    script = {"rules": [rule]} if seed is None else {"seed": seed, "rules": [rule]}
    try:
        _tell(stack, "PATCH", script)
    except FaultNotSet as error:
        # The caller gave one rule and knows of no list, so drop the list index from the message.
        reason = str(error.context["reason"]).removeprefix("rules[0]").lstrip(".: ")
        said = FaultNotSet(service=TEXTRACT, reason=reason)
        raise (said.from_option() if error.wrong_use else said) from error


def set_script(stack: Stack, script: object) -> None:
    """Replace all rules by a fault script, a JSON value; raises what ``set_rule`` raises."""
    _tell(stack, "PUT", script)


def clear(stack: Stack, service: str | None = None) -> StackFaults:
    """End the faults of one service, or all faults, and return those that were ended.

    A stack that does not run has none. Raises ``ServiceUnknown``, and ``FaultNotSet`` if Textract
    does not delete its rules.
    """
    if service is not None:
        _require(stack, service)
    # Resume first: a paused emulator does not respond.
    held = [Fault(name, PAUSED, since) for name, since in stack.paused().items() if service in {None, name}]
    for fault in held:
        stack.resume(fault.service)
    found = faults_of(stack)
    ended = [fault for fault in found.faults if fault.rule is not None and service in {None, fault.service}]
    if ended or (found.unknown and service == TEXTRACT):
        _tell(stack, "DELETE", None)
    return StackFaults([*held, *ended], found.seed if ended else None, found.unknown)


def faults_of(stack: Stack, status: StackStatus | None = None) -> StackFaults:
    """Return the current faults; none if the stack does not run. Waits 3 seconds if Textract does not respond.

    A recent ``status`` saves the requests whose results it contains.
    """
    states = {service.name: service.state for service in status.services} if status is not None else {}
    try:
        endpoint = stack.env()["AWS_ENDPOINT_URL_TEXTRACT"]
    except StackNotRunning:
        return StackFaults()
    held = stack.paused() if status is None or PAUSED in states.values() else {}
    textract_responds = status is None or states.get(TEXTRACT) == "running"
    paused = [Fault(name, PAUSED, since) for name, since in held.items()]
    if TEXTRACT not in stack.services:
        return StackFaults(paused)
    if TEXTRACT in held or not textract_responds:
        return StackFaults(paused, unknown="it is paused" if TEXTRACT in held else "it does not respond")
    try:
        script = send_request(endpoint, "GET")
        rules = [_fault_of(rule) for rule in script["rules"]]
    except NoResponse as error:
        return StackFaults(paused, unknown=str(error))
    return StackFaults([*paused, *rules], script["seed"] if rules else None)


def _fault_of(rule: Mapping[str, Any]) -> Fault:
    about = {name: value for name, value in rule.items() if name not in {"kind", "since"}}
    return Fault(TEXTRACT, rule["kind"], rule.get("since"), about)


def _require(stack: Stack, service: str) -> None:
    if service not in stack.services:
        raise ServiceUnknown(name=stack.name, service=service, known=", ".join(stack.services))


def _tell(stack: Stack, method: str, script: object) -> None:
    _require(stack, TEXTRACT)
    endpoint = stack.env()["AWS_ENDPOINT_URL_TEXTRACT"]
    if TEXTRACT in stack.paused():
        raise FaultNotSet(service=TEXTRACT, reason="it is paused; end that first with `photo-worker faults clear`")
    try:
        send_request(endpoint, method, script)
    except Refused as error:
        raise FaultNotSet(service=TEXTRACT, reason=str(error)).from_option() from error
    except NoResponse as error:
        raise FaultNotSet(service=TEXTRACT, reason=str(error)) from error
