"""The root of the errors, its four branches, and what an error code says about who has to act."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import ClassVar, Literal, Self, TypeVar

from photo_worker.printable import without_full_stops

_T = TypeVar("_T")

Fault = Literal["job", "service", "worker", "defect"]


class PhotoWorkerError(Exception):
    """Something went wrong in photo-worker."""

    code: ClassVar[str] = "error"
    retryable: ClassVar[bool] = False
    fault: ClassVar[Fault] = "defect"
    hint: ClassVar[str] = "Run the command again with --debug to see the details."

    in_histories: ClassVar[bool] = False
    """Whether workflow code raises it: histories then contain the message, which must not change by a full stop."""

    wrong_use: bool = False
    """Whether an option or an argument of the command is wrong: the command then exits with 2, otherwise with 1."""

    retry_after_seconds: float | None = None
    """Seconds to wait before the next attempt: the service's Retry-After, or a minimum; None for the usual backoff."""

    @property
    def passes(self) -> bool:
        """Tell whether jobs wait for the error to pass: a service or a worker is at fault, not the job."""
        return self.fault in {"service", "worker"}

    def __init__(self, **context: object) -> None:
        self.context = context
        template = inspect.cleandoc(type(self).__doc__ or self.code).replace("\n", " ")
        self.message = template.format(**(context if self.in_histories else without_full_stops(template, context)))
        super().__init__(self.message)

    def from_option(self) -> Self:
        """Mark the error as caused by an option or an argument, and return it; it may have other causes elsewhere."""
        self.wrong_use = True
        return self

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.context)


def _rebuild(kind: type[PhotoWorkerError], context: dict[str, object]) -> PhotoWorkerError:
    return kind(**context)


class InputError(PhotoWorkerError):
    """The input cannot be processed."""

    code = "input_invalid"
    fault: ClassVar[Fault] = "job"
    hint = "Correct the input and submit it as a new job."


class DependencyError(PhotoWorkerError):
    """Something that the worker needs does not respond."""

    code = "dependency_unavailable"
    retryable = True
    fault: ClassVar[Fault] = "service"
    hint = "Look at `photo-worker status`; the job goes on by itself when the service is back."


class ConfigurationError(PhotoWorkerError):
    """The settings are not valid: {problems}."""

    code = "config_invalid"
    fault = "worker"
    hint = "Correct the variable in the environment or in the .env file that the message names."


def fault_of(code: str) -> Fault:
    """Return the fault that belongs to an error code; an unknown code counts as a defect."""
    return next((kind.fault for kind in class_tree(PhotoWorkerError) if kind.code == code), "defect")


# The code of a workflow that an operator terminated; it has no error class.
TERMINATED = "terminated"


def ends_job(code: str) -> bool:
    """Tell whether a failure with this code is final: the job or an operator is its cause, so it is not restarted."""
    return code == TERMINATED or fault_of(code) == "job"


def class_tree(kind: type[_T]) -> Iterator[type[_T]]:
    """Yield the class and all its subclasses that are imported."""
    yield kind
    for child in kind.__subclasses__():
        yield from class_tree(child)
