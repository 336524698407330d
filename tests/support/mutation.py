"""Mutations of the source: one piece of code in one definition, found in the syntax tree, becomes another.

Layout, comments, quotes and names of local variables may change without a mutation noticing. If the code itself
changes, moves or gets another name, the mutation does not apply any more, and the error says where it may be now. See
``code_patterns`` for the placeholders ``$name`` and ``...``.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from tests.support.code_patterns import Filling, Form, Place, find, forms

ROOT = Path(__file__).resolve().parents[2]
_SOURCES = ("photo_worker", "packages/*/src", "tests/replay/code_mutations")

_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


class MutationError(Exception):
    """The code that a mutation replaces is not exactly once in the definition that it names."""


@dataclass(frozen=True)
class Mutation:
    """Code to be replaced, and its replacement.

    ``within`` is the qualified name of a function, class, constant or attribute in ``file`` such as
    ``Admission._is_lost``; an empty one is the whole module. ``old`` and ``new`` are both an expression, statements,
    keyword arguments, items of a dictionary, decorators or ``except`` clauses; ``new`` is empty where ``old`` goes.
    With ``in_text`` they are words of a string, such as a statement in SQL, whose white space does not matter.
    """

    file: str
    within: str
    old: str
    new: str
    in_text: bool = False


def mutated(mutations: Sequence[Mutation], root: Path = ROOT) -> dict[str, ast.Module]:
    """Return the syntax tree of each file that the mutations change; see ``mutate`` for what it raises."""
    trees: dict[str, ast.Module] = {}
    for mutation in mutations:
        if mutation.file not in trees:
            trees[mutation.file] = _parsed(mutation, root)
        mutate(trees[mutation.file], mutation, root)
        # What no compiler accepts fails here, and not in a child process.
        compile(trees[mutation.file], mutation.file, "exec", dont_inherit=True)
    return trees


def line_of(mutation: Mutation, root: Path = ROOT) -> int:
    """Return the line of the code that a mutation replaces; see ``mutate`` for what it raises."""
    return mutate(_parsed(mutation, root), mutation, root)


def mutate(tree: ast.Module, mutation: Mutation, root: Path = ROOT) -> int:
    """Change a module's tree and return the line of the change; unchanged code keeps its lines.

    Raises ``MutationError`` if the old code is not there exactly once, ``PatternError`` if old and new code do not
    go together, and ``ValueError`` if the mutation changes nothing.
    """
    scopes = _scopes(tree, mutation, root)
    line = _mutate_text(scopes, mutation) if mutation.in_text else _mutate_code(scopes, mutation)
    ast.fix_missing_locations(tree)
    return line


def _mutate_code(scopes: Sequence[ast.AST], mutation: Mutation) -> int:
    found: list[tuple[Place, list[ast.AST]]] = []
    readings = list(forms(mutation.old, mutation.new))
    for old, new, form in readings:
        found += [(place, new) for scope in scopes for place in find(old, form, scope)]
    if len(found) != 1:
        near = [] if found else [line for old, _, form in readings for line in _closest(old, form, scopes)]
        raise _not_once(mutation, [place.line for place, _ in found], near)
    ((place, new),) = found
    before = [ast.dump(node) for node in place.found]
    filled = Filling(place).fill(new)
    # Each item of a dictionary is a pair.
    nodes = [node for part in filled for node in (part if isinstance(part, tuple) else [part]) if node]
    if [ast.dump(node) for node in nodes] == before:
        raise _without_effect(mutation)
    if nodes and hasattr(nodes[0], "ctx"):
        nodes[0].ctx = getattr(place.found[0], "ctx", nodes[0].ctx)
    place.put(filled)
    for scope in scopes:
        _fill_empty_bodies(scope)
    return place.line


def _mutate_text(scopes: Sequence[ast.AST], mutation: Mutation) -> int:
    words = re.compile(r"\s+".join(map(re.escape, mutation.old.split())))
    texts = [
        node
        for scope in scopes
        for node in ast.walk(scope)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    found = [(node, match) for node in texts for match in words.finditer(str(node.value))]
    if len(found) != 1:
        raise _not_once(mutation, [node.lineno for node, _ in found], [])
    ((node, match),) = found
    text = str(node.value)
    if match.group() == mutation.new:
        raise _without_effect(mutation)
    node.value = text[: match.start()] + mutation.new + text[match.end() :]
    return node.lineno + text[: match.start()].count("\n")


def _fill_empty_bodies(scope: ast.AST) -> None:
    for node in ast.walk(scope):
        if getattr(node, "body", None) == [] and not isinstance(node, ast.Module):
            setattr(node, "body", [ast.copy_location(ast.Pass(), node)])  # noqa: B010


def _parsed(mutation: Mutation, root: Path) -> ast.Module:
    path = root / mutation.file
    if path.is_file():
        return ast.parse(path.read_text(encoding="utf-8"), mutation.file)
    raise MutationError(f"There is no file {mutation.file}.{_elsewhere(mutation, root)}")


def _scopes(tree: ast.Module, mutation: Mutation, root: Path) -> list[ast.AST]:
    if not mutation.within:
        return [tree]
    known = list(_definitions(tree, ""))
    found = [node for name, node in known if name == mutation.within]
    if not found:
        near = get_close_matches(mutation.within, [name for name, _ in known], n=1, cutoff=0.5)
        hint = f" Its closest definition is {near[0]}." if near else ""
        raise MutationError(
            f"{mutation.file} defines no {mutation.within}.{hint}{_elsewhere(mutation, root)}\n{_looked_for(mutation)}"
        )
    return found


def _definitions(node: ast.AST, prefix: str, *, local: bool = False) -> Iterator[tuple[str, ast.AST]]:
    """Yield each function, class, constant and attribute with its qualified name; no local variables."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, _Definition):
            yield prefix + child.name, child
            inner = not isinstance(child, ast.ClassDef)
            yield from _definitions(child, f"{prefix}{child.name}.", local=inner)
        elif isinstance(child, ast.Assign | ast.AnnAssign) and not local:
            targets = child.targets if isinstance(child, ast.Assign) else [child.target]
            yield from ((prefix + target.id, child) for target in targets if isinstance(target, ast.Name))
        elif isinstance(child, ast.stmt | ast.ExceptHandler | ast.match_case):
            yield from _definitions(child, prefix, local=local)


