"""The engine's own recogniser without its detector, for a second look at a few places of a page.

The engine reads what its detector saw, and tells neither where a letter stands nor whether it nearly saw a blank.
Its recognition model, run here on pieces of the page that somebody else chose, tells both. The model is the one
that the engine has loaded already; a second session of it takes some 60 MB and is made when first needed.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from photo_worker.errors import EngineUnavailable
from photo_worker.ocr.no_memory import memory_errors
from photo_worker.ocr.telemetry import disable_onnxruntime_telemetry

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

# What the model takes: 48 pixels high, as many wide as the piece's shape asks for (PP-OCR's own preparation).
_HEIGHT = 48
_NARROWEST, _WIDEST = 16, 3200

_MODEL = "ppocrv6_rec.onnx"


@dataclass(frozen=True)
class Glyph:
    """One character that stands on a piece of the page; never a blank.

    ``confidence`` and ``blank_before`` are 0 to 1; the latter is how sure the model was, anywhere between this
    character and the one before, to see a blank. ``place`` is the character's centre in pixels of the piece.
    """

    text: str
    confidence: float
    blank_before: float
    place: float


class Recogniser(Protocol):
    """Reads one line of text in an upright piece of a page. Safe to call from several threads."""

    def read(self, piece: Image.Image) -> tuple[Glyph, ...]:
        """Return the characters from left to right."""


class LineRecogniser:
    """``Recogniser`` over the recognition model of ocrust's wheel, loaded at its first use."""

    def __init__(self, threads: int | None = None) -> None:
        """``threads`` is how many threads one reading uses; None leaves it to the runtime."""
        self._threads = threads
        self._lock = threading.Lock()
        self._loaded: tuple[Any, tuple[str, ...]] | None = None

    def warm(self) -> None:
        """Load the model. Raises ``EngineUnavailable``."""
        self._session()

    def read(self, piece: Image.Image) -> tuple[Glyph, ...]:
        """Return the characters of an RGB image of one line. Raises ``EngineUnavailable`` and ``MemoryError``."""
        import numpy as np

        session, characters = self._session()
        with memory_errors():
            (seen,) = session.run(None, {"x": _prepared(piece)})
        return _decoded(np.asarray(seen[0]), characters, piece.width)

    def _session(self) -> tuple[Any, tuple[str, ...]]:
        with self._lock:
            if self._loaded is None:
                self._loaded = _load(self._threads)
            return self._loaded


def _load(threads: int | None) -> tuple[Any, tuple[str, ...]]:
    disable_onnxruntime_telemetry()
    try:
        import ocrust
        import onnxruntime
    except ImportError as error:
        raise EngineUnavailable(engine="ocrust", reason=str(error)) from error
    folder = ocrust.default_models_dir()  # type: ignore[attr-defined]
    if folder is None or not (folder / _MODEL).is_file():
        raise EngineUnavailable(engine="ocrust", reason=f"there is no {_MODEL} among its models")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    # Pieces have all widths: memory that is kept for one is of no use to the next.
    options.enable_cpu_mem_arena = False
    session = onnxruntime.InferenceSession(str(folder / _MODEL), options, providers=["CPUExecutionProvider"])
    listed = session.get_modelmeta().custom_metadata_map["character"].split("\n")
    # Of the model's outputs, the first is "nothing new" (CTC) and the last the blank between words.
    return session, ("", *listed, " ")


def _prepared(piece: Image.Image) -> NDArray[np.float32]:
    import numpy as np
    from PIL import Image as Pillow

    width = min(max(round(piece.width * _HEIGHT / piece.height), _NARROWEST), _WIDEST)
    pixels = np.asarray(piece.convert("RGB").resize((width, _HEIGHT), Pillow.Resampling.BICUBIC), dtype=np.float32)
    # Blue, green, red; from -1 to 1; channels first.
    return np.ascontiguousarray((pixels[:, :, ::-1] / 127.5 - 1).transpose(2, 0, 1)[None])


def _decoded(seen: NDArray[np.float32], characters: tuple[str, ...], width: int) -> tuple[Glyph, ...]:
    """Take the likeliest character at each step, each run of one as one character (greedy CTC)."""
    best, step = seen.argmax(axis=1), width / len(seen)
    glyphs: list[Glyph] = []
    since, before = 0, -1
    for index, code in enumerate(int(each) for each in best):
        if code not in (0, before) and characters[code].strip():
            blank = float(seen[since : index + 1, -1].max()) if glyphs else 0.0
            glyphs.append(Glyph(characters[code], float(seen[index, code]), blank, (index + 0.5) * step))
            since = index
        before = code
    return tuple(glyphs)
