"""Usages as data: each is one use of the product from an upload on, with its start, commands and expected end.

Each runs once without faults and once for every fault at every port call. A new usage is one more entry.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from photo_worker.sources import Source
from tests.crash.simulation.commands import Console
from tests.crash.simulation.gate import Mode
from tests.crash.simulation.world import BUCKET
from tests.support.documents import card, encoded, pdf

ONE, TWO, THREE = (UUID(int=(number << 100) + number) for number in (1, 2, 3))

# A PNG of one pixel (W3C, PNG specification, 5 and 11): the product verifies signature and size.
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108000000003a7e9b55"
    "0000000a49444154789c6360000000020001e221bc330000000049454e44ae426082"
)


# Textract's error for an object that it may not read.
ACCESS = "Unable to get object metadata from S3. Check object key, region and/or access permissions."


@dataclass(frozen=True)
class End:
    """The outcome of a usage without injected faults.

    It is written down instead of taken from a run without faults, which the same product makes.
    """

    rows: Mapping[UUID, str]
    """How each job ends: "succeeded", or the code of its failure."""
    charges: int
    objects: int

    def differs_from(self, found: Mapping[str, Any]) -> str:
        """Return how an outcome differs from this one; empty if it does not."""
        rows = {name: row["error_code"] or row["status"] for name, row in found["rows"].items()}
        wanted = {str(job_id): end for job_id, end in self.rows.items()}
        parts = [
            f"rows {rows} instead of {wanted}" if rows != wanted else "",
            _instead("charges", sum(found["charges"].values()), self.charges),
            _instead("objects", len(found["objects"]), self.objects),
        ]
        return ", ".join(part for part in parts if part)


def _instead(name: str, found: int, wanted: int) -> str:
    return "" if found == wanted else f"{found} {name} instead of {wanted}"


@dataclass(frozen=True)
class Usage:
    """One sequence of commands. ``drive`` gives the commands and runs them to their end.

    ``ends`` judges an outcome if a fault may change it legitimately, such as which of two racing commands is first.
    Without it every outcome must be the fault-free one.
    """

    name: str
    about: str
    drive: Callable[[Console, Path], None]
    end: End
    accepted: tuple[UUID, ...] = ()
    erased: tuple[UUID, ...] = ()
    ends: Callable[[dict[str, Any]], bool] | None = None
    versions: bool = False
    """Whether the bucket has versioning."""
    outside: tuple[Mode, ...] = ()
    """Events outside of the deployment to inject at every call; other usages cover its processes and services."""


def photo(directory: Path, name: str = "photo", content: bytes | None = None) -> Source:
    """Return a file to submit."""
    path = directory / f"{name}.png"
    if not path.exists():
        path.write_bytes(PNG + name.encode() if content is None else content)
    return Source(label=name, path=path)


def _one(console: Console, directory: Path) -> None:
    console.submit(ONE, photo(directory))
    console.settle()


def _same_photo_twice(console: Console, directory: Path) -> None:
    console.submit(ONE, photo(directory))
    console.submit(TWO, photo(directory))
    console.settle()


def _same_id_twice(console: Console, directory: Path) -> None:
    console.submit(ONE, photo(directory))
    console.submit(ONE, photo(directory))
    console.settle()


def _no_photo(console: Console, directory: Path) -> None:
    console.submit(ONE, photo(directory, "text", b"no photo at all"))
    console.settle()


def phone_photo(directory: Path) -> Source:
    """Return a photo that has to be converted, as phones send them; a WebP, which tests can create."""
    path = directory / "phone.webp"
    if not path.exists():
        path.write_bytes(encoded(card(size=(16, 16)), "WEBP", lossless=True, method=0))
    return Source(label="phone", path=path)


def _phone(console: Console, directory: Path) -> None:
    console.submit(ONE, phone_photo(directory))
    console.settle()


def _phone_twice(console: Console, directory: Path) -> None:
    console.submit(ONE, phone_photo(directory))
    console.submit(TWO, phone_photo(directory))
    console.settle()


def _phone_erased(console: Console, directory: Path) -> None:
    _phone(console, directory)
    console.erase(ONE)
    console.settle()


def _phone_erased_in_verify(console: Console, directory: Path) -> None:
    console.submit(ONE, phone_photo(directory))
    _until(console, lambda: any(call.name == "temporal.complete_workflow_task" for call in console.world.gate.calls))
    _erase_and_check(console)


def _phone_erased_beside(console: Console, directory: Path) -> None:
    _phone(console, directory)
    console.submit(TWO, phone_photo(directory))
    console.erase(ONE)
    console.settle()


def _many_pages(console: Console, directory: Path) -> None:
    console.submit(ONE, photo(directory, "pages", pdf(3)))
    console.settle()


def _absent(console: Console, directory: Path) -> None:
    console.submit(ONE, Source(label="absent", bucket=BUCKET, key="theirs/absent.png"))
    console.settle()


def _theirs(console: Console, directory: Path) -> None:
    console.world.store.put(BUCKET, "theirs/photo.png", PNG, content_type="image/png")
    console.submit(ONE, Source(label="theirs", bucket=BUCKET, key="theirs/photo.png"))
    console.settle()


THEIRS = "theirs/photo.png"
FIRST, SECOND = PNG + b"first", PNG + b"second"


def _put(console: Console, body: bytes) -> None:
    console.world.owner.others = (FIRST, SECOND)
    console.world.owner.write(THEIRS, body)


def _replaced(console: Console, directory: Path) -> None:
    # The owner overwrites it with another photo while the job waits for Textract.
    _put(console, FIRST)
    console.submit(ONE, Source(label="theirs", bucket=BUCKET, key=THEIRS))
    _until(console, _reached(console, ONE, "ActivityTaskScheduled", 2))
    _put(console, SECOND)
    console.settle()


def _replaced_and_back(console: Console, directory: Path) -> None:
    # Textract reads the second photo under the first one's key; then the first is restored and submitted again.
    _put(console, FIRST)
    console.submit(ONE, Source(label="theirs", bucket=BUCKET, key=THEIRS))
    _until(console, _reached(console, ONE, "ActivityTaskScheduled", 2))
    _put(console, SECOND)
    _until(console, lambda: bool(console.world.textract.started))
    _put(console, FIRST)
    console.submit(TWO, Source(label="theirs", bucket=BUCKET, key=THEIRS))
    console.settle()


def _throttled(console: Console, directory: Path) -> None:
    console.world.textract.throttled = 3
    _one(console, directory)


def _failed_job(console: Console, directory: Path) -> None:
    console.world.textract.failures.append("Internal error")
    _one(console, directory)


def _failing(console: Console, directory: Path) -> None:
    console.world.textract.failures += ["Internal server error"] * 3
    _one(console, directory)


def _not_let_in(console: Console, directory: Path) -> None:
    # The missing permission of Textract is granted, and the photo submitted again while the failed job still exists.
    console.world.textract.failures.append(ACCESS)
    _one(console, directory)
    console.submit(TWO, photo(directory))
    console.settle()


def _refused(console: Console, directory: Path) -> None:
    console.world.textract.failures += ["The document has an unsupported format"] * 3
    _one(console, directory)


def _until(console: Console, happened: Callable[[], bool]) -> None:
    """Run steps until ``happened`` returns true or nothing is left to do."""
    while not happened():
        if not console.world.step() and not console.reinspect() and not console.world.resume():
            return


def _reached(console: Console, job_id: UUID, event: str, number: int) -> Callable[[], bool]:
    def happened() -> bool:
        execution = console.world.service.executions.get(str(job_id))
        return execution is not None and execution.events.count(event) >= number

    return happened


def _cancelled(console: Console, directory: Path) -> None:
    console.submit(ONE, photo(directory))
    _until(console, _reached(console, ONE, "ActivityTaskScheduled", 2))
    console.cancel(ONE)
    console.settle()


def _erased_at_the_end(console: Console, directory: Path) -> None:
    _one(console, directory)
    console.erase(ONE)
    console.settle()


def _erased_in_ocr(console: Console, directory: Path) -> None:
    console.submit(ONE, photo(directory))
    _until(console, _reached(console, ONE, "ActivityTaskScheduled", 2))
    _erase_and_check(console)


def _erase_and_check(console: Console) -> None:
    console.erase(ONE)
    console.settle()
    # A worker that dies right after storing a response, while its job is erased, does not delete it, and the activity
    # is not retried: the check deletes it.
    console.world.now += timedelta(hours=1)
    console.repair()
    console.settle()


def _erased_beside_another(console: Console, directory: Path) -> None:
    _one(console, directory)
    console.submit(TWO, photo(directory))
    console.erase(ONE)
    console.settle()


def _repaired(console: Console, directory: Path) -> None:
    # A submission whose process died after writing the row and was not repeated.
    source = photo(directory)
    command = console.submit(ONE, source)
    _until(console, lambda: console.world.rows.get(ONE) is not None)
    for strand in command.strands:
        strand.process.alive = False
    command.refused = "the process died"
    console.world.run()
    # Before that a submission may still be in progress.
    console.world.now += timedelta(hours=1)
    console.repair()
    console.settle()


def _succeeded_or(code: str) -> Callable[[dict[str, Any]], bool]:
    def right(found: dict[str, Any]) -> bool:
        row = found["rows"][str(ONE)]
        return bool(row["status"] == "succeeded" or row["error_code"] == code)

    return right


def all_succeeded(found: dict[str, Any]) -> bool:
    """Return whether every job has succeeded."""
    # The fault may decide which photo is read; every run checks that the text belongs to it (invariant 5).
    return all(row["status"] == "succeeded" for row in found["rows"].values())


def _gone(found: dict[str, Any]) -> bool:
    return not found["rows"] and not found["objects"] and not found["workflows"]


def _read_later(first: bytes, second: bytes, key: str, kind: str) -> Callable[[Console, Path], None]:
    """Return a drive in which three jobs read an owner's object in turn, the last one after it was overwritten."""

    def drive(console: Console, directory: Path) -> None:
        console.world.owner.others = (first, second)
        console.world.owner.write(key, first, kind)
        source = Source(label="theirs", bucket=BUCKET, key=key)
        console.submit(ONE, source)
        console.settle()
        console.submit(TWO, source)
        console.settle()
        console.world.owner.replace()
        console.submit(THREE, source)
        console.settle()

    return drive


