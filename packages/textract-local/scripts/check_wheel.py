"""Check a built wheel with an interpreter that has it installed: its contents, and that it is what is imported."""

from __future__ import annotations

import sys
import zipfile
from email import message_from_bytes
from pathlib import Path, PurePosixPath


def problems(wheel: Path, version: str) -> list[str]:
    """Return what is wrong with the wheel's contents."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = next((name for name in names if name.endswith(".dist-info/METADATA")), None)
        released = message_from_bytes(archive.read(metadata))["Version"] if metadata else None
    found = [] if "textract_local/py.typed" in names else ["textract_local/py.typed is missing"]
    tops = {PurePosixPath(name).parts[0] for name in names}
    found += [f"{top} does not belong in it" for top in sorted(tops) if not top.startswith("textract_local")]
    if not any(name.endswith("licenses/LICENSE") for name in names):
        found.append("LICENSE is missing")
    if released != version:
        found.append(f"its version is {released}, the package says {version}")
    return found


def main() -> None:
    """Exit with 1 and the list of problems if there are any."""
    import textract_local

    found = problems(Path(sys.argv[1]), textract_local.__version__)
    where = Path(textract_local.__file__).resolve()
    if not where.is_relative_to(Path(sys.prefix).resolve()):
        found.append(f"textract_local was imported from {where}, not from the wheel")
    sys.exit("\n".join(found) if found else 0)


if __name__ == "__main__":
    main()
