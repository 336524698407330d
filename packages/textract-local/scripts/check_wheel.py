"""Check a built wheel with an interpreter that has it installed: its contents, and that it is what is imported."""

from __future__ import annotations

import io
import subprocess
import sys
import zipfile
from email import message_from_bytes
from importlib.util import find_spec
from pathlib import Path, PurePosixPath

# What must not come with it.
FOREIGN = ("photo_worker", "temporalio", "psycopg", "sqlalchemy")


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


def server_problems() -> list[str]:
    """Serve, have boto3 read a picture of a word, and say what is wrong with the response."""
    import boto3
    from PIL import Image, ImageDraw, ImageFont

    image, picture = Image.new("RGB", (700, 200), "white"), io.BytesIO()
    ImageDraw.Draw(image).text((60, 60), "butter", fill="black", font=ImageFont.load_default(60))
    image.save(picture, "PNG")
    command = [str(Path(sys.executable).with_name("textract-local")), "serve", "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            said = (process.stderr or io.StringIO()).readline()
            if "AWS_ENDPOINT_URL_TEXTRACT=" not in said:
                return [f"textract-local serve says {said!r}"]
            client = boto3.client(
                "textract",
                endpoint_url=said.strip().rpartition("=")[2],
                region_name="us-east-1",
                aws_access_key_id="a",
                aws_secret_access_key="b",  # noqa: S106 - the server checks none
            )
            response = client.detect_document_text(Document={"Bytes": picture.getvalue()})
        finally:
            process.terminate()
    words = [block["Text"] for block in response["Blocks"] if block["BlockType"] == "WORD"]
    return [] if words == ["butter"] else [f"the server reads {words} where it says butter"]


def main() -> None:
    """Exit with 1 and the list of problems if there are any."""
    import textract_local

    found = problems(Path(sys.argv[1]), textract_local.__version__)
    where = Path(textract_local.__file__).resolve()
    if not where.is_relative_to(Path(sys.prefix).resolve()):
        found.append(f"textract_local was imported from {where}, not from the wheel")
    found += [f"it brings {name}" for name in FOREIGN if find_spec(name) is not None]
    found += server_problems()
    sys.exit("\n".join(found) if found else 0)


if __name__ == "__main__":
    main()