def _webp(number: int) -> bytes:
    return encoded(card(str(number), size=(64, 64)), "WEBP", lossless=True, method=0)


_OK = "succeeded"
_REPLACED = (Mode.REPLACE, Mode.REPLACE_BACK)
_theirs_later = _read_later(FIRST, SECOND, THEIRS, "image/png")


USAGES: tuple[Usage, ...] = (
    Usage("photo", "A photo is submitted, verified, read and persisted.", _one, End({ONE: _OK}, 1, 3), (ONE,)),
    Usage(
        "same-photo-twice",
        "Two jobs with the same bytes.",
        _same_photo_twice,
        End({ONE: _OK, TWO: _OK}, 1, 5),
        (ONE, TWO),
    ),
    Usage("same-id-twice", "One job id, submitted twice at once.", _same_id_twice, End({ONE: _OK}, 1, 3), (ONE,)),
    Usage("no-photo", "What was submitted is no document.", _no_photo, End({ONE: "content_mismatch"}, 0, 1), (ONE,)),
    Usage("phone", "A photo that OCR cannot read is converted first.", _phone, End({ONE: _OK}, 1, 4), (ONE,)),
    Usage("phone-twice", "Two jobs share a converted copy.", _phone_twice, End({ONE: _OK, TWO: _OK}, 1, 6), (ONE, TWO)),
    Usage(
        "phone-erased",
        "A job whose photo was converted is erased.",
        _phone_erased,
        End({}, 1, 0),
        (),
        (ONE,),
        ends=_gone,
    ),
    Usage(
        "phone-erased-in-verify",
        "A job is erased while its photo is converted.",
        _phone_erased_in_verify,
        End({}, 0, 0),
        (),
        (ONE,),
        ends=_gone,
    ),
    Usage(
        "phone-erased-beside",
        "Of two jobs with one copy one is erased.",
        _phone_erased_beside,
        End({TWO: _OK}, 1, 4),
        (TWO,),
        (ONE,),
    ),
    Usage(
        "many-pages",
        "A PDF of several pages is refused before it is paid for.",
        _many_pages,
        End({ONE: "document_unsupported"}, 0, 1),
        (ONE,),
    ),
    Usage("absent", "The object does not exist.", _absent, End({ONE: "object_missing"}, 0, 0), (ONE,)),
    Usage("theirs", "The photo is an object of the user's.", _theirs, End({ONE: _OK}, 1, 3), (ONE,)),
    Usage(
        "theirs-later",
        "An object of the user's is read, read again, replaced and read once more.",
        _theirs_later,
        End({ONE: _OK, TWO: _OK, THREE: _OK}, 2, 7),
        (ONE, TWO, THREE),
        outside=_REPLACED,
    ),
    Usage(
        "theirs-later-with-versions",
        "The same in a bucket that keeps versions.",
        _theirs_later,
        End({ONE: _OK, TWO: _OK, THREE: _OK}, 2, 7),
        (ONE, TWO, THREE),
        versions=True,
        outside=_REPLACED,
    ),
    Usage(
        "their-phone-later",
        "The same with an object that has to be converted.",
        _read_later(_webp(1), _webp(2), "theirs/phone.webp", "image/webp"),
        End({ONE: _OK, TWO: _OK, THREE: _OK}, 2, 9),
        (ONE, TWO, THREE),
        outside=_REPLACED,
    ),
    Usage(
        "replaced",
        "The object is replaced while it is read.",
        _replaced,
        End({ONE: _OK}, 1, 3),
        (ONE,),
        ends=all_succeeded,
    ),
    Usage(
        "replaced-and-back",
        "The object is replaced while it is read, and then put back.",
        _replaced_and_back,
        End({ONE: _OK, TWO: _OK}, 2, 5),
        (ONE, TWO),
        ends=all_succeeded,
    ),
    Usage("throttled", "Textract asks to slow down.", _throttled, End({ONE: _OK}, 1, 3), (ONE,)),
    Usage(
        "failed-job",
        "Textract fails a job, which is not charged; the next one succeeds.",
        _failed_job,
        End({ONE: _OK}, 1, 3),
        (ONE,),
    ),
    Usage(
        "failing",
        "Textract fails three jobs of a photo one after the other.",
        _failing,
        End({ONE: _OK}, 1, 3),
        (ONE,),
    ),
    Usage(
        "not-let-in",
        "Textract may not read the photo for a while.",
        _not_let_in,
        End({ONE: _OK, TWO: _OK}, 1, 5),
        (ONE, TWO),
    ),
    Usage(
        "refused",
        "Textract fails the job over the document.",
        _refused,
        End({ONE: "document_unsupported"}, 0, 1),
        (ONE,),
    ),
    Usage(
        "cancelled",
        "A job is cancelled while Textract reads.",
        _cancelled,
        End({ONE: "job_cancelled"}, 1, 2),
        (ONE,),
        ends=_succeeded_or("job_cancelled"),
    ),
    Usage("erased", "A finished job is erased.", _erased_at_the_end, End({}, 1, 0), (), (ONE,), ends=_gone),
    Usage(
        "erased-in-ocr",
        "A job is erased while Textract reads.",
        _erased_in_ocr,
        End({}, 1, 0),
        (),
        (ONE,),
        ends=_gone,
    ),
    Usage(
        "erased-beside",
        "Of two jobs with one photo one is erased.",
        _erased_beside_another,
        End({TWO: _OK}, 1, 3),
        (TWO,),
        (ONE,),
    ),
    Usage(
        "repaired",
        "A check starts what a dead submission left behind.",
        _repaired,
        End({ONE: _OK}, 1, 3),
        (ONE,),
    ),
)


def named(name: str) -> Usage:
    """Return a usage. Raises ``KeyError``."""
    return {usage.name: usage for usage in USAGES}[name]


def names(usages: Iterable[Usage] = USAGES) -> list[str]:
    """Return the names, in order."""
    return [usage.name for usage in usages]
