"""The public names: what there is, and what importing them costs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import textract_local
from textract_local import errors, server

README = Path(__file__).resolve().parents[1] / "README.md"


@pytest.mark.parametrize("module", [textract_local, server], ids=["textract_local", "server"])
def test_public_names_resolve_to_objects_of_package(module: object) -> None:
    for name in module.__all__:  # type: ignore[attr-defined]
        found = getattr(module, name)
        assert getattr(found, "__module__", "textract_local").startswith("textract_local"), name


@pytest.mark.parametrize("module", [textract_local, server], ids=["textract_local", "server"])
def test_public_module_unknown_name_is_attribute_error(module: object) -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        getattr(module, "nothing")  # noqa: B009 - the type checker knows that there is none


def test_import_loads_no_engine_and_nothing_of_the_product() -> None:
    code = "import sys, textract_local.server, textract_local.errors, textract_local.cli; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert "textract_local" in loaded
    assert loaded.isdisjoint({"photo_worker", "temporalio", "psycopg", "numpy", "PIL", "ocrust", "boto3", "uvicorn"})


def test_module_of_readme_takes_options_of_serve() -> None:
    """Programs start the server with their own interpreter: ``python -m textract_local.server``."""
    assert "`python -m textract_local.server` is the same" in README.read_text("utf-8")
    shown = [
        subprocess.run([sys.executable, "-m", *words, "--help"], capture_output=True, text=True, check=True).stdout
        for words in (["textract_local.server"], ["textract_local.cli", "serve"])
    ]
    assert "--most-open-jobs" in shown[0]
    assert shown[0].partition("options:")[2] == shown[1].partition("options:")[2]


def kinds(of: type[errors.TextractLocalError]) -> list[type[errors.TextractLocalError]]:
    return [of, *(below for child in of.__subclasses__() for below in kinds(child))]


def test_errors_have_unique_codes_and_hints() -> None:
    found = kinds(errors.TextractLocalError)
    assert len({kind.code for kind in found}) == len(found)
    assert all(kind.hint.strip() and kind.__doc__ for kind in found)
