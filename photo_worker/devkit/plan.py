"""The plan that the supervisor runs: plain data, sent through a pipe as one line of JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Preparation:
    """A command that fills a directory once, before the service's first start.

    It fills ``into``, which is renamed to ``creates`` when the command has succeeded, so an interrupted
    preparation leaves nothing that looks finished. The file ``secret`` is deleted afterwards.
    """

    argv: list[str]
    into: str
    creates: str
    secret: str


@dataclass(frozen=True)
class ServicePlan:
    """How to run one service's process."""

    name: str
    argv: list[str]
    env: dict[str, str]
    cwd: str
    log: str
    stop_signal: int
    stop_stage: int
    """Services of a lower stage have ended before those of a higher stage are stopped."""
    user: tuple[int, int] | None = None
    """User and group id to run as; None for the supervisor's own."""
    prepare: Preparation | None = None
    discard: str | None = None
    """The directory to empty, with the service stopped, when the supervisor renews the service."""


@dataclass(frozen=True)
class StackPlan:
    """All services of a start, and the paths of the files that the supervisor holds and writes."""

    token: str
    lock: str
    processes: str
    services: list[ServicePlan]

    @classmethod
    def of(cls, values: dict[str, Any]) -> StackPlan:
        """Rebuild the plan from its JSON value."""
        services = []
        for entry in values["services"]:
            prepare = entry.pop("prepare")
            user = entry.pop("user")
            services.append(
                ServicePlan(
                    **entry,
                    user=None if user is None else (user[0], user[1]),
                    prepare=None if prepare is None else Preparation(**prepare),
                )
            )
        return cls(values["token"], values["lock"], values["processes"], services)
