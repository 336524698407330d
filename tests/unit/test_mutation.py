"""The tool of mutations finds code by its syntax tree, and says where it looked if it does not."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.conformance.mutated_emulator import edits_of, starter_of
from tests.conformance.mutations import MUTATIONS
from tests.crash.safeguard import Safeguard
from tests.crash.safeguards import SAFEGUARDS
from tests.replay.code_mutations.code_mutation import CodeMutation
from tests.replay.code_mutations.mutations import CODE_MUTATIONS, HARMLESS
from tests.support.code_patterns import PatternError
from tests.support.mutation import Mutation, MutationError, line_of, mutate, mutated

SOURCE = """
LIMIT = 5
TEXT = '''
    SELECT a
      FROM b'''

class Oven:
    degrees: int = 180

    @once
    def bake(self, dish, guests):
        if dish and guests:
            self.serve(dish, guests, hot=True)
        with heat():
            self.turn()
            self.wait()
        try:
            size = len(dish)
        except ValueError as error:
            raise
        return {"dish": dish, "size": size}

    def cool(self, dish):
        if dish and self.degrees:
            self.serve(dish, 1)
"""
# The same code in another layout and with other local names.
RENAMED = ast.unparse(
    ast.parse(SOURCE.replace("dish", "meal").replace("guests", "people").replace('{"meal"', '{"dish"'))
)


def changed(mutation: Mutation, source: str = SOURCE) -> str:
    tree = ast.parse(source)
    mutate(tree, mutation)
    return ast.unparse(tree)


def oven(old: str, new: str, within: str = "Oven.bake", *, in_text: bool = False) -> Mutation:
    return Mutation("oven.py", within, old, new, in_text)


KINDS = {
    "expression": (oven("$dish and $guests", "False"), "if False:"),
    "operator": (oven("$dish and $guests", "$dish or $guests"), "{} or {}"),
    "statements": (
        oven("self.turn()\nself.wait()", "self.wait()"),
        "with heat():\n            self.wait()\n        try",
    ),
    "statements removed": (oven("self.turn()\nself.wait()", ""), "with heat():\n            pass"),
    "body kept": (
        oven("with heat(): ...", "if True: ..."),
        "if True:\n            self.turn()\n            self.wait()",
    ),
    "body unwrapped": (oven("with heat(): ...", "..."), "hot=True)\n        self.turn()\n        self.wait()"),
    "argument": (oven("hot = True", "hot=False"), "hot=False)"),
    "argument removed": (oven("hot=True", ""), "self.serve({}, {})"),
    "rest of a call": (oven("self.serve($dish, ...)", "self.keep($dish, ...)"), "self.keep({}, {}, hot=True)"),
    "item": (oven("'size': $size", "'size': 0"), "'size': 0}}"),
    "item removed": (oven("'size': $size", ""), "return {{'dish': {}}}"),
    "decorator": (oven("@once", "@twice"), "@twice\n    def bake"),
    "decorator removed": (oven("@once", ""), "180\n\n    def bake"),
    "handler": (
        oven("except ValueError as $error: ...", "except KeyError as $error: ..."),
        "except KeyError as error:",
    ),
    "constant": (oven("5", "6", "LIMIT"), "LIMIT = 6"),
    "attribute": (oven("180", "20", "Oven.degrees"), "degrees: int = 20"),
    "text": (oven("a FROM b", "a FROM c", "TEXT", in_text=True), "SELECT a FROM c"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("source", "names"), [(SOURCE, ("dish", "guests")), (RENAMED, ("meal", "people"))])
def test_mutate_each_kind_of_code_is_replaced(kind: str, source: str, names: tuple[str, str]) -> None:
    mutation, expected = KINDS[kind]
    assert expected.format(*names) in changed(mutation, source)


def test_mutate_leaves_lines_of_other_code() -> None:
    tree = ast.parse(SOURCE)
    assert mutate(tree, oven("$dish and $guests", "False")) == 12
    (last,) = (node.lineno for node in ast.walk(tree) if isinstance(node, ast.Return))
    assert last == 21


@pytest.mark.parametrize(
    ("mutation", "says"),
    [
        (oven("$dish and self.heat", "False"), r"(?s)Oven.bake in oven.py has this code 0 times.*closest is line 12"),
        (oven("$one and $one", "False"), "0 times instead of once"),
        (oven("self.serve($dish, ...)", "", "Oven"), r"2 times instead of once \(lines 13, 25\)"),
        (oven("self.turn()", "", "Oven.cool"), "Oven.cool in oven.py has this code 0 times"),
        (oven("self.turn()", "", "Oven.boke"), r"defines no Oven.boke. Its closest definition is Oven.bake"),
        (oven("SELECT z", "", "TEXT", in_text=True), "0 times instead of once"),
    ],
    ids=["gone", "other name", "twice", "other definition", "no definition", "no text"],
)
def test_mutate_code_not_once_in_definition_is_refused(mutation: Mutation, says: str) -> None:
    with pytest.raises(MutationError, match=says):
        changed(mutation)


@pytest.mark.parametrize(
    ("mutation", "says"),
    [
        (oven("$dish and $guests", "$other"), r"no \$other"),
        (oven("self.turn()", "if True: ..."), r"more \.\.\."),
        (oven("if $dish", "if False"), "not of one kind"),
    ],
)
def test_mutate_replacement_that_does_not_fit_is_refused(mutation: Mutation, says: str) -> None:
    with pytest.raises(PatternError, match=says):
        changed(mutation)


@pytest.mark.parametrize("mutation", [oven("$dish and $guests", "($dish and $guests)"), KINDS["text"][0]])
def test_mutate_without_effect_is_refused(mutation: Mutation) -> None:
    same = Mutation(mutation.file, mutation.within, mutation.new, mutation.new, mutation.in_text)
    with pytest.raises(ValueError, match="changes nothing"):
        changed(same, changed(mutation) if mutation.in_text else SOURCE)


def test_mutated_moved_module_error_names_its_new_file(tmp_path: Path) -> None:
    (tmp_path / "photo_worker").mkdir()
    (tmp_path / "photo_worker" / "stove.py").write_text(SOURCE, encoding="utf-8")
    with pytest.raises(MutationError, match=r"no file photo_worker/oven.py. Oven.bake is now in photo_worker/stove.py"):
        mutated([Mutation("photo_worker/oven.py", "Oven.bake", "self.turn()", "")], tmp_path)


@pytest.mark.parametrize("safeguard", [pytest.param(found, id=found.name) for found in SAFEGUARDS])
def test_mutated_each_safeguard_applies(safeguard: Safeguard) -> None:
    assert mutated(safeguard.edits)
    assert all(line_of(edit) for edit in safeguard.edits[:1])


@pytest.mark.parametrize("mutation", [pytest.param(found, id=found.name) for found in [*CODE_MUTATIONS, *HARMLESS]])
def test_mutated_each_code_mutation_applies(mutation: CodeMutation) -> None:
    assert mutation.text()


@pytest.mark.parametrize("name", MUTATIONS)
def test_mutated_each_mutation_of_emulator_applies(name: str) -> None:
    assert mutated([*edits_of(name), starter_of(name)])
