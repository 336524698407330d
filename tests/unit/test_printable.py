"""File names of users reach a terminal as plain text, and long input is cut."""

from __future__ import annotations

import pytest

from photo_worker.cli.job_view import JobRow, print_rows
from photo_worker.cli.output import emit_error
from photo_worker.contracts.keys import parse_job_id, validate_key
from photo_worker.devkit.errors import InvalidStackName
from photo_worker.devkit.layout import check_name
from photo_worker.errors import (
    InvalidJobId,
    InvalidKey,
    PhotoWorkerError,
    SourceMissing,
    SourceUnreadable,
    UnreadableDocument,
)
from photo_worker.printable import cut, printable

NAME = "pie\x1b[2J\n\r\x9b31m\u202egnp.png"


def test_print_rows_escapes_file_name(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows([JobRow(NAME, error=SourceMissing(path="x", reason="a\x1b[1m reason"))])
    said = capsys.readouterr().out
    assert not set("\x1b\r\x9b\u202e") & set(said)
    row, about = (line for line in said.splitlines() if line.startswith("pie"))
    assert row.startswith("pie\\x1b[2J\\n\\r\\x9b31m\\u202egnp.png")
    assert "refused" in row
    assert "[source_missing]" in about


def test_emit_error_escapes_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    emit_error("submit", "text", SourceUnreadable(path=NAME, reason="\x1b[2Jgone"))
    assert "\x1b" not in capsys.readouterr().err


def test_printable_keeps_printable_text() -> None:
    assert printable("Käse & brûlée 写真.png") == "Käse & brûlée 写真.png"
    assert printable("a\nb\x07", keep="\n") == "a\nb\\x07"
    # A name that is not valid UTF-8, as Python represents it.
    assert printable("caf\udce9.png").encode() == b"caf\\udce9.png"


def test_error_message_has_one_full_stop() -> None:
    error = UnreadableDocument(name="pie.png", reason="File size too small.")
    assert error.message == "The document 'pie.png' is damaged or cut off: File size too small."
    assert error.context["reason"] == "File size too small."
    assert UnreadableDocument(name="a", reason="it ends in ...").message.endswith("it ends in ....")


def test_cut_shortens_long_input() -> None:
    assert cut("abc") == "abc"
    assert cut("x" * 100, 5) == "xxxxx... (100 characters)"


@pytest.mark.parametrize(
    ("kind", "call"),
    [
        (InvalidJobId, lambda: parse_job_id("x" * 20_000)),
        (InvalidKey, lambda: validate_key("x" * 20_000)),
        (InvalidStackName, lambda: check_name("x" * 300)),
    ],
)
def test_error_message_shortens_long_input(kind: type[PhotoWorkerError], call: object) -> None:
    assert callable(call)
    with pytest.raises(kind) as caught:
        call()
    assert len(caught.value.message) < 250
