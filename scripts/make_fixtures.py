"""Make ``fixtures/``: photos with known text, their index, and recorded OCR results.

    python -m scripts.make_fixtures --fonts build/fonts            draw all photos and the index
    python -m scripts.make_fixtures --fonts build/fonts --check    draw, compare, write nothing
    python -m scripts.make_fixtures --record                       read photos that have no recording
    python -m scripts.make_fixtures --record --force               read every photo again

Tests identify the photos by their sha256, and another Pillow release may encode the same pixels to
other bytes. So the photos are stored, and drawn again only to change them.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from scripts.fixture_card import Card
from scripts.fixture_cards import CARDS
from scripts.fixture_fonts import FACES, LICENCE, FontShelf, FontsMissing
from scripts.fixture_render import Photo, render

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures"
CONTENT_TYPES = {"jpg": "image/jpeg", "png": "image/png", "tif": "image/tiff", "pdf": "application/pdf"}
# Tests pass the directory of the fonts in this variable, so that no run has to name it.
FONTS_VARIABLE = "PHOTO_WORKER_FONTS"

Reader = Callable[[bytes], Mapping[str, Any]]
"""A document's bytes in, a DetectDocumentText response out."""


def font_directories(named: list[Path]) -> list[Path]:
    """Return the directories to search for fonts: the named ones, else the variable's."""
    return named or [Path(part) for part in os.environ.get(FONTS_VARIABLE, "").split(os.pathsep) if part]


def draw(shelf: FontShelf) -> Iterator[tuple[Card, Photo]]:
    """Draw every card; raises ``FontsMissing``."""
    for card in CARDS:
        yield card, render(card, shelf.face(card.font))


def entry(card: Card, photo: Photo) -> dict[str, Any]:
    """Describe one fixture as it stands in the index.

    ``width`` and ``height`` are those of the photo as a viewer shows it, ``rotation`` is how far
    its text is turned clockwise from upright there, in degrees.
    """
    return {
        "name": card.name,
        "file": f"photos/{card.name}.{card.suffix}",
        "sha256": hashlib.sha256(photo.content).hexdigest(),
        "size_bytes": len(photo.content),
        "content_type": CONTENT_TYPES[card.suffix],
        "width": photo.pixels.width,
        "height": photo.pixels.height,
        "rotation": card.camera.turn,
        "exif_orientation": card.camera.exif_orientation,
        "tags": list(card.tags),
        "font": f"@fontsource/{card.font}@{FACES[card.font].version} ({LICENCE})",
        "expected": {
            "status": "succeeded",
            "page_count": 1,
            "min_word_recall": card.min_word_recall,
            "unread": list(card.unread),
        },
        "lines": list(photo.lines),
        "words": [word for line in photo.lines for word in line.split()],
    }


def read_index(directory: Path = FIXTURES) -> dict[str, Any]:
    """Return the stored index."""
    index: dict[str, Any] = json.loads((directory / "index.json").read_text("utf-8"))
    return index


def write_photos(directory: Path, shelf: FontShelf) -> None:
    """Draw all photos into the directory and write their index."""
    (directory / "photos").mkdir(parents=True, exist_ok=True)
    entries = []
    for card, photo in draw(shelf):
        entries.append(entry(card, photo))
        (directory / entries[-1]["file"]).write_bytes(photo.content)
    if (directory / "index.json").exists():
        # Remove only files that an earlier index names.
        for stale in {each["file"] for each in read_index(directory)["fixtures"]} - {each["file"] for each in entries}:
            (directory / stale).unlink(missing_ok=True)
    index = {"drawn_with": {"pillow": version("pillow"), "numpy": version("numpy")}, "fixtures": entries}
    (directory / "index.json").write_text(json.dumps(index, ensure_ascii=False, indent=1) + "\n", "utf-8")


def check_photos(directory: Path, shelf: FontShelf) -> list[str]:
    """Return the files that a new drawing would change, without writing."""
    stored = {each["name"]: each for each in read_index(directory)["fixtures"]}
    fresh = {card.name: entry(card, photo) for card, photo in draw(shelf)}
    return sorted(name for name in stored.keys() | fresh.keys() if stored.get(name) != fresh.get(name))


def recording_path(directory: Path, sha256: str) -> Path:
    """Return the path of a document's recorded OCR result."""
    return directory / "recorded" / f"{sha256}.json"


def dump_recording(response: Mapping[str, Any]) -> str:
    """Return a response as one line of JSON, with its keys in their order."""
    return json.dumps(response, ensure_ascii=False, separators=(",", ":")) + "\n"


def record(directory: Path, load: Callable[[], Reader], *, force: bool) -> list[str]:
    """Read photos and store the results; return the photos' names.

    Photos that have a recording are left alone unless forced, and recordings whose photo is gone are
    removed. ``load`` makes the reader and is only called if there is something to read.
    """
    fixtures = read_index(directory)["fixtures"]
    recorded = directory / "recorded"
    recorded.mkdir(exist_ok=True)
    known = {recording_path(directory, each["sha256"]) for each in fixtures}
    for stale in set(recorded.glob(f"{'[0-9a-f]' * 64}.json")) - known:
        stale.unlink()
    waiting = [each for each in fixtures if force or not recording_path(directory, each["sha256"]).exists()]
    if waiting:
        read = load()
        for each in waiting:
            response = read((directory / each["file"]).read_bytes())
            recording_path(directory, each["sha256"]).write_text(dump_recording(response), "utf-8")
    return [each["name"] for each in waiting]


def load_reader() -> Reader:
    """Return the product's OCR; imported here, as drawing does not need it."""
    from textract_local import read

    return read


def main(arguments: list[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Make the recipe photos and their recorded OCR results.")
    parser.add_argument(
        "--fonts", type=Path, action="append", default=[], help=f"folder of fonts (or {FONTS_VARIABLE})"
    )
    parser.add_argument("--out", type=Path, default=FIXTURES, help="folder to write to")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--record", action="store_true", help="record OCR results instead of drawing")
    mode.add_argument("--check", action="store_true", help="draw, compare with what is stored, write nothing")
    parser.add_argument("--force", action="store_true", help="with --record: also photos that have a recording")
    options = parser.parse_args(arguments)
    if options.force and not options.record:
        parser.error("--force goes with --record")
    try:
        if options.record:
            names = record(options.out, load_reader, force=options.force)
            print("\n".join(f"recorded: {name}" for name in names) or "every photo has a recording")
        elif options.check:
            changed = check_photos(options.out, FontShelf(font_directories(options.fonts)))
            print("\n".join(f"differs: {name}" for name in changed) or "all photos are as stored")
            return int(bool(changed))
        else:
            write_photos(options.out, FontShelf(font_directories(options.fonts)))
    except FontsMissing as problem:
        print(problem, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
