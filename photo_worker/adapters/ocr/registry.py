"""OCR backends by name: those of this package, and those of installed packages by entry point.

A package adds a backend with an entry point of the group ``photo_worker.ocr_backends`` whose name
is the backend's and whose object is a function from ``BackendContext`` to an ``OcrBackend``. An entry point cannot
replace a backend of this package. A worker calls ``require_usable`` of its configured backend, if the backend has this
method, before it takes work.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from photo_worker.adapters.times import TextractTimes
from photo_worker.errors import ConfigurationError, EngineUnavailable, UnknownEngine
from photo_worker.policies import OCR
from photo_worker.ports.object_store import ObjectStore
from photo_worker.ports.ocr import AttemptNotes, OcrBackend

if TYPE_CHECKING:
    import boto3

ENTRY_POINT_GROUP = "photo_worker.ocr_backends"


@dataclass(frozen=True)
class BackendContext:
    """What a backend may be built from. ``max_parallel`` is how many threads will call it at once.

    ``wait`` sleeps for seconds in the middle of a call, and raises if the attempt must end. ``notes`` carry data from
    an attempt to the next one; None if the attempt is not known. ``session`` is the deployment's AWS session, None if
    there is none. ``variables`` are the deployment's, such as those of its ``.env`` file: a backend takes its settings
    from them and not from the process environment, which deployments may share. ``attempt_seconds`` returns the time of
    the attempt that calls the backend; ``textract_times`` limit its waits for Textract.
    """

    store: ObjectStore
    session: boto3.Session | None = None
    recorded_dir: Path | None = None
    max_parallel: int = 10
    textract_api: Literal["async", "sync"] = "async"
    wait: Callable[[float], None] = time.sleep
    notes: AttemptNotes | None = None
    attempt_seconds: Callable[[], float] = OCR.start_to_close_timeout.total_seconds
    textract_times: TextractTimes = field(default_factory=TextractTimes)
    variables: Mapping[str, str] = field(default_factory=dict, repr=False)


def make_backend(engine: str, context: BackendContext) -> OcrBackend:
    """Return the backend named ``engine``.

    Raises ``UnknownEngine``, ``EngineUnavailable`` or ``ConfigurationError``.
    """
    own = _own_backends()
    if engine in own:
        return own[engine](context)
    installed = {entry.name: entry for entry in entry_points(group=ENTRY_POINT_GROUP)}
    if engine in installed:
        return _load(installed[engine], context)
    raise UnknownEngine(engine=engine, known=", ".join(known_engines()))


def known_engines() -> list[str]:
    """Return the names of all available backends, sorted."""
    return sorted({*_own_backends(), *(entry.name for entry in entry_points(group=ENTRY_POINT_GROUP))})


def _own_backends() -> Mapping[str, Callable[[BackendContext], OcrBackend]]:
    return {"textract": _textract, "local": _local, "recorded": _recorded}


def _load(entry: EntryPoint, context: BackendContext) -> OcrBackend:
    try:
        factory: Callable[[BackendContext], OcrBackend] = entry.load()
    except (ImportError, AttributeError) as error:
        raise EngineUnavailable(engine=entry.name, reason=f"{entry.value}: {error}") from error
    return factory(context)


def _textract(context: BackendContext) -> OcrBackend:
    from photo_worker.adapters.ocr.textract import TextractBackend, make_client
    from photo_worker.adapters.ocr.textract_jobs import JobLimits

    if context.session is None:
        raise ConfigurationError(problems="the textract backend needs AWS settings")
    client = make_client(
        session=context.session,
        max_pool_connections=context.max_parallel,
        api=context.textract_api,
        times=context.textract_times,
    )
    limits = JobLimits(attempt_seconds=context.attempt_seconds)
    return TextractBackend(client, api=context.textract_api, notes=context.notes, wait=context.wait, limits=limits)


def _recorded(context: BackendContext) -> OcrBackend:
    from photo_worker.adapters.ocr.recorded import RecordedBackend

    if context.recorded_dir is None:
        raise ConfigurationError(problems="OCR_RECORDED_DIR is not set, and the recorded backend plays from it")
    return RecordedBackend(context.recorded_dir)


def _local(context: BackendContext) -> OcrBackend:
    from photo_worker.adapters.ocr.local import LocalBackend

    return LocalBackend(context.store, parallel=context.max_parallel, wait=context.wait)
