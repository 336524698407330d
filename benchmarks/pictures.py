"""Draw the words that OCR missed and invented on the page: one HTML file that includes the pictures.

The two texts are next to each page.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import ImageDraw

from benchmarks.documents import TruthDocument, truth_documents
from benchmarks.scoring import Word, lines_of, unpaired, words_of
from textract_local import load_image

if TYPE_CHECKING:
    from PIL import Image

# Wide enough to read small print in the picture, small enough to open at once.
_WIDTH = 1600

MISSED, INVENTED, EXPECTED, FOUND = "#d00000", "#0040ff", "#c8e6c9", "#cfd8dc"

_STYLE = (
    "body{font:16px sans-serif;margin:1rem}section{display:flex;gap:1rem;align-items:flex-start;flex-wrap:wrap}"
    "img{max-width:70vw;border:1px solid #999}pre{white-space:pre-wrap;max-width:40rem}"
)


def draw(names: Sequence[str], read: Callable[[bytes], Mapping[str, Any]], path: Path) -> None:
    """Write the page of the named documents of the truth set to ``path``."""
    documents = {document.name: document for document in truth_documents()}
    parts = [_section(documents[name], read(documents[name].content)) for name in names]
    path.parent.mkdir(parents=True, exist_ok=True)
    page = (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>Missed and invented words</title><style>{_STYLE}"
        f"</style><h1>Missed and invented words</h1><p>Frames: <b style='color:{MISSED}'>missed</b>,"
        f" <b style='color:{INVENTED}'>invented</b>; pale where both readings have the word.</p>{''.join(parts)}</html>"
    )
    path.write_text(page, "utf-8")


def _section(document: TruthDocument, response: Mapping[str, Any]) -> str:
    expected, found = words_of(document.response), words_of(response)
    missed, invented = unpaired(expected, found)
    image = load_image(document.content, document.name).convert("RGB")
    image.thumbnail((_WIDTH, 10 * _WIDTH))
    for words, colour, width in (
        (expected, EXPECTED, 1),
        (found, FOUND, 1),
        (missed, MISSED, 3),
        (invented, INVENTED, 2),
    ):
        _frame(image, words, colour, width)
    file = io.BytesIO()
    image.save(file, "PNG")
    picture = base64.b64encode(file.getvalue()).decode()
    texts = {
        "Missed": " ".join(word.text for word in missed),
        "Invented": " ".join(word.text for word in invented),
        "Textract's lines": "\n".join(lines_of(document.response)),
        "Lines read": "\n".join(lines_of(response)),
    }
    beside = "".join(f"<h3>{title}</h3><pre>{html.escape(text)}</pre>" for title, text in texts.items())
    name = html.escape(document.name)
    return (
        f"<h2>{name}</h2><section><img alt='{name}' src='data:image/png;base64,{picture}'><div>{beside}</div></section>"
    )


def _frame(image: Image.Image, words: Sequence[Word], colour: str, width: int) -> None:
    pen = ImageDraw.Draw(image)
    for word in words:
        left, top, wide, high = word.box
        corners = (left * image.width, top * image.height, (left + wide) * image.width, (top + high) * image.height)
        pen.rectangle(corners, outline=colour, width=width)
