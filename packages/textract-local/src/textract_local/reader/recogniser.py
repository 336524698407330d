"""The engine's recognition model without its detector, to read a few places of a page again.

The engine reads what its detector found, and reports neither the places of letters nor how likely a blank was.
Its recognition model, run here on pieces of the page that the caller chooses, reports both. The model is the one
that the engine has loaded already; a second session of it takes some 60 MB and is made when first needed.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from textract_local.errors import EngineUnavailable
from textract_local.reader.memory_errors import memory_errors
from textract_local.reader.telemetry import disable_onnxruntime_telemetry

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

# The model's input: 48 pixels high, and as wide as the piece's aspect ratio gives (PP-OCR's own preparation).
_HEIGHT = 48
_NARROWEST, _WIDEST = 16, 3200

_MODEL = "ppocrv6_rec.onnx"


@dataclass(frozen=True)
class Glyph:
    """One character on a piece of the page; never a blank.

    ``confidence`` and ``blank_before`` are 0 to 1; the latter is the model's highest confidence in a blank between
    the previous character and this one. ``place`` is the character's centre in pixels of the piece.
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
    directory = ocrust.default_models_dir()  # type: ignore[attr-defined]
    if directory is None or not (directory / _MODEL).is_file():
        raise EngineUnavailable(engine="ocrust", reason=f"there is no {_MODEL} among its models")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    # Pieces differ in width: memory that is kept for one is of no use to the next.
    options.enable_cpu_mem_arena = False
    session = onnxruntime.InferenceSession(str(directory / _MODEL), options, providers=["CPUExecutionProvider"])
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
    """Take the likeliest character at each step, and a run of equal ones as one (greedy CTC)."""
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
