"""Check a built wheel with an interpreter that has it installed: its contents, and that it is what is imported."""

from __future__ import annotations

import sys
import zipfile
from contextlib import chdir
from email import message_from_bytes
from importlib import import_module
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

NEEDED = (
    "photo_worker/py.typed",
    "photo_worker/devkit/requirements-seaweedfs.txt",
    "photo_worker/adapters/postgres/migrations/env.py",
    "photo_worker/adapters/postgres/migrations/schema.sql",
)
# What `demo` processes outside of a checkout, and its limit of size.
PHOTOS = "photo_worker/devkit/photos/"
MOST_PHOTO_BYTES = 1_200_000
# The worker's own modules: they must be importable with requirements.txt alone, without any extra.
WORKER = ("photo_worker.cli", "photo_worker.config", "photo_worker.bootstrap", "photo_worker.worker")


def problems(wheel: Path, version: str) -> list[str]:
    """Return what is wrong with the wheel's contents."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        photos = {entry.filename: entry.compress_size for entry in archive.infolist() if PHOTOS in entry.filename}
        metadata = next((name for name in names if name.endswith(".dist-info/METADATA")), None)
        released = message_from_bytes(archive.read(metadata))["Version"] if metadata else None
    found = [f"{name} is missing" for name in NEEDED if name not in names]
    found += _photo_problems(photos)
    tops = {PurePosixPath(name).parts[0] for name in names}
    found += [f"{top} does not belong in it" for top in sorted(tops) if not top.startswith("photo_worker")]
    if not any(name.endswith("licenses/LICENSE") for name in names):
        found.append("LICENSE is missing")
    if released != version:
        found.append(f"its version is {released}, the package says {version}")
    return found


def _photo_problems(photos: dict[str, int]) -> list[str]:
    if not photos:
        return [f"{PHOTOS} is missing: demo has nothing to process"]
    size = sum(photos.values())
    return [f"{PHOTOS} has {size} bytes; a wheel has room for {MOST_PHOTO_BYTES}"] if size > MOST_PHOTO_BYTES else []


def demo_problems() -> list[str]:
    """Say what `demo` lacks in a directory that is no checkout's."""
    from photo_worker.cli.demo import fixture_directory
    from photo_worker.errors import PhotoWorkerError
    from photo_worker.sources import expand_sources

    try:
        with TemporaryDirectory() as elsewhere, chdir(elsewhere):
            sources = expand_sources([str(fixture_directory())]).sources
    except PhotoWorkerError as error:
        return [f"demo: {error.message}"]
    return [] if len(sources) > 1 else ["demo has no photos"]


def main() -> None:
    """Exit with 1 and the list of problems if there are any."""
    import photo_worker

    found = problems(Path(sys.argv[1]), photo_worker.__version__)
    where = Path(photo_worker.__file__).resolve()
    if not where.is_relative_to(Path(sys.prefix).resolve()):
        found.append(f"photo_worker was imported from {where}, not from the wheel")
    for name in WORKER:
        try:
            import_module(name)
        except ImportError as error:
            found.append(f"{name} does not load with the worker's requirements: {error}")
    found += demo_problems()
    sys.exit("\n".join(found) if found else 0)


if __name__ == "__main__":
    main()
