"""What the supervisor is told to run: plain data that crosses a pipe as one line of JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Preparation:
    """A command that fills a directory once, before the service's first start.

    It fills ``into``, which becomes ``creates`` when the command has succeeded, so a preparation
    that was interrupted leaves nothing that looks finished. ``secret`` is deleted afterwards.
    """

    argv: list[str]
    into: str
    creates: str
    secret: str


@dataclass(frozen=True)
class ServicePlan:
    """One service's process."""

    name: str
    argv: list[str]
    env: dict[str, str]
    cwd: str
    log: str
    stop_signal: int
    stop_stage: int
    """Services of a lower stage end before those of a higher one are asked to."""
    user: tuple[int, int] | None = None
    """User and group id to run as; None for the supervisor's own."""
    prepare: Preparation | None = None
    discard: str | None = None
    """The directory that is emptied, with the service stopped, where the supervisor is asked to renew it."""


@dataclass(frozen=True)
class StackPlan:
    """All services of a start, and the files that the supervisor keeps."""

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
