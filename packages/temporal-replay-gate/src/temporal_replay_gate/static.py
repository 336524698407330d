"""Reads workflow code without running it, and refuses code that a replay cannot repeat.

A replay covers only the paths that a recorded history took, and the sandbox only code that runs. This
check reads every method of a workflow class and every helper of the same package that they reach,
also through modules that bypass the sandbox. If a name cannot be resolved, the check reports nothing:
it does not follow methods of objects of unknown type.

A comment exempts a line that is safe for another reason::

    for name in names:  # replay-ok[order]: every branch only adds to a dict
"""

from __future__ import annotations

import ast
import inspect
import io
import re
import tokenize
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from temporal_replay_gate.static_handlers import handlers_set_in
from temporal_replay_gate.static_rules import BUILTINS, METHODS, REASONS, WITHOUT_ARGUMENTS, load_rules
from temporal_replay_gate.static_sets import SetNames, ordered_uses, without_order

_ESCAPE = re.compile(r"#\s*replay-ok\[(?P<codes>[a-z, ]*)\](?::\s*(?P<reason>.*))?")
# A shorter text cannot explain why the line is safe.
_SHORTEST_REASON = 10

_Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, order=True)
class StaticFinding:
    """One refused line. ``via`` names the functions through which the workflow reaches it, the workflow class first."""

    path: Path
    line: int
    code: str
    what: str
    why: str
    instead: str
    via: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return ``file:line: [code] what: why; instead``, followed by the call path if it has more than one name."""
        way = f" (reached by {' -> '.join(self.via)})" if len(self.via) > 1 else ""
        return f"{self.path}:{self.line}: [{self.code}] {self.what}: {self.why}; {self.instead}{way}"


@dataclass(frozen=True)
class StaticReport:
    """The findings, the source files read, and the number of functions read.

    ``signal_handlers`` are the names of the signals for which the code sets a handler while it runs; None stands for
    every name.
    """

    findings: tuple[StaticFinding, ...]
    files: tuple[Path, ...]
    functions: int
    signal_handlers: frozenset[str | None] = frozenset()


@dataclass
class _Module:
    """One parsed source file."""

    name: str
    path: Path
    tree: ast.Module
    imports: dict[str, str]
    definitions: dict[str, ast.stmt]
    escapes: dict[int, tuple[frozenset[str], str]]
    sets: SetNames
    used_escapes: set[int] = field(default_factory=set)


def check_workflows(workflows: Sequence[type]) -> StaticReport:
    """Read the classes and all code that they reach in their own top-level packages.

    A class without readable source is a finding of its own: code that cannot be read is not checked.
    """
    reader = _CodeReader(frozenset(workflow.__module__.partition(".")[0] for workflow in workflows))
    for workflow in workflows:
        reader.read_workflow(workflow)
    return reader.report()


class _CodeReader:
    def __init__(self, packages: frozenset[str]) -> None:
        self._packages = packages
        self._rules = load_rules()
        self._modules: dict[str, _Module | None] = {}
        self._seen: set[tuple[str, int]] = set()
        self._findings: dict[tuple[Path, int, str, str], StaticFinding] = {}
        self._functions = 0
        self._signal_handlers: set[str | None] = set()

    def report(self) -> StaticReport:
        """Return the findings, including those for escapes that are unused, lack a reason or name no code."""
        modules = [module for module in self._modules.values() if module is not None]
        for module in modules:
            for line, (codes, reason) in module.escapes.items():
                if line not in module.used_escapes:
                    self._add_escape(module, line, "replay-ok without use", "nothing on this line is refused")
                elif len(reason) < _SHORTEST_REASON:
                    self._add_escape(module, line, "replay-ok without a reason", "the next reader needs to know why")
                elif unknown := codes - REASONS.keys():
                    self._add_escape(module, line, f"replay-ok[{', '.join(sorted(unknown))}]", "there is no such code")
        read = sorted(module.path for module in modules)
        found = tuple(sorted(self._findings.values()))
        return StaticReport(found, tuple(read), self._functions, frozenset(self._signal_handlers))

    def _add_escape(self, module: _Module, line: int, what: str, why: str) -> None:
        instead = f"write replay-ok[CODE]: REASON with a code of {', '.join(REASONS)}, or delete it"
        self._findings[(module.path, line, "escape", what)] = StaticFinding(
            module.path, line, "escape", what, why, instead
        )

    def read_workflow(self, workflow: type) -> None:
        """Read a workflow class, which is looked up in its module by name."""
        module = self._module(workflow.__module__, workflow)
        name = workflow.__qualname__.partition(".")[0]
        node = module.definitions.get(name) if module else None
        if module is None or not isinstance(node, ast.ClassDef):
            path = Path(inspect.getfile(workflow)) if hasattr(inspect.getmodule(workflow), "__file__") else Path()
            why = "code that cannot be read is not checked"
            finding = StaticFinding(
                path, 0, "unread", f"the source of {workflow.__qualname__}", why, "install the source"
            )
            self._findings[(path, 0, "unread", workflow.__qualname__)] = finding
            return
        for decorator in node.decorator_list:
            if isinstance(decorator, ast.Call):
                for keyword in decorator.keywords:
                    if keyword.arg == "sandboxed" and getattr(keyword.value, "value", None) is False:
                        self._refuse(module, keyword.value, "unsandboxed", "sandboxed=False", (name,))
        self._visit_class(module, node, (name,))

    def _module(self, name: str, owner: type | None = None) -> _Module | None:
        if name in self._modules:
            return self._modules[name]
        path = _source_of(name, owner)
        module = None
        if path is not None:
            text = path.read_text(encoding="utf-8")
            tree = ast.parse(text, str(path))
            package = name if path.name == "__init__.py" else name.rpartition(".")[0]
            found = _definitions(tree)
            module = _Module(
                name, path, tree, _imports(tree, package), found, _escapes(text), SetNames.of_module(found)
            )
        self._modules[name] = module
        return module

    def _visit_class(self, module: _Module, node: ast.ClassDef, via: tuple[str, ...]) -> None:
        if not self._first_time(module, node):
            return
        sets = module.sets.of_class(node)
        for base in node.bases:
            self._follow(module, self._dotted(module, base, frozenset()), via, called=True)
        for statement in node.body:
            if isinstance(statement, _Function):
                self._visit_function(module, statement, (*via, statement.name), sets)
            elif isinstance(statement, ast.Assign | ast.AnnAssign) and statement.value is not None:
                self._visit(module, statement.value, via, sets, frozenset())

    def _visit_function(self, module: _Module, node: _Function, via: tuple[str, ...], sets: SetNames) -> None:
        if any(_is_activity(decorator) for decorator in node.decorator_list) or not self._first_time(module, node):
            return
        self._functions += 1
        local = _local_names(node)
        known = sets.within(node, local)
        for default in [*node.args.defaults, *(value for value in node.args.kw_defaults if value is not None)]:
            self._visit(module, default, via, known, frozenset())
        for statement in node.body:
            self._visit(module, statement, via, known, local)

    def _visit(
        self, module: _Module, root: ast.AST, via: tuple[str, ...], sets: SetNames, local: frozenset[str]
    ) -> None:
        exempt = without_order(root)
        self._signal_handlers |= handlers_set_in(root, module.imports)
        for node in _walk(root):
            if isinstance(node, ast.Global):
                self._refuse(module, node, "global", f"global {', '.join(node.names)}", via)
            for what in ordered_uses(node, sets, exempt):
                self._refuse(module, node, "order", what, via)
            if isinstance(node, ast.Call):
                self._visit_call(module, node, via, local)
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id not in local:
                if node.id in BUILTINS and node.id not in module.imports and node.id not in module.definitions:
                    self._refuse(module, node, BUILTINS[node.id], f"{node.id}()", via)
                    continue
                self._visit_name(module, node, via, local)
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
                self._visit_name(module, node, via, local)

    def _visit_call(self, module: _Module, node: ast.Call, via: tuple[str, ...], local: frozenset[str]) -> None:
        dotted = self._dotted(module, node.func, local)
        if dotted in WITHOUT_ARGUMENTS and not node.args and not node.keywords:
            self._refuse(module, node, WITHOUT_ARGUMENTS[dotted], f"{dotted}() without an argument", via)
        elif dotted is not None:
            self._follow(module, dotted, via, called=True)
        if isinstance(node.func, ast.Attribute) and dotted is None:
            receiver = node.func.value
            made = self._dotted(module, receiver.func, local) if isinstance(receiver, ast.Call) else None
            code = self._rules.code_of(f"{made}.{node.func.attr}") if made else None
            if code or node.func.attr in METHODS:
                self._refuse(module, node, code or METHODS[node.func.attr], f"{node.func.attr}()", via)

    def _visit_name(self, module: _Module, node: ast.expr, via: tuple[str, ...], local: frozenset[str]) -> None:
        dotted = self._dotted(module, node, local)
        if dotted is None:
            return
        code = self._rules.code_of(dotted)
        if code:
            self._refuse(module, node, code, dotted, via)
        else:
            self._follow(module, dotted, via, called=False)

    def _dotted(self, module: _Module, node: ast.expr, local: frozenset[str]) -> str | None:
        """Return the absolute dotted name that an expression stands for; None if it is a local value."""
        parts: list[str] = []
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        if not isinstance(node, ast.Name) or node.id in local:
            return None
        root = module.imports.get(node.id)
        if root is None:
            if node.id not in module.definitions:
                return None
            root = f"{module.name}.{node.id}"
        return ".".join([root, *reversed(parts)])

    def _follow(self, module: _Module, dotted: str | None, via: tuple[str, ...], *, called: bool) -> None:
        """Read the definition behind a name of the same package. A class is read only if it is called."""
        found = self._find(dotted) if dotted else None
        if found is None:
            return
        where, node, rest = found
        name = getattr(node, "name", "")
        if isinstance(node, _Function) and not rest:
            self._visit_function(where, node, (*via, name), where.sets)
        elif isinstance(node, ast.ClassDef) and not rest and called:
            self._visit_class(where, node, (*via, name))
        elif isinstance(node, ast.ClassDef) and len(rest) == 1:
            for statement in node.body:
                if isinstance(statement, _Function) and statement.name == rest[0]:
                    self._visit_function(where, statement, (*via, name, rest[0]), where.sets.of_class(node))
        elif isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None and self._first_time(where, node):
            self._visit(where, node.value, via, where.sets, frozenset())

    def _find(self, dotted: str, depth: int = 0) -> tuple[_Module, ast.stmt, list[str]] | None:
        parts = dotted.split(".")
        # Modules can re-export a name from one another; more than ten times is a cycle.
        if parts[0] not in self._packages or depth > 10:
            return None
        for length in range(len(parts) - 1, 0, -1):
            module = self._module(".".join(parts[:length]))
            if module is None:
                continue
            name, rest = parts[length], parts[length + 1 :]
            if name in module.definitions:
                return module, module.definitions[name], rest
            if name in module.imports and module.imports[name] != dotted:
                return self._find(".".join([module.imports[name], *rest]), depth + 1)
            return None
        return None

    def _first_time(self, module: _Module, node: ast.stmt) -> bool:
        key = (module.name, node.lineno)
        if key in self._seen:
            return False
        self._seen.add(key)
        return True

    def _refuse(self, module: _Module, node: ast.AST, code: str, what: str, via: tuple[str, ...]) -> None:
        first = getattr(node, "lineno", 0)
        for line in range(first, (getattr(node, "end_lineno", None) or first) + 1):
            if line in module.escapes and code in module.escapes[line][0]:
                module.used_escapes.add(line)
                return
        why, instead = REASONS[code]
        self._findings.setdefault(
            (module.path, first, code, what), StaticFinding(module.path, first, code, what, why, instead, via)
        )


def _source_of(name: str, owner: type | None) -> Path | None:
    if owner is not None:
        try:
            found = inspect.getsourcefile(owner)
        except (TypeError, OSError):
            return None
        return Path(found) if found else None
    try:
        spec = find_spec(name)
    except (ImportError, ValueError):
        return None
    if spec is None or not spec.origin or not spec.origin.endswith(".py"):
        return None
    return Path(spec.origin)


def _imports(tree: ast.Module, package: str) -> dict[str, str]:
    """Map each imported name to its absolute dotted name."""
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                names[alias.asname or alias.name.partition(".")[0]] = (
                    alias.name if alias.asname else alias.name.partition(".")[0]
                )
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")
            base = ".".join(parents[: len(parents) - node.level + 1]) if node.level else ""
            origin = ".".join(part for part in (base, node.module or "") if part)
            names.update({alias.asname or alias.name: f"{origin}.{alias.name}" for alias in node.names})
    return names


def _definitions(tree: ast.Module) -> dict[str, ast.stmt]:
    """Return what a module defines at its top level, also inside ``if``, ``with`` and ``try``."""
    found: dict[str, ast.stmt] = {}
    waiting: list[ast.stmt] = list(tree.body)
    while waiting:
        node = waiting.pop(0)
        if isinstance(node, _Function | ast.ClassDef):
            found[node.name] = node
        elif isinstance(node, ast.Assign):
            found.update({target.id: node for target in node.targets if isinstance(target, ast.Name)})
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found[node.target.id] = node
        elif isinstance(node, ast.If | ast.With | ast.Try):
            waiting.extend(node.body)
            waiting.extend(getattr(node, "orelse", []))
    return found


def _escapes(text: str) -> dict[int, tuple[frozenset[str], str]]:
    found: dict[int, tuple[frozenset[str], str]] = {}
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        matched = _ESCAPE.search(token.string) if token.type == tokenize.COMMENT else None
        if matched:
            codes = frozenset(code.strip() for code in matched["codes"].split(",") if code.strip())
            found[token.start[0]] = (codes, (matched["reason"] or "").strip())
    return found


def _local_names(node: _Function) -> frozenset[str]:
    """Return the names that a function binds, which shadow those of the module."""
    arguments = node.args
    names = {argument.arg for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)}
    names |= {argument.arg for argument in (arguments.vararg, arguments.kwarg) if argument is not None}
    for inner in ast.walk(node):
        if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store):
            names.add(inner.id)
        elif isinstance(inner, ast.ExceptHandler) and inner.name:
            names.add(inner.name)
    return frozenset(names)


def _walk(root: ast.AST) -> Iterable[ast.AST]:
    """Walk without annotations, which run no code, and without the parts of a dotted name yielded as a whole."""
    waiting = [root]
    while waiting:
        node = waiting.pop()
        yield node
        if isinstance(node, ast.Attribute):
            inner: ast.expr = node
            while isinstance(inner, ast.Attribute):
                inner = inner.value
            if not isinstance(inner, ast.Name):
                waiting.append(inner)
            continue
        for name, value in ast.iter_fields(node):
            if name in {"annotation", "returns"}:
                continue
            children = value if isinstance(value, list) else [value]
            waiting.extend(child for child in children if isinstance(child, ast.AST))


def _is_activity(decorator: ast.expr) -> bool:
    called = decorator.func if isinstance(decorator, ast.Call) else decorator
    return ast.unparse(called) in {"activity.defn", "temporalio.activity.defn"}
