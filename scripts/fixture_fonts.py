"""The type faces of the fixtures: their sources, and how to find their files.

They are not part of the repository. All are published under the SIL Open Font License 1.1,
which sets no condition on documents made with a font.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from PIL import ImageFont

from scripts.fixture_render import FontAt

LICENCE = "OFL-1.1"


@dataclass(frozen=True)
class Face:
    """One type face: its package's version and the sha256 of the files that are used.

    ``scale`` enlarges faces with small letters to the height of the others.
    """

    version: str
    regular: str
    bold: str | None
    scale: float = 1.0


FACES = {
    "caveat": Face(
        "5.3.0",
        "38b98dbeb922a14a74dfb41f83fc24e0e645e2eed9ce72145fefbdae8828cbfb",
        "c8d3c5458a52f12ad42b7b3f9a8cab1f1afda6062b12623e4bc8957f00ebec16",
        scale=1.35,
    ),
    "courier-prime": Face(
        "5.3.0",
        "eef1a8c90dd3e7c8ebcc79b6404e8b45fa7760b211d1e41af545f4f4076560d2",
        "d6ad67763840787d840fc035f814826739be14c024ad25a75446fc2459c559d5",
    ),
    "kalam": Face(
        "5.3.0",
        "70ab8c1d2c10a28f213c6f1c359888624d5e650ffcd64f93a8194c3e14403746",
        "c873bc1baaf504ff4ef11a733a0a857e2cf2fb1ad1be125b0f15ce2d57adefa0",
    ),
    "lato": Face(
        "5.3.0",
        "f55abc76e10cc86d799a7189e64e3c6e4cc6ced19b2474b1852a808be46232a8",
        "98149dd994189af57b3867d308874c7acb05edd3351663ccca860b87044479db",
    ),
    "lora": Face(
        "5.3.0",
        "5c813f4975bc7267f6b5a2086370e8651144b26b107a1d71c3f4ba287ad143f1",
        "543af1e069e40ba4f031fba3d12e5a3a75f7a0962698fbdda00e04d98fd722de",
    ),
    "open-sans": Face(
        "5.3.0",
        "8b3c81a3240d7c8cc9877cf5233d97051aa07730947217db840e500470a4d44a",
        "397ccaf840827f6c84ebadf664b6494338d4ea39440ab22811829868014c43f5",
    ),
    "patrick-hand": Face(
        "5.3.0",
        "0f7031f6665437e04d6f354c5f64d6ae6777b498afbe804638c45b957a7ce8aa",
        None,
        scale=1.15,
    ),
}


class FontsMissing(Exception):
    """A font file is missing or is of another release."""


class FontShelf:
    """Finds the font files below some directories, by name and content."""

    def __init__(self, directories: Iterable[Path]) -> None:
        self._directories = tuple(directories)
        self._files: dict[str, Path] = {}

    def face(self, name: str) -> FontAt:
        """Return a type face; raises ``FontsMissing``."""
        face = FACES[name]
        regular = self._file(name, 400, face.regular)
        bold = self._file(name, 700, face.bold) if face.bold else regular

        def at(size: int, heavy: bool) -> ImageFont.FreeTypeFont:
            # The basic layout is always built in, so that the glyphs are placed the same with and without Raqm.
            return ImageFont.truetype(
                bold if heavy else regular, round(size * face.scale), layout_engine=ImageFont.Layout.BASIC
            )

        return at

    def _file(self, name: str, weight: int, sha256: str) -> Path:
        if sha256 not in self._files:
            wanted = f"{name}-latin-{weight}-normal.woff"
            found = [path for directory in self._directories for path in sorted(directory.rglob(wanted))]
            for path in found:
                self._files[hashlib.sha256(path.read_bytes()).hexdigest()] = path
            if sha256 not in self._files:
                raise FontsMissing(_how_to_get(wanted, self._directories, other_release=bool(found)))
        return self._files[sha256]


def _how_to_get(wanted: str, directories: tuple[Path, ...], *, other_release: bool) -> str:
    where = ", ".join(map(str, directories)) or "no folder"
    problem = f"{wanted} is {'another release' if other_release else 'missing'} (looked in {where})"
    packages = " ".join(f"@fontsource/{name}@{face.version}" for name, face in FACES.items())
    return (
        f"{problem}.\nThe fonts come in npm packages. Install them anywhere and name the folder:\n"
        f"  npm install --no-save --prefix build/fonts {packages}\n"
        "  python -m scripts.make_fixtures --fonts build/fonts"
    )
