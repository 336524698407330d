"""Applies a page of docs/how-to to a copy of the repository: new files and insertions, as the page shows them.

A code block under a line that consists of a path, such as "`photo_worker/cli/x.py`:", is the content of a new file.
With ", before `TEXT`" the block goes before the first line that starts with TEXT, which must exist, and as many empty
lines follow the block as are before it; with ", in place of `TEXT`" it replaces that line.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
_BLOCK = re.compile(
    r"^`(?P<path>[^`\n]+)`(?:, (?P<how>before|in place of) `(?P<anchor>[^`\n]+)`)?:\n\n```\w*\n(?P<text>.*?)^```$",
    re.M | re.S,
)
_ROW = re.compile(r"^\| `([^`]+)` \|", re.M)
_TIMEOUT_SECONDS = 240


@dataclass(frozen=True)
class Block:
    """A code block of a page: the whole of a new file, or lines before ``anchor`` or in place of it."""

    path: str
    anchor: str | None
    text: str
    replaces: bool = False


@dataclass(frozen=True)
class Guide:
    """A page with the paths in its table of files, and its code blocks in order."""

    files: list[str]
    blocks: list[Block]


def read_guide(name: str) -> Guide:
    """Read docs/how-to/``name``.md."""
    text = (ROOT / "docs" / "how-to" / f"{name}.md").read_text(encoding="utf-8")
    blocks = [
        Block(found["path"], found["anchor"], found["text"], found["how"] == "in place of")
        for found in _BLOCK.finditer(text)
    ]
    return Guide(_ROW.findall(text), blocks)


class Copy:
    """A copy of the files that git tracks or would add."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.path = [root]
        self.variables: dict[str, str] = {}
        command = ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout.decode()
        for name in sorted(set(listed.split("\0")) - {""}):
            if not (ROOT / name).is_file():
                continue
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            # Other tests may delete what they had written since git listed it.
            with suppress(FileNotFoundError):
                shutil.copyfile(ROOT / name, root / name)
        # Tests of the copy ask git for its files.
        subprocess.run(["git", "init", "--quiet", str(root)], check=True)
        self._before = self._contents()

    def _contents(self) -> dict[str, bytes]:
        files = (
            path for path in self.root.rglob("*") if path.is_file() and not {"__pycache__", ".git"} & {*path.parts}
        )
        found = {str(path.relative_to(self.root)): path.read_bytes() for path in files}
        return {name: content for name, content in found.items() if not name.startswith(".")}

    def apply(self, block: Block) -> None:
        """Write a new file, or insert lines into an existing one."""
        path = self.root / block.path
        if block.anchor is None:
            assert not path.exists(), f"{block.path} exists already"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, encoding="utf-8")
            return
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        at = next((number for number, line in enumerate(lines) if line.startswith(block.anchor)), None)
        assert at is not None, f"{block.path} has no line that starts with {block.anchor!r}"
        # The formatter deletes the empty lines at the end of a page's block.
        text = (
            block.text
            if block.replaces or block.text.endswith("\n\n")
            else block.text + "\n" * _empty_before(lines, at)
        )
        path.write_text("".join([*lines[:at], text, *lines[at + block.replaces :]]), encoding="utf-8")

    def changed(self) -> set[str]:
        """Return the paths that differ from the repository, new ones included."""
        after = self._contents()
        return {name for name in after.keys() | self._before.keys() if after.get(name) != self._before.get(name)}

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a Python module or script in the copy, which takes precedence over what is installed."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "COV_"))}
        environment |= {"PYTHONPATH": os.pathsep.join(map(str, self.path)), "PYTHONDONTWRITEBYTECODE": "1"}
        environment |= self.variables
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=self.root,
            env=environment,
            text=True,
            capture_output=True,
            check=False,
            timeout=_TIMEOUT_SECONDS,
            stdin=subprocess.DEVNULL,
        )

    def must(self, *arguments: str) -> str:
        """Run a module that must succeed; return what it printed."""
        ended = self.run(*arguments)
        assert ended.returncode == 0, f"{arguments}: {ended.stdout[-4000:]} {ended.stderr[-2000:]}"
        return ended.stdout


def _empty_before(lines: list[str], at: int) -> int:
    """Return how many empty lines are directly before a line."""
    return next((number for number, line in enumerate(reversed(lines[:at])) if line != "\n"), at)
