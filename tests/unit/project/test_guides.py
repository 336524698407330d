"""The pages of docs/how-to that extend the program are complete: applied to a copy of the repository, they work."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.unit.project.guides import Copy, Guide, read_guide

# Longer than the programs that a test runs in its copy may take, one by one, on a busy machine.
pytestmark = [pytest.mark.single_python, pytest.mark.timeout(600)]


def follow(guide: Guide, copy: Copy) -> None:
    """Apply all blocks and generate the pages; what changed must be what the page lists."""
    for block in guide.blocks:
        copy.apply(block)
    copy.must("-m", "scripts.generated_docs")
    assert copy.changed() == set(guide.files)
    touched = [name for name in guide.files if name.endswith(".py")]
    # The rules of pyproject.toml for tests name this repository's directory.
    rules = ["--extend-per-file-ignores", "**/tests/*.py:S101,**/tests/*.py:D"]
    copy.must("-m", "ruff", "check", *rules, *touched)
    copy.must("-m", "ruff", "format", "--check", *touched)


def test_add_a_command_page_on_a_copy_adds_it(tmp_path: Path) -> None:
    copy = Copy(tmp_path)
    follow(read_guide("add-a-command"), copy)
    shown = copy.must("-m", "photo_worker.cli", "identify", "fixtures/photos/clean-print.png")
    assert "image/png" in shown
    assert "identify" in copy.must("-m", "photo_worker.cli", "--help")
    tests = ["test_identify.py", "test_command_pages.py", "test_generated_docs.py", "test_usage_errors.py"]
    copy.must("-m", "pytest", "-q", "-p", "no:cacheprovider", *(f"tests/unit/{name}" for name in tests))


def test_add_a_workflow_page_on_a_copy_adds_it(tmp_path: Path) -> None:
    guide = read_guide("add-a-workflow")
    copy = Copy(tmp_path)
    follow(guide, copy)
    product = [name for name in guide.files if name.startswith("photo_worker/")]
    tests = [name for name in guide.files if name.startswith("tests/")]
    assert len(product) <= 8
    assert len(tests) <= 5
    known = [
        "tests/unit/test_pipelines.py",
        "tests/unit/test_generated_docs.py",
        "tests/unit/project/test_architecture.py",
    ]
    own = [name for name in tests if Path(name).name.startswith("test_")]
    ended = copy.must("-m", "pytest", "-q", "-p", "no:cacheprovider", *own, *known)
    assert "passed" in ended
    assert "review_workflow" in (tmp_path / "docs" / "reference" / "contracts.md").read_text(encoding="utf-8")


def test_add_an_ocr_backend_page_on_a_copy_installs_it(tmp_path: Path) -> None:
    guide = read_guide("add-an-ocr-backend")
    copy = Copy(tmp_path / "copy")
    follow(guide, copy)
    # Beside the environment, which other tests use: an entry point is found on the path that it is installed to.
    install = [
        "--quiet",
        "--no-deps",
        "--offline",
        "--no-build-isolation",
        "--python",
        sys.executable,
        "--target",
        str(tmp_path / "site"),
    ]
    copy.must("-m", "uv", "pip", "install", *install, "./cached-ocr")
    copy.path.append(tmp_path / "site")
    copy.must("-m", "pytest", "-q", "-p", "no:cacheprovider", "cached-ocr/tests")


def test_add_a_stack_service_page_on_a_copy_runs_it(tmp_path: Path) -> None:
    copy = Copy(tmp_path)
    follow(read_guide("add-a-stack-service"), copy)
    # The environment of the tests has no valid settings, which is another check of the same command.
    assert "ok       echo  " in copy.run("-m", "photo_worker.cli", "doctor", "--with", "echo").stdout
    tests = ["unit/devkit/test_echo_service.py", "unit/devkit/test_service_registry.py", "compose/test_file.py"]
    pages = ("test_published_ports_all_have_a_listed_guard", "test_published_port_guards_are_configured_as_listed")
    tests += [f"compose/test_web_pages.py::{name}" for name in pages]
    copy.must("-m", "pytest", "-q", "-p", "no:cacheprovider", *(f"tests/{name}" for name in tests))


def test_add_a_command_page_without_a_listed_file_fails(tmp_path: Path) -> None:
    """The check sees an omission: without the row of invalid values, a test of all commands fails."""
    guide = read_guide("add-a-command")
    copy = Copy(tmp_path)
    for block in guide.blocks:
        if block.path != "tests/unit/test_usage_errors.py":
            copy.apply(block)
    ended = copy.run(
        "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "covers_options", "tests/unit/test_usage_errors.py"
    )
    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert "identify" in ended.stdout
