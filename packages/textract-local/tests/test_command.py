"""The command ``textract-local``: what it prints and how it ends."""

from __future__ import annotations

import argparse
import io
import json
import shlex
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image, ImageDraw, ImageFont

from textract_local import DocumentLimits, DocumentReader, EngineReading, __version__
from textract_local.cli import main
from textract_local.reader.ocrust_engine import OcrustEngine
from textract_local.reader.sources import standard_input


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    image = Image.new("RGB", (700, 200), "white")
    ImageDraw.Draw(image).text((60, 60), "butter", fill="black", font=ImageFont.load_default(60))
    path = tmp_path / "photo.png"
    image.save(path)
    return path


@pytest.mark.single_python
def test_command_read_prints_response_as_json(photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["read", str(photo), "--feature", "layout"]) == 0
    response = json.loads(capsys.readouterr().out)
    assert response["DocumentMetadata"] == {"Pages": 1}
    assert "butter" in [block.get("Text") for block in response["Blocks"]]
    assert "AnalyzeDocumentModelVersion" in response


def test_command_read_standard_input_is_refused_if_empty(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO()))
    assert main(["read", "-"]) == 1
    assert capsys.readouterr().err.startswith("error [document_unreadable]: The document 'document' is damaged")


def test_command_read_closed_standard_input_exits_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    assert main(["read", "-"]) == 2
    assert "'-' cannot be read: standard input is closed" in capsys.readouterr().err


def test_standard_input_is_read_within_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    given = io.BytesIO(bytes(5000))
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=given))
    assert (len(standard_input(1000)), given.tell()) == (1001, 1001)


@pytest.mark.single_python
@pytest.mark.parametrize("how", ["link", "/dev/stdin of a pipe", "/dev/stdin of a file", "<(...)"])
def test_command_read_link_and_pipe_as_file(photo: Path, how: str) -> None:
    link = photo.with_name("link.png")
    link.symlink_to(photo)
    read = shlex.join([sys.executable, "-m", "textract_local.cli", "read"])
    command = {
        "link": f"{read} {link}",
        "/dev/stdin of a pipe": f"cat {photo} | {read} /dev/stdin",
        "/dev/stdin of a file": f"{read} /dev/stdin < {photo}",
        "<(...)": f"{read} <(cat {photo})",
    }[how]
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "butter" in [block.get("Text") for block in json.loads(done.stdout)["Blocks"]]


@pytest.mark.single_python
@pytest.mark.parametrize(("end", "code"), [("| head -c 1 >/dev/null", 1), ("| true", 1), (">&-", 0)])
def test_command_read_closed_output_ends_quietly(tmp_path: Path, end: str, code: int) -> None:
    page = Image.new("RGB", (200, 100), "white")
    # More output than a pipe holds.
    page.save(tmp_path / "book.tif", save_all=True, append_images=[page] * 120)
    read = shlex.join([sys.executable, "-m", "textract_local.cli", "read", str(tmp_path / "book.tif")])
    command = f"{read} {end}; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (code, "")


def test_command_read_missing_file_exits_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["read", str(tmp_path / "gone.png")]) == 2
    said = capsys.readouterr()
    assert (said.out, said.err.splitlines()[-1]) == ("", "hint: Check the path, and that you may read the file.")


@pytest.mark.single_python
@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(28, "No space left on device"), "No space left on device"),
        (PermissionError(), "PermissionError"),
        (PermissionError(13, "Permission denied", "/models/words"), "/models/words: Permission denied"),
    ],
)
def test_command_read_system_error_of_engine_does_not_blame_file(
    photo: Path, error: OSError, reason: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(engine: OcrustEngine, image: Image.Image) -> EngineReading:
        raise error

    monkeypatch.setattr(OcrustEngine, "read", fail)
    assert main(["read", str(photo)]) == 1
    said = capsys.readouterr()
    message, hint = said.err.splitlines()
    assert (said.out, message) == (
        "",
        f"error [engine_failed]: The OCR engine 'ocrust' failed on the document {str(photo)!r}: {reason}.",
    )
    assert hint.startswith("hint: The system refused the engine something; the document is not the cause.")


def test_command_read_unreadable_file_is_named(
    photo: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An error of the document's own file has no name if reading fails after opening it."""

    def fail(reader: DocumentReader, source: Path, name: str, limits: DocumentLimits) -> int:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(DocumentReader, "pages", fail)
    assert main(["read", str(photo)]) == 2
    message = capsys.readouterr().err.splitlines()[0]
    assert message == f"error [document_missing]: The file {str(photo)!r} cannot be read: Input/output error."


def test_command_serve_taken_port_exits_1(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        command = [sys.executable, "-m", "textract_local.cli", "serve", "--port", port, "--data", str(tmp_path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"error [address_unusable]: The Textract emulator cannot listen on 127.0.0.1:{port}" in done.stderr


@pytest.mark.parametrize("host", ["", "nohost.invalid"])
def test_command_serve_wrong_host_is_refused_with_its_option(tmp_path: Path, host: str) -> None:
    command = [sys.executable, "-m", "textract_local.cli", "serve", "--port", "0", "--data", str(tmp_path)]
    # Without the refusal the server runs until the time is over.
    done = subprocess.run([*command, "--host", host], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, "listening" in done.stderr, "Traceback" in done.stderr) == (2, False, False)
    assert f"error [address_unusable]: The Textract emulator cannot listen on {host or repr(host)}:0: " in done.stderr
    assert "hint: Name an address of this machine with --host, such as 127.0.0.1" in done.stderr


@pytest.mark.parametrize("arguments", [[], ["serve", "--port", "65536"], ["read"], ["read", "x", "--feature", "y"]])
def test_command_wrong_usage_exits_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["serve", "--port", "x"], "argument --port: 'x' is not a whole number"),
        (["serve", "--processes", "1.5"], "argument --processes: '1.5' is not a whole number"),
        (["serve", "--port", "65536"], "argument --port: 65536 is not from 0 to 65535"),
        (["serve", "--allow-host", "http://x/"], "argument --allow-host: 'http://x/' is not the name of a host"),
        (["serve", "--allow-host", ""], "argument --allow-host: '' is not the name of a host"),
        (["read", "x", "--query", ""], "argument --query: the question is empty"),
    ],
)
def test_command_wrong_value_is_named(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    shown = capsys.readouterr().err
    assert (ended.value.code, said in shown, " _" in shown) == (2, True, False)


@pytest.mark.parametrize("host", ["textract", "textract.test:8765", "192.0.2.7", "[::1]:80"])
def test_command_allowed_host_reaches_server(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[argparse.Namespace] = []

    def serve(options: argparse.Namespace) -> int:
        given.append(options)
        return 0

    monkeypatch.setattr("textract_local.cli.serve", serve)
    assert main(["serve", "--allow-host", host]) == 0
    assert given[0].allow_host == [host]


def test_command_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert (ended.value.code, capsys.readouterr().out) == (0, f"textract-local {__version__}\n")
