"""Checks of all files of the project: errors, modules, pins, documents."""

from __future__ import annotations

import ast
import importlib.util
import re
import string
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import photo_worker
import photo_worker.devkit.errors
from photo_worker import errors
from photo_worker.errors.base import class_tree
from temporal_replay_gate import errors as replay_errors

ROOT = Path(__file__).resolve().parents[3]
PACKAGES = sorted(found.parent for found in ROOT.glob("packages/*/pyproject.toml"))
# The distributions and where the modules of each begin.
SOURCES = {"photo-worker": ROOT, **{package.name: package / "src" for package in PACKAGES}}
MODULES = sorted(path for name, source in SOURCES.items() for path in (source / name.replace("-", "_")).rglob("*.py"))
PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PACKAGE_PROJECTS: dict[str, Any] = {
    package.name: tomllib.loads((package / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for package in PACKAGES
}
# A distribution's requirements file beside its pyproject.toml: what it needs with all of its extras.
OWN_FILES = {f"packages/{name}/requirements.txt": name for name in PACKAGE_PROJECTS}
EMULATOR = "requirements-textract-emulator.txt"
REQUIREMENTS = (
    "requirements.txt",
    "requirements-devkit.txt",
    EMULATOR,
    "requirements-dev.txt",
    "requirements-build.txt",
    *OWN_FILES,
)
# Requirements files of separate environments, and the dependency group of each.
APART = {
    "requirements-clients.txt": "clients",
    "requirements-localstack-client.txt": "localstack-client",
    "requirements-seaweedfs.txt": "seaweedfs",
}


def script(name: str) -> ModuleType:
    """Import a script of scripts/ by its path."""
    spec = importlib.util.spec_from_file_location(f"project_{name}", ROOT / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


ErrorClass: TypeAlias = type[errors.PhotoWorkerError] | type[replay_errors.ReplayError]


ALL: list[ErrorClass] = [*class_tree(errors.PhotoWorkerError), *class_tree(replay_errors.ReplayError)]
ERRORS = [kind for kind in ALL if kind.__module__.startswith(("photo_worker.", "temporal_replay_gate."))]


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_public_classes_have_unique_names(name: str) -> None:
    defined: dict[str, list[str]] = {}
    for module in sorted((SOURCES[name] / name.replace("-", "_")).rglob("*.py")):
        for node in ast.parse(module.read_text("utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                defined.setdefault(node.name, []).append(str(module.relative_to(ROOT)))
    assert {name: modules for name, modules in defined.items() if len(modules) > 1} == {}


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)
def test_package_and_its_tests_import_nothing_of_repository(package: Path) -> None:
    tops = {path.parts[0] for name in ("*.py", "*/") for path in (found.relative_to(ROOT) for found in ROOT.glob(name))}
    foreign = {name.removesuffix(".py") for name in tops} - {"docs", "fixtures"}
    assert {"photo_worker", "tests", "scripts", "benchmarks"} <= foreign
    imported = {
        (str(path.relative_to(ROOT)), name)
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        for name in _imported(node)
    }
    assert sorted(found for found in imported if found[1].partition(".")[0] in foreign) == []


def _imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [name.name for name in node.names]
    return [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
def test_error_class_has_message_code_and_hint(kind: ErrorClass) -> None:
    assert kind.__doc__, "the docstring is the message"
    fields = {field.split(".")[0].split("[")[0] for _, field, _, _ in string.Formatter().parse(kind.__doc__) if field}
    raised = kind(**dict.fromkeys(fields, 7))
    assert raised.message.endswith((".", "?", "7"))
    assert "{" not in raised.message
    assert "\n" not in raised.message
    assert re.fullmatch(r"[a-z][a-z0-9_]*", kind.code)
    assert kind.hint.strip()
    assert isinstance(kind.retryable, bool)


def test_error_codes_are_unique() -> None:
    by_code: dict[str, set[str]] = {}
    for kind in ERRORS:
        if "code" in vars(kind):
            by_code.setdefault(kind.code, set()).add(kind.__name__)
    assert {code: names for code, names in by_code.items() if len(names) > 1} == {}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_module_has_docstring_and_valid_dunder_all(path: Path) -> None:
    source = ast.parse(path.read_text(encoding="utf-8"))
    if path.stat().st_size:
        assert ast.get_docstring(source), "a module says what it is for"
    lists = [
        node.value
        for node in source.body
        if isinstance(node, ast.Assign) and any(getattr(target, "id", "") == "__all__" for target in node.targets)
    ]
    for value in lists:
        exported = ast.literal_eval(value)
        # The linter keeps the order.
        assert len(exported) == len(set(exported))
        root = max((each for each in SOURCES.values() if path.is_relative_to(each)), key=lambda each: len(each.parts))
        name = ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
        module = import_module(name)
        assert [missing for missing in exported if not hasattr(module, missing)] == []


def test_module_sizes_are_within_limits() -> None:
    sizes = sorted(len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES)
    assert sizes[len(sizes) // 2] <= 150
    assert sizes[-1] <= 500


def test_check_committed_finds_nothing_in_repository() -> None:
    assert list(script("check_committed").problems(ROOT)) == []


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("requirements.txt", "--index-url https://" + "py" + "pi.org/simple"),
        ("a.md", "see /ro" + "ot/.cache"),
        ("Dockerfile", "FROM python:late" + "st"),
        ("compose.yml", "    image: postgres:late" + "st"),
        ("values.yaml", "  tag: late" + "st"),
    ],
)
def test_check_committed_finds_machine_paths_and_unpinned_images(name: str, line: str) -> None:
    found = list(script("check_committed").problems_in(name, f"fine\n{line}\n"))
    assert len(found) == 1
    assert found[0].startswith(f"{name}:2: ")


def test_check_committed_finds_long_module_but_not_plain_words() -> None:
    check = script("check_committed")
    assert len(list(check.problems_in("a.py", "x = 1\n" * 501))) == 1
    assert list(check.problems_in("a.py", "x = 1\n" * 500)) == []
    assert list(check.problems_in("a.md", "the latest run; photo-worker/workflows; ~/work/here")) == []


def pins(name: str) -> dict[str, list[Requirement]]:
    found: dict[str, list[Requirement]] = {}
    for line in (ROOT / name).read_text(encoding="utf-8").splitlines():
        if line and line[0] not in "# ":
            pinned = Requirement(line.removesuffix("\\").strip())
            found.setdefault(canonicalize_name(pinned.name), []).append(pinned)
    return found


def asked(name: str) -> list[Requirement]:
    """Return the requirements of pyproject.toml that a requirements file must pin, with nested extras."""
    project, groups = PYPROJECT["project"], PYPROJECT["dependency-groups"]
    extras = project["optional-dependencies"]
    if name in OWN_FILES:
        extras = ",".join(PACKAGE_PROJECTS[OWN_FILES[name]].get("optional-dependencies", {}))
        return list(_expanded([Requirement(f"{OWN_FILES[name]}[{extras}]" if extras else OWN_FILES[name])]))
    if name in APART:
        return list(map(Requirement, groups[APART[name]]))
    lines = list(groups["build"]) if name not in {"requirements.txt", EMULATOR} else []
    if name != "requirements-build.txt":
        lines += project["dependencies"]
    if name in {"requirements-devkit.txt", "requirements-dev.txt"}:
        lines += extras["devkit"]
    if name in {"requirements-devkit.txt", "requirements-dev.txt", EMULATOR}:
        lines += extras["textract-emulator"] + extras["local-ocr"]
    if name == "requirements-dev.txt":
        lines += groups["dev"]
    return [wanted for wanted in _expanded(map(Requirement, lines)) if wanted.name != "photo-worker"]


def _expanded(lines: Iterable[Requirement]) -> Iterator[Requirement]:
    """Replace each distribution of packages/ by what it needs with the extras that are named."""
    for wanted in lines:
        if wanted.name not in PACKAGE_PROJECTS:
            yield wanted
            continue
        project = PACKAGE_PROJECTS[wanted.name]
        below = [*project["dependencies"]]
        for extra in wanted.extras:
            below += project["optional-dependencies"][extra]
        yield from _expanded(map(Requirement, below))


@pytest.mark.parametrize("name", [*REQUIREMENTS, *APART])
def test_requirements_file_pins_declared_dependencies(name: str) -> None:
    found = pins(name)
    for wanted in asked(name):
        versions = [str(pin.specifier).removeprefix("==") for pin in found.get(canonicalize_name(wanted.name), [])]
        assert any(wanted.specifier.contains(version) for version in versions), (
            f"{wanted} has no fitting pin in {name}; run: python3 dev.py nox -s requirements"
        )


@pytest.mark.parametrize("name", [*REQUIREMENTS, *APART])
def test_requirements_pins_are_exact_and_hashed(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert "://" not in text
    blocks = re.split(r"\n(?=[A-Za-z0-9])", text)[1:]
    assert len(blocks) >= len(asked(name)) > 0
    for block in blocks:
        assert re.match(r"[A-Za-z0-9._-]+==[^\s;]+ ", block), block.splitlines()[0]
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", block), block.splitlines()[0]


def test_pyproject_seaweedfs_extra_equals_group() -> None:
    assert PYPROJECT["project"]["optional-dependencies"]["seaweedfs"] == PYPROJECT["dependency-groups"]["seaweedfs"]


def test_requirements_files_agree_on_each_pin() -> None:
    development = pins("requirements-dev.txt")
    for name in REQUIREMENTS:
        for package, pinned in pins(name).items():
            assert {str(pin.specifier) for pin in pinned} <= {str(pin.specifier) for pin in development[package]}


def test_changelog_top_entry_is_current_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    top = re.search(r"^## \[([^\]]+)\] - (?:unreleased|\d{4}-\d{2}-\d{2})$", text, re.MULTILINE)
    assert top is not None
    assert top[1] == photo_worker.__version__


def test_readme_starts_with_two_commands_and_ci_runs_test() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    commands = re.findall(r"```sh\n(.*?)```", readme, re.DOTALL)
    assert [block.strip() for block in commands[:2]] == ["python3 dev.py demo", "python3 dev.py test"]
    gate = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "set -euo pipefail" in gate
    assert re.search(r"^step tests python3 dev\.py test$", gate, re.MULTILINE)


def test_docs_name_only_existing_nox_sessions() -> None:
    sessions = set(
        re.findall(r"^def (\w+)\(session: nox", (ROOT / "noxfile.py").read_text(encoding="utf-8"), re.MULTILINE)
    )
    for name in ("README.md", "CONTRIBUTING.md", ".ci/run", "docs/decisions/packaging.md"):
        text = (ROOT / name).read_text(encoding="utf-8")
        for words in re.findall(r"nox (?:-s|--session) ([a-z0-9_ ]+?)(?: --|`| *\||\n|#|$)", text):
            assert set(words.split()) <= sessions, f"{name} names {words}"


def test_cli_help_imports_no_heavy_package() -> None:
    code = "import sys; from photo_worker.cli import run; run(['--help']); print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.splitlines()[-1].split())
    assert loaded.isdisjoint(
        {"temporalio", "boto3", "psycopg", "sqlalchemy", "pydantic", "rich", "numpy", "onnxruntime"}
    )
