"""What log lines contain, and what they never contain."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Literal

import pytest

from photo_worker.adapters.postgres.job_repository import make_pool
from photo_worker.logs import configure_logging


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.parametrize("style", ["json", "console"])
def test_traceback_hides_local_variables(style: Literal["json", "console"], capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("INFO", style)
    words = "-".join(["two", "cups", "of", "flour"])
    try:
        raise ValueError(f"{len(words)} characters")
    except ValueError:
        logging.getLogger("test").exception("failed")
    said = capsys.readouterr().err
    assert words not in said
    assert "17 characters" in said
    assert "test_traceback_hides_local_variables" in said


def test_traceback_in_json_names_error_and_frame(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("INFO", "json")
    try:
        raise ValueError("no")
    except ValueError:
        logging.getLogger("test").exception("failed")
    (found,) = json.loads(capsys.readouterr().err)["exception"]
    assert (found["exc_type"], found["exc_value"]) == ("ValueError", "no")
    assert found["frames"][-1]["name"] == "test_traceback_in_json_names_error_and_frame"


@pytest.mark.parametrize("key", ["photo", "textract_local"])
def test_logs_contain_added_fields_as_photo(key: str, capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("INFO", "json")
    logging.getLogger("test").error("no document can be read", extra={key: {"stderr": "no libgomp"}, "other": 1})
    line = json.loads(capsys.readouterr().err)
    assert line["photo"] == {"stderr": "no libgomp"}
    assert not {"textract_local", "other"} & line.keys()


@pytest.mark.parametrize("style", ["json", "console"])
def test_logs_hide_password_of_url(style: Literal["json", "console"], capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("INFO", style)
    try:
        raise ConnectionError('no response from "http://kitchen:secr@t-word@127.0.0.1:9/photos/a@b.jpg"')
    except ConnectionError as error:
        logging.getLogger("test").exception("failed: %s", error)
    said = capsys.readouterr().err
    assert "kitchen" not in said
    assert "t-word" not in said
    assert said.count("http://127.0.0.1:9/photos/a@b.jpg") >= 2


@pytest.mark.parametrize(("level", "lines"), [("INFO", 0), ("WARNING", 0), ("DEBUG", 1)])
def test_logs_of_connection_pool_are_debug_level(level: str, lines: int, capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(level, "json")
    make_pool("postgresql://nobody@127.0.0.1:1/none").close()
    capsys.readouterr()
    logging.getLogger("psycopg.pool").warning("error connecting in %r: refused", "photo-worker")
    said = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert len(said) == lines
    assert all(record["level"] == "debug" for record in said)
