"""Report files with content that must not be committed: machine paths, registry hosts, moving tags, long modules.

python scripts/check_committed.py      prints FILE:LINE: REASON; exits 1 if there is any
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LONGEST_MODULE = 500

# Written in parts, so that this file passes its own check.
_HOSTS = (
    ("py", "pi", ".org"), ("python", "hosted", ".org"), ("registry.", "npmjs", ".org"), ("crates", ".io"),
    ("proxy.", "golang", ".org"), ("repo1.", "maven", ".org"), ("deb.", "debian", ".org"),
    ("archive.", "ubuntu", ".com"),
)  # fmt: skip
_REGISTRY = re.compile("|".join(re.escape("".join(parts)) for parts in _HOSTS), re.IGNORECASE)
_MACHINE = re.compile(r"(?<![\w.~/-])/(?:" + "|".join(("ro" + "ot", "wo" + "rk", r"ho" + r"me/\w+")) + r")(?=/)")
_MOVING = re.compile(r"(?:image|FROM|tag)\b.*[:=@ ]['\"]?" + "late" + r"st\b|:" + "late" + r"st\b", re.IGNORECASE)

_LINE_RULES = (
    (_REGISTRY, "names the host of a package registry"),
    (_MACHINE, "names a path of one machine"),
    (_MOVING, "uses a tag that moves; pin a version"),
)


def files(root: Path) -> Iterator[Path]:
    """Yield what git tracks or would add, without what it ignores."""
    # A checkout may belong to another user, as in a container; git reads only its list of files.
    command = ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=root, check=True, capture_output=True).stdout
    for name in sorted(set(listed.decode().split("\0")) - {""}):
        path = root / name
        if path.is_file() and not path.is_symlink():
            yield path


def problems_in(name: str, text: str) -> Iterator[str]:
    """Yield ``FILE:LINE: REASON`` for one text file."""
    lines = text.splitlines()
    for number, line in enumerate(lines, start=1):
        for pattern, reason in _LINE_RULES:
            if pattern.search(line):
                yield f"{name}:{number}: {reason}"
    if name.endswith(".py") and len(lines) > LONGEST_MODULE:
        yield f"{name}:{len(lines)}: a module has at most {LONGEST_MODULE} lines; split it by purpose"


def problems(root: Path) -> Iterator[str]:
    """Yield the problems of every text file of a repository."""
    for path in files(root):
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        yield from problems_in(str(path.relative_to(root)), text)


def main() -> None:
    """Print the problems; exit with 1 if there are any."""
    found = list(problems(ROOT))
    print("\n".join(found) if found else "nothing that may not be committed")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
