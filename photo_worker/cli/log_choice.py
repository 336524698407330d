"""The names of a stack's logs, as an argument of a command: read from the services only when one is given."""

from __future__ import annotations

import click


def log_names() -> tuple[str, ...]:
    """Return the names of all logs that a stack can have, in the order in which they are shown."""
    from photo_worker.devkit.service_registry import all_services

    services = dict.fromkeys(service.name for service in all_services("native"))
    return (*services, "supervisor", "worker")


class LogChoice(click.Choice[str]):
    """A choice of logs; `logs --help` does not import the services."""

    def __init__(self) -> None:
        super().__init__(())

    @property
    def choices(self) -> tuple[str, ...]:
        """The names that are accepted."""
        return log_names()

    @choices.setter
    def choices(self, _: object) -> None:
        """Ignore what the base class sets."""
