"""What goes wrong in a local stack because somebody asked for it: Textract's fault script, and paused services.

Nothing is kept here. Which rules are set is asked of the emulator, which forgets them when it ends, and
what is paused is asked of the stack.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from photo_worker.devkit.fault_rules import NoAnswer, Refused, ask
from photo_worker.stack_errors import FaultNotSet, ServiceUnknown, StackNotRunning

if TYPE_CHECKING:
    from photo_worker.devkit.local_stack import LocalStack
    from photo_worker.devkit.status import StackStatus

TEXTRACT = "textract"
PAUSED = "paused"


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong; ``rule`` is the emulator's, None for a pause."""

    service: str
    fault: str
    """``paused``, or the rule's kind."""
    since: str | None
    """ISO 8601 in UTC; None where nobody noted it."""
    rule: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class StackFaults:
    """All that goes wrong in a stack; ``seed`` is what draws Textract's, None where there is no rule."""

    faults: list[Fault] = field(default_factory=list)
    seed: int | None = None
    unknown: str | None = None
    """Why it is not known which rules Textract has; None where they are known."""


def pause(stack: LocalStack, service: str) -> None:
    """Pause a service; raises ``ServiceUnknown``, ``StackNotRunning`` and ``FaultNotSet``."""
    stack.pause(service)


def set_rule(stack: LocalStack, rule: Mapping[str, Any], *, seed: int | None = None) -> None:
    """Add a rule to those that the stack's Textract emulator follows; a ``seed`` counts for all of them.

    Raises ``FaultNotSet`` with the emulator's own words where it refuses the rule, ``ServiceUnknown`` where
    Textract is somebody else's, and ``StackNotRunning``.
    """
    script = {"rules": [rule]} if seed is None else {"seed": seed, "rules": [rule]}
    try:
        _tell(stack, "PATCH", script)
    except FaultNotSet as error:
        # There is one rule, and whoever gave it knows of no list.
        reason = str(error.context["reason"]).removeprefix("rules[0]").lstrip(".: ")
        said = FaultNotSet(service=TEXTRACT, reason=reason)
        raise (said.from_option() if error.wrong_use else said) from error


def set_script(stack: LocalStack, script: object) -> None:
    """Put a whole fault script, a JSON value, in the place of the rules there are; raises what ``set_rule`` does."""
    _tell(stack, "PUT", script)


def clear(stack: LocalStack, service: str | None = None) -> StackFaults:
    """End the faults of a service, or all of them, and return what there was to end.

    A stack that does not run has none. Raises ``ServiceUnknown``, and ``FaultNotSet`` where Textract
    cannot be asked to forget its rules.
    """
    if service is not None:
        _require(stack, service)
    # Resumed first: what is paused does not answer.
    held = [Fault(name, PAUSED, since) for name, since in stack.paused().items() if service in {None, name}]
    for fault in held:
        stack.resume(fault.service)
    found = faults_of(stack)
    ended = [fault for fault in found.faults if fault.rule is not None and service in {None, fault.service}]
    if ended or (found.unknown and service == TEXTRACT):
        _tell(stack, "DELETE", None)
    return StackFaults([*held, *ended], found.seed if ended else None, found.unknown)


def faults_of(stack: LocalStack, status: StackStatus | None = None) -> StackFaults:
    """Return what is set now; nothing where the stack does not run. Waits 3 seconds for a Textract that is silent.

    With the ``status`` of a moment ago, nobody is asked what that tells.
    """
    states = {service.name: service.state for service in status.services} if status is not None else {}
    try:
        endpoint = stack.env()["AWS_ENDPOINT_URL_TEXTRACT"]
    except StackNotRunning:
        return StackFaults()
    held = stack.paused() if status is None or PAUSED in states.values() else {}
    textract_answers = status is None or states.get(TEXTRACT) == "running"
    paused = [Fault(name, PAUSED, since) for name, since in held.items()]
    if TEXTRACT not in stack.services:
        return StackFaults(paused)
    if TEXTRACT in held or not textract_answers:
        return StackFaults(paused, unknown="it is paused" if TEXTRACT in held else "it does not answer")
    try:
        script = ask(endpoint, "GET")
        rules = [_fault_of(rule) for rule in script["rules"]]
    except NoAnswer as error:
        return StackFaults(paused, unknown=str(error))
    return StackFaults([*paused, *rules], script["seed"] if rules else None)


def _fault_of(rule: Mapping[str, Any]) -> Fault:
    about = {name: value for name, value in rule.items() if name not in {"kind", "since"}}
    return Fault(TEXTRACT, rule["kind"], rule.get("since"), about)


def _require(stack: LocalStack, service: str) -> None:
    if service not in stack.services:
        raise ServiceUnknown(name=stack.name, service=service, known=", ".join(stack.services))


def _tell(stack: LocalStack, method: str, script: object) -> None:
    _require(stack, TEXTRACT)
    endpoint = stack.env()["AWS_ENDPOINT_URL_TEXTRACT"]
    if TEXTRACT in stack.paused():
        raise FaultNotSet(service=TEXTRACT, reason="it is paused; end that first with `photo-worker faults clear`")
    try:
        ask(endpoint, method, script)
    except Refused as error:
        raise FaultNotSet(service=TEXTRACT, reason=str(error)).from_option() from error
    except NoAnswer as error:
        raise FaultNotSet(service=TEXTRACT, reason=str(error)) from error
