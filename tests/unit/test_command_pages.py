"""The pages of docs/reference/commands agree with the program, and name only existing codes, variables and options."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from photo_worker.cli import cli
from photo_worker.config import Settings
from photo_worker.devkit.errors import StackError
from scripts import make_command_pages as made
from scripts.error_classes import error_classes
from scripts.make_command_pages import FACTS, PAGES, ROOT, SHARED, commands, facts_of

COMMANDS = {named.slug: named for named in commands()}
# Raised for a free block of ports, which only Python code requests.
NOT_FROM_A_COMMAND = {"ports_exhausted"}


def test_command_facts_have_a_command() -> None:
    assert {path.stem for path in FACTS.glob("*.toml")} == {*COMMANDS, SHARED}
    assert {path.stem for path in FACTS.glob("*.json")} <= set(COMMANDS)


def test_command_facts_with_json_have_an_example() -> None:
    for slug, named in COMMANDS.items():
        output = next((param for param in named.command.params if param.name == "output"), None)
        if output is not None:
            like = facts_of(slug).like.replace(" ", "-")
            assert bool(made.example(slug)) != bool(like), f"{slug} needs an example, or the name of one like it"
            assert not like or made.example(like), slug


def test_command_facts_exit_codes_match_help() -> None:
    codes = {int(code) for code in re.findall(r"\d+", cli.epilog or "")}
    assert codes == {int(code) for code in made._shared()["exit"]}


def test_command_facts_errors_occur_in_tests() -> None:
    # Without the words of this test and of the pages.
    directories = [ROOT / "tests", *ROOT.glob("packages/*/tests")]
    files = [path for directory in directories for path in directory.rglob("*.py")]
    tests = {word for path in files for word in re.findall(r"\w+", path.read_text("utf-8"))}
    named = {code for slug in COMMANDS for code in facts_of(slug).errors}
    assert named <= set(made.messages())
    kinds = {kind.code: kind.__name__ for kind in error_classes()}
    unseen = {code for code in named if not {code, kinds[code]} & tests}
    assert unseen == set()


def test_command_facts_include_each_stack_error() -> None:
    named = {code for slug in COMMANDS for code in facts_of(slug).errors}
    assert {kind.code for kind in error_classes() if issubclass(kind, StackError)} - named - NOT_FROM_A_COMMAND == set()


def test_command_facts_variables_match_those_read() -> None:
    known = made.variables()
    on_pages = {name for slug in COMMANDS for name in facts_of(slug).variables}
    assert on_pages <= set(known)
    options = {str(param.envvar) for named in COMMANDS.values() for param in named.command.params if param.envvar}
    read = set(_read_names())
    assert read - on_pages - options == {"_PHOTO_WORKER_COMPLETE"}
    libraries = (ROOT / "docs" / "reference" / "settings.md").read_text(encoding="utf-8")
    assert {name for name in on_pages - read - options if "*" not in name and f"`{name}`" not in libraries} == set()


@pytest.mark.parametrize("slug", sorted(COMMANDS))
def test_command_facts_examples_parse(slug: str) -> None:
    for entry in facts_of(slug).examples:
        (line,) = re.findall(r"photo-worker ([^|>;)]+)", entry["run"])
        words = shlex.split(line)
        if words[0] == "--env-file":
            words = words[2:]
        named = COMMANDS[slug]
        assert tuple(words[: len(named.words)]) == named.words
        # Raises on an unknown option or an invalid value.
        named.command.make_context(slug, words[len(named.words) :], parent=named.context.parent)


def test_command_pages_links_resolve() -> None:
    for page in PAGES.glob("*.md"):
        for target in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def _read_names() -> Iterator[str]:
    """Yield the names of the environment variables that the code reads."""
    yield from (field.alias for field in Settings.model_fields.values() if field.alias)
    for path in sorted([*(ROOT / "photo_worker").rglob("*.py"), *ROOT.glob("packages/textract-local/src/**/*.py")]):
        yield from _names_in(path)


def _names_in(path: Path) -> Iterator[str]:
    text = path.read_text(encoding="utf-8")
    if not any(word in text for word in ("environ", "variables", "envvar")):
        return
    tree = ast.parse(text)
    constants = {
        target.id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    # Outside the dev kit `variables` is the environment; in it, those that a stack exports.
    environments = ("environ",) if {"devkit", "packages"} & {*path.parts} else ("environ", "variables")
    for node in ast.walk(tree):
        asked: ast.expr | None = None
        if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load) and _is_one_of(node.value, environments):
            asked = node.slice
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "get":
            asked = node.args[0] if _is_one_of(node.func.value, environments) else None
        elif isinstance(node, ast.keyword) and node.arg in {"envvar", "complete_var"}:
            asked = node.value
        value = constants.get(asked.id) if isinstance(asked, ast.Name) else getattr(asked, "value", None)
        if isinstance(value, str) and re.fullmatch(r"[A-Z_][A-Z0-9_]+", value):
            yield value


def _is_one_of(node: ast.expr, names: tuple[str, ...]) -> bool:
    name = node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", None)
    return name in names
