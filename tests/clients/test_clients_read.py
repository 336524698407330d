"""Synchronous calls through each client: it returns the contents of the page in its own form."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.clients.conftest import Clients
from tests.clients.documents import FORM, TABLE, form_page, table_page

Store = Callable[[str, bytes], dict[str, str]]
ROWS = [list(row) for row in TABLE]
FIELDS = {label.rstrip(":"): value for label, value in FORM.items()}


@pytest.fixture
def form(tmp_path: Path) -> Path:
    file = tmp_path / "form.png"
    file.write_bytes(form_page())
    return file


@pytest.fixture
def table(tmp_path: Path) -> Path:
    file = tmp_path / "table.png"
    file.write_bytes(table_page())
    return file


def without_gaps(lines: list[str]) -> str:
    """Return the text of lines, regardless of the gaps between them."""
    return " ".join(lines)


def fields_read(fields: dict[str, str]) -> dict[str, str]:
    return {key.strip().rstrip(":").strip(): value.strip() for key, value in fields.items()}


def holds_the_form(lines: list[str]) -> bool:
    return all(label in without_gaps(lines) and value in without_gaps(lines) for label, value in FORM.items())


@pytest.mark.parametrize("program", ["with_boto3.py", "with_node.cjs"])
def test_sdk_read_of_bytes_and_object_is_alike(clients: Clients, form: Path, stored: Store, program: str) -> None:
    seen = clients.ask(program, "read", file=str(form), **stored("a form+1.png", form.read_bytes()))
    assert holds_the_form(seen["lines"])
    assert seen["alike"]
    assert seen["pages"] == 1
    assert len(set(seen["requests"])) == 2
    assert seen.get("numbers", True)
    assert seen.get("content_type", "application/x-amz-json-1.1") == "application/x-amz-json-1.1"


def test_awscli_read_of_object(clients: Clients, form: Path, stored: Store) -> None:
    where = stored("form.png", form.read_bytes())
    document = json.dumps({"S3Object": {"Bucket": where["bucket"], "Name": where["key"]}})
    done = clients.run("aws", "textract", "detect-document-text", "--document", document, "--output", "json")
    assert done.returncode == 0, done.stderr
    response = json.loads(done.stdout)
    assert response["DocumentMetadata"] == {"Pages": 1}
    assert holds_the_form([block["Text"] for block in response["Blocks"] if block["BlockType"] == "LINE"])
    query = "Blocks[?BlockType=='WORD'].Text"
    words = clients.run(
        "aws", "textract", "detect-document-text", "--document", document, "--query", query, "--output", "text"
    )
    assert set(without_gaps(list(FORM.values())).split()) <= set(words.stdout.split())


def test_textract_caller_read_of_path_bytes_and_object_is_alike(clients: Clients, form: Path, stored: Store) -> None:
    seen = clients.ask("with_caller.py", "read", file=str(form), **stored("form.png", form.read_bytes()))
    assert holds_the_form(seen["lines"][0])
    assert seen["lines"][0] == seen["lines"][1] == seen["lines"][2]
    assert sorted(seen["trp2"]) == sorted(seen["lines"][0])
    # trp2 has its own order for blocks in one row.
    assert sorted(seen["back_again"]) == sorted(seen["lines"][0])


def test_textractor_read_of_path_image_list_and_object(clients: Clients, form: Path, stored: Store) -> None:
    given = stored("form.png", form.read_bytes())
    seen = clients.ask("with_textractor.py", "read", file=str(form), **given)
    assert seen["pages"] == [1, 1, 1, 1]
    assert all(holds_the_form(lines) for lines in seen["lines"])
    assert holds_the_form([seen["text"]])


def test_textract_caller_and_trp_find_table_rows(clients: Clients, table: Path) -> None:
    seen = clients.ask("with_caller.py", "analyse", file=str(table))
    assert seen["tables"] == [ROWS]
    assert seen["trp2_tables"] == 1


def test_textract_caller_and_trp_find_form_fields(clients: Clients, form: Path) -> None:
    seen = clients.ask("with_caller.py", "analyse", file=str(form))
    assert fields_read(seen["fields"]) == FIELDS
    assert seen["trp2_fields"] == len(FORM)


def test_textractor_finds_table_rows(clients: Clients, table: Path) -> None:
    seen = clients.ask("with_textractor.py", "analyse", file=str(table))
    assert seen["shapes"] == [[len(TABLE), len(TABLE[0])]]
    (found,) = seen["tables"]
    assert [[text.strip() for text in row] for row in found] == ROWS
    assert "LAYOUT_TABLE" in seen["layouts"]


def test_textractor_finds_form_fields(clients: Clients, form: Path) -> None:
    seen = clients.ask("with_textractor.py", "analyse", file=str(form))
    assert fields_read(seen["fields"]) == FIELDS
    assert holds_the_form([seen["text"]])


def test_node_finds_table_cells(clients: Clients, table: Path) -> None:
    seen = clients.ask("with_node.cjs", "analyse", file=str(table))
    assert seen["model"] == "1.0"
    (cells,) = seen["cells"]
    expected = [[row, column, text] for row, line in enumerate(ROWS, 1) for column, text in enumerate(line, 1)]
    assert sorted(cells) == sorted(expected)