def _elsewhere(mutation: Mutation, root: Path) -> str:
    """Return the other files that have such a definition, in words."""
    paths = sorted(path for source in _SOURCES for directory in root.glob(source) for path in directory.rglob("*.py"))
    last = mutation.within.rpartition(".")[2]
    found = []
    for path in paths:
        file, text = path.relative_to(root).as_posix(), path.read_text(encoding="utf-8")
        if file == mutation.file or not last or last not in text:
            continue
        if any(name == mutation.within for name, _ in _definitions(ast.parse(text), "")):
            found.append(file)
    return f" {mutation.within} is now in {' or '.join(found)}." if found else ""


def _closest(old: Sequence[ast.AST], form: Form, scopes: Sequence[ast.AST]) -> list[str]:
    """Return the part of the scopes that is most like the code, in words."""
    if form.name == "dictionary items":
        return []
    sought = ast.unparse(old[0]).partition("\n")[0]
    parts = [node for scope in scopes for node in ast.walk(scope) if isinstance(node, form.type) and node is not scope]
    texts = {ast.unparse(node).partition("\n")[0]: getattr(node, "lineno", 0) for node in parts}
    return [f"closest is line {texts[text]}: {text}" for text in get_close_matches(sought, texts, n=1, cutoff=0.3)]


def _not_once(mutation: Mutation, lines: Sequence[int], hints: Sequence[str]) -> MutationError:
    where = f" (lines {', '.join(map(str, lines))})" if lines else ""
    said = f"{_place(mutation)} has this code {len(lines)} times instead of once{where}."
    return MutationError("\n".join([said, _looked_for(mutation), *hints]))


def _without_effect(mutation: Mutation) -> ValueError:
    return ValueError(f"the mutation of {_place(mutation)} changes nothing:\n{mutation.old}")


def _place(mutation: Mutation) -> str:
    return f"{mutation.within or 'the module'} in {mutation.file}"


def _looked_for(mutation: Mutation) -> str:
    return f"looked for: {mutation.old.strip()}"


def unparsed(trees: Mapping[str, ast.Module]) -> dict[str, str]:
    """Return the source of each tree, without its comments and layout."""
    return {file: ast.unparse(tree) for file, tree in trees.items()}
