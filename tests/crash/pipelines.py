"""Everything that the product does from an upload on, as data: what each pipeline begins with, and what it does.

Each is run once without faults and once for every fault at every port call. A new pipeline is one more entry.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from photo_worker.jobs import Source
from tests.crash.simulation.commands import Console
from tests.crash.simulation.world import BUCKET
from tests.support.documents import card, encoded, pdf

ONE, TWO = UUID(int=(1 << 100) + 1), UUID(int=(2 << 100) + 2)

# A PNG of one pixel (W3C, PNG specification, 5 and 11): what is verified is signature and size.
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108000000003a7e9b55"
    "0000000a49444154789c6360000000020001e221bc330000000049454e44ae426082"
)


# What Textract says of an object that it may not read.
ACCESS = "Unable to get object metadata from S3. Check object key, region and/or access permissions."


@dataclass(frozen=True)
class Pipeline:
    """One course of things. ``drive`` gives commands and lets them come to their end.

    ``ends`` tells whether an outcome is right where a fault may rightly change it: which of two that race is first.
    Without it every outcome must be the fault-free one.
    """

    name: str
    about: str
    drive: Callable[[Console, Path], None]
    accepted: tuple[UUID, ...] = ()
    erased: tuple[UUID, ...] = ()
    ends: Callable[[dict[str, Any]], bool] | None = None
    code: str | None = None
    """The error that its jobs end with where nothing goes wrong beside what it is about."""


def photo(folder: Path, name: str = "photo", content: bytes | None = None) -> Source:
    """Return a file to submit."""
    path = folder / f"{name}.png"
    if not path.exists():
        path.write_bytes(PNG + name.encode() if content is None else content)
    return Source(label=name, path=path)


def _one(console: Console, folder: Path) -> None:
    console.submit(ONE, photo(folder))
    console.settle()


def _same_photo_twice(console: Console, folder: Path) -> None:
    console.submit(ONE, photo(folder))
    console.submit(TWO, photo(folder))
    console.settle()


def _same_id_twice(console: Console, folder: Path) -> None:
    console.submit(ONE, photo(folder))
    console.submit(ONE, photo(folder))
    console.settle()


def _no_photo(console: Console, folder: Path) -> None:
    console.submit(ONE, photo(folder, "text", b"no photo at all"))
    console.settle()


def phone_photo(folder: Path) -> Source:
    """Return a photo that has to be converted, as phones send them; a WebP, which the tests can make themselves."""
    path = folder / "phone.webp"
    if not path.exists():
        path.write_bytes(encoded(card(size=(16, 16)), "WEBP", lossless=True, method=0))
    return Source(label="phone", path=path)


def _phone(console: Console, folder: Path) -> None:
    console.submit(ONE, phone_photo(folder))
    console.settle()


def _phone_twice(console: Console, folder: Path) -> None:
    console.submit(ONE, phone_photo(folder))
    console.submit(TWO, phone_photo(folder))
    console.settle()


def _phone_erased(console: Console, folder: Path) -> None:
    _phone(console, folder)
    console.erase(ONE)
    console.settle()


def _phone_erased_in_verify(console: Console, folder: Path) -> None:
    console.submit(ONE, phone_photo(folder))
    _until(console, lambda: any(call.name == "store.open" for call in console.world.gate.calls))
    _erase_and_check(console)


def _phone_erased_beside(console: Console, folder: Path) -> None:
    _phone(console, folder)
    console.submit(TWO, phone_photo(folder))
    console.erase(ONE)
    console.settle()


def _many_pages(console: Console, folder: Path) -> None:
    console.submit(ONE, photo(folder, "pages", pdf(3)))
    console.settle()


def _absent(console: Console, folder: Path) -> None:
    console.submit(ONE, Source(label="absent", bucket=BUCKET, key="theirs/absent.png"))
    console.settle()


def _theirs(console: Console, folder: Path) -> None:
    console.world.store.put(BUCKET, "theirs/photo.png", PNG, content_type="image/png")
    console.submit(ONE, Source(label="theirs", bucket=BUCKET, key="theirs/photo.png"))
    console.settle()


THEIRS = "theirs/photo.png"
FIRST, SECOND = PNG + b"first", PNG + b"second"


def _put(console: Console, body: bytes) -> None:
    console.world.replacements += any(console.world.store.list(BUCKET, THEIRS))
    console.world.store.put(BUCKET, THEIRS, body, content_type="image/png")


def _replaced(console: Console, folder: Path) -> None:
    # Its owner writes another photo over it while it waits for Textract.
    _put(console, FIRST)
    console.submit(ONE, Source(label="theirs", bucket=BUCKET, key=THEIRS))
    _until(console, _reached(console, ONE, "ActivityTaskScheduled", 2))
    console.world.now += timedelta(seconds=1)
    _put(console, SECOND)
    console.settle()


def _replaced_and_back(console: Console, folder: Path) -> None:
    # Textract reads the second photo under the first one's name; then the first is there again, and submitted again.
    _put(console, FIRST)
    console.submit(ONE, Source(label="theirs", bucket=BUCKET, key=THEIRS))
    _until(console, _reached(console, ONE, "ActivityTaskScheduled", 2))
    console.world.now += timedelta(seconds=1)
    _put(console, SECOND)
    _until(console, lambda: bool(console.world.textract.started))
    console.world.now += timedelta(seconds=1)
    _put(console, FIRST)
    console.submit(TWO, Source(label="theirs", bucket=BUCKET, key=THEIRS))
    console.settle()


def _throttled(console: Console, folder: Path) -> None:
    console.world.textract.throttled = 3
    _one(console, folder)


def _failed_job(console: Console, folder: Path) -> None:
    console.world.textract.failures.append("Internal error")
    _one(console, folder)


def _failing(console: Console, folder: Path) -> None:
    console.world.textract.failures += ["Internal server error"] * 3
    _one(console, folder)


def _not_let_in(console: Console, folder: Path) -> None:
    # The permission that Textract lacks is granted, and the photo submitted again: the failed job is still there.
    console.world.textract.failures.append(ACCESS)
    _one(console, folder)
    console.submit(TWO, photo(folder))
    console.settle()


def _refused(console: Console, folder: Path) -> None:
    console.world.textract.failures += ["The document has an unsupported format"] * 3
    _one(console, folder)


def _until(console: Console, happened: Callable[[], bool]) -> None:
    """Let things happen until something has, or nothing does any more."""
    while not happened():
        if not console.world.step() and not console.again() and not console.world.resume():
            return


def _reached(console: Console, job_id: UUID, event: str, number: int) -> Callable[[], bool]:
    def happened() -> bool:
        execution = console.world.service.executions.get(str(job_id))
        return execution is not None and execution.events.count(event) >= number

    return happened


def _cancelled(console: Console, folder: Path) -> None:
    console.submit(ONE, photo(folder))
    _until(console, _reached(console, ONE, "ActivityTaskScheduled", 2))
    console.cancel(ONE)
    console.settle()


def _erased_at_the_end(console: Console, folder: Path) -> None:
    _one(console, folder)
    console.erase(ONE)
    console.settle()


def _erased_in_ocr(console: Console, folder: Path) -> None:
    console.submit(ONE, photo(folder))
    _until(console, _reached(console, ONE, "ActivityTaskScheduled", 2))
    _erase_and_check(console)


def _erase_and_check(console: Console) -> None:
    console.erase(ONE)
    console.settle()
    # A worker that dies with an answer just stored, while its job is erased, takes it away no more, and nobody tries
    # the step again: that is left to the check.
    console.world.now += timedelta(hours=1)
    console.repair()
    console.settle()


def _erased_beside_another(console: Console, folder: Path) -> None:
    _one(console, folder)
    console.submit(TWO, photo(folder))
    console.erase(ONE)
    console.settle()


def _repaired(console: Console, folder: Path) -> None:
    # A submission whose process died behind the row, and that nobody gave again.
    source = photo(folder)
    command = console.submit(ONE, source)
    _until(console, lambda: console.world.rows.get(ONE) is not None)
    for strand in command.strands:
        strand.process.alive = False
    command.refused = "nobody came back"
    console.world.run()
    # Until then a submission may still be on its way.
    console.world.now += timedelta(hours=1)
    console.repair()
    console.settle()


def _succeeded_or(code: str) -> Callable[[dict[str, Any]], bool]:
    def right(found: dict[str, Any]) -> bool:
        row = found["rows"][str(ONE)]
        return bool(row["status"] == "succeeded" or row["error_code"] == code)

    return right


def _all_succeeded(found: dict[str, Any]) -> bool:
    # Which photo it is, the fault may decide; that the text is its own, every run is asked (invariant 5).
    return all(row["status"] == "succeeded" for row in found["rows"].values())


def _gone(found: dict[str, Any]) -> bool:
    return not found["rows"] and not found["objects"] and not found["workflows"]


PIPELINES: tuple[Pipeline, ...] = (
    Pipeline("photo", "A photo is submitted, verified, read and persisted.", _one, (ONE,)),
    Pipeline("same-photo-twice", "Two jobs with the same bytes.", _same_photo_twice, (ONE, TWO)),
    Pipeline("same-id-twice", "One job id, submitted twice at once.", _same_id_twice, (ONE,)),
    Pipeline("no-photo", "What was submitted is no document.", _no_photo, (ONE,), code="content_mismatch"),
    Pipeline("phone", "A photo that OCR cannot read is converted first.", _phone, (ONE,)),
    Pipeline("phone-twice", "Two jobs share a converted copy.", _phone_twice, (ONE, TWO)),
    Pipeline("phone-erased", "A job whose photo was converted is erased.", _phone_erased, (), (ONE,), ends=_gone),
    Pipeline(
        "phone-erased-in-verify",
        "A job is erased while its photo is converted.",
        _phone_erased_in_verify,
        (),
        (ONE,),
        ends=_gone,
    ),
    Pipeline("phone-erased-beside", "Of two jobs with one copy one is erased.", _phone_erased_beside, (TWO,), (ONE,)),
    Pipeline(
        "many-pages",
        "A PDF of several pages is refused before it is paid for.",
        _many_pages,
        (ONE,),
        code="document_unsupported",
    ),
    Pipeline("absent", "The object does not exist.", _absent, (ONE,), code="object_missing"),
    Pipeline("theirs", "The photo is somebody's own object.", _theirs, (ONE,)),
    Pipeline("replaced", "The object is replaced while it is read.", _replaced, (ONE,), ends=_all_succeeded),
    Pipeline(
        "replaced-and-back",
        "The object is replaced while it is read, and then put back.",
        _replaced_and_back,
        (ONE, TWO),
        ends=_all_succeeded,
    ),
    Pipeline("throttled", "Textract asks to slow down.", _throttled, (ONE,)),
    Pipeline("failed-job", "Textract fails a job, which is not charged; the next one succeeds.", _failed_job, (ONE,)),
    Pipeline("failing", "Textract fails three jobs of a photo one after the other.", _failing, (ONE,)),
    Pipeline("not-let-in", "Textract may not read the photo for a while.", _not_let_in, (ONE, TWO)),
    Pipeline("refused", "Textract fails the job over the document.", _refused, (ONE,), code="document_unsupported"),
    Pipeline(
        "cancelled",
        "A job is cancelled while Textract reads.",
        _cancelled,
        (ONE,),
        ends=_succeeded_or("job_cancelled"),
        code="job_cancelled",
    ),
    Pipeline("erased", "A finished job is erased.", _erased_at_the_end, (), (ONE,), ends=_gone),
    Pipeline("erased-in-ocr", "A job is erased while Textract reads.", _erased_in_ocr, (), (ONE,), ends=_gone),
    Pipeline("erased-beside", "Of two jobs with one photo one is erased.", _erased_beside_another, (TWO,), (ONE,)),
    Pipeline("repaired", "A check starts what a dead submission left behind.", _repaired, (ONE,)),
)


def named(name: str) -> Pipeline:
    """Return a pipeline. Raises ``KeyError``."""
    return {pipeline.name: pipeline for pipeline in PIPELINES}[name]


def names(pipelines: Iterable[Pipeline] = PIPELINES) -> list[str]:
    """Return the names, in order."""
    return [pipeline.name for pipeline in pipelines]
