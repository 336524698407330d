#!/usr/bin/env python3
"""From a bare machine to a running photo-worker, with Python alone.

    python3 dev.py demo [ARGS...]   start the local stack and process the fixture photos
    python3 dev.py test [ARGS...]   run the test suite; ARGS go to pytest
    python3 dev.py run ARGS...      run any photo-worker command
    python3 dev.py nox ARGS...      run any nox session

The first call makes .venv beside this file and installs the hash-pinned requirements
into it, wheels only; later calls find it up to date and start at once, offline.
The distributions in packages/ and the project itself are installed as editable.
Nothing needs root, and nothing is installed outside .venv.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

OLDEST, NEWEST_TESTED = (3, 11), (3, 14)
ROOT = Path(__file__).resolve().parent
DEMO, DEVELOPMENT = "requirements-devkit.txt", "requirements-dev.txt"


class SetupError(Exception):
    """The environment cannot be made; the text says what to do."""


def say(text: str, end: str = "\n") -> None:
    """Report progress on standard error, so that a command's output stays clean."""
    print(f"dev.py: {text}", end=end, file=sys.stderr, flush=True)


class Environment:
    """The .venv of one checkout, and the marker file in it that records its contents.

    The marker exists only while the environment is complete: it is removed before each
    change and written after it, so that an interrupted install is detected and repeated.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.venv = root / ".venv"
        self.bin = self.venv / "bin"
        self.python = self.bin / "python"
        self.marker = self.venv / "photo-worker-env.json"
        self.started = self.venv / "photo-worker-env.started"

    def wanted(self, requirements: str) -> dict[str, object]:
        """Return the contents that the checkout requires now."""
        names = [requirements, "pyproject.toml", *(f"{package}/pyproject.toml" for package in self.packages())]
        files = {name: hashlib.sha256((self.root / name).read_bytes()).hexdigest() for name in names}
        return {"python": list(sys.version_info[:2]), "base": sys.base_prefix, "venv": str(self.venv), "files": files}

    def packages(self) -> list[str]:
        """Return the distributions in packages/ by their paths from the checkout's root."""
        return [f"packages/{found.parent.name}" for found in sorted(self.root.glob("packages/*/pyproject.toml"))]

    def recorded(self) -> dict[str, object]:
        """Return the recorded contents of the environment; empty if it is incomplete."""
        try:
            found = json.loads(self.marker.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) and self.python.exists() else {}

    def ensure(self, requirements: str) -> None:
        """Make, update or repair the environment unless it is up to date."""
        found = self.recorded()
        if DEVELOPMENT in str(found.get("files")):
            requirements = DEVELOPMENT  # it holds all that the demo needs, so it is kept whole
        wanted = self.wanted(requirements)
        if found == wanted:
            return
        if not found or any(found.get(key) != wanted[key] for key in ("python", "base", "venv")):
            self.create()
        self.marker.unlink(missing_ok=True)
        pip = self.pip()
        lines = (self.root / requirements).read_text(encoding="utf-8").splitlines()
        total = sum("==" in line for line in lines)
        say(f"installing {requirements} (the first time downloads some hundred megabytes)")
        self.install(pip, total, "--require-hashes", "--only-binary", ":all:", "-r", requirements)
        editable = [word for name in [*self.packages(), "."] for word in ("--editable", name)]
        self.install(pip, 1, "--no-build-isolation", *editable)
        part = self.marker.with_suffix(".part")
        part.write_text(json.dumps(wanted), encoding="utf-8")
        part.replace(self.marker)
        say("the environment is ready")

    def create(self) -> None:
        """Replace .venv by an empty virtual environment."""
        has_pip, has_ensurepip, has_venv = (importlib.util.find_spec(name) for name in ("pip", "ensurepip", "venv"))
        if not has_venv or not (has_pip or has_ensurepip):
            raise SetupError(
                f"{sys.executable} has neither pip nor a complete venv. Install one of them and try again:\n"
                "  Debian, Ubuntu: apt install python3-venv\n"
                "  Fedora:         dnf install python3-pip\n"
                "  macOS:          brew install python"
            )
        if self.venv.is_symlink() or self.venv.exists():
            ours = (self.venv / "pyvenv.cfg").exists() or self.started.exists()
            if self.venv.is_symlink() or not self.venv.is_dir() or not (ours or not any(self.venv.iterdir())):
                raise SetupError(f"{self.venv} is no virtual environment of this checkout. Move it away and try again.")
            say("removing the old .venv")
            shutil.rmtree(self.venv)
        self.venv.mkdir()
        self.started.touch()
        say(f"making .venv with Python {sys.version.split()[0]}")
        # Debian without python3-venv has no ensurepip: the system's pip installs into the environment then.
        pipless = [] if has_ensurepip else ["--without-pip"]
        done = subprocess.run(
            [sys.executable, "-I", "-m", "venv", *pipless, str(self.venv)], check=False, capture_output=True, text=True
        )
        if done.returncode:
            raise SetupError(f"python -m venv failed:\n{done.stdout}{done.stderr}")

    def pip(self) -> list[str]:
        """Return the command that runs pip on the environment: its own pip, or the system's."""
        inside = [str(self.python), "-I", "-m", "pip"]
        if subprocess.run([*inside, "--version"], check=False, capture_output=True).returncode == 0:
            return inside
        return [sys.executable, "-I", "-m", "pip", "--python", str(self.python)]

    def install(self, pip: list[str], total: int, *arguments: str) -> None:
        """Run pip install with a line of progress; if it fails, raise ``SetupError`` with the end of its output."""
        # A user's settings that redirect installs (user=true, target, prefix) would install outside of .venv.
        moved = {"PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PYTHONHOME", "PYTHONPATH"}
        environment = {name: value for name, value in os.environ.items() if name not in moved}
        environment.update(PIP_USER="0", PIP_DISABLE_PIP_VERSION_CHECK="1", PYTHONUNBUFFERED="1")
        command = [*pip, "install", "--no-input", "--no-deps", "--progress-bar", "off", *arguments]
        tail: list[str] = []
        live, seen = sys.stderr.isatty(), 0
        with subprocess.Popen(
            command, cwd=self.root, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        ) as process:
            for line in process.stdout or ():
                tail = [*tail[-30:], line]
                if line.startswith("Collecting "):
                    seen += 1
                    if live or seen % 20 == 0:
                        name = line.split()[1]
                        say(f"fetching {seen} of at most {total}: {name:50.50}", "\r" if live else "\n")
                elif line.startswith("Installing collected") and seen > 1:
                    say(f"unpacking {seen} packages{'':50}")
        if process.returncode:
            newer = sys.version_info[:2] > NEWEST_TESTED
            hint = "This Python is newer than the tested ones: try python3.13 dev.py. " if newer else ""
            raise SetupError(f"pip failed:\n{''.join(tail)}{hint}The next call starts over.")


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Hold the lock under which one dev.py at a time changes the environment; it ends with the process."""
    with Path(__file__).open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another dev.py that prepares the environment")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def plan(arguments: list[str]) -> tuple[str, list[str]]:
    """Return the requirements file and the argument list of the program for a command line."""
    command, rest = arguments[0], arguments[1:]
    if command == "demo":
        return DEMO, ["photo-worker", "demo", *rest]
    if command == "run":
        return DEMO, ["photo-worker", *rest]
    nox = ["nox", "--noxfile", str(ROOT / "noxfile.py")]
    if command == "test":
        return DEVELOPMENT, [*nox, "--session", "tests", "--", *rest]
    if command == "nox":
        return DEVELOPMENT, [*nox, *rest]
    raise SetupError(f"there is no command {command!r}; known are demo, test, run and nox.")


def main(arguments: list[str]) -> int:
    """Prepare the environment and replace this process by the requested program."""
    if not arguments or arguments[0] in {"-h", "--help", "help"}:
        print((__doc__ or "").strip())
        return 0 if arguments else 2
    if sys.version_info < OLDEST:
        asked = ".".join(map(str, OLDEST))
        others = [f"python3.{minor}" for minor in (13, 12, 11) if shutil.which(f"python3.{minor}")]
        advice = f"Run: {others[0]} dev.py {' '.join(arguments)}" if others else "Install it and try again."
        say(f"Python {asked} or newer is needed; {sys.executable} is {sys.version.split()[0]}. {advice}")
        return 1
    try:
        requirements, program = plan(arguments)
    except SetupError as error:
        say(str(error))
        return 2
    environment = Environment(ROOT)
    if Path(sys.prefix) == environment.venv:
        # An interpreter cannot replace the environment it runs in.
        base = getattr(sys, "_base_executable", None) or sys.executable
        os.execv(base, [base, __file__, *arguments])  # noqa: S606
    try:
        with alone():
            environment.ensure(requirements)
    except SetupError as error:
        say(str(error))
        return 1
    except OSError as error:
        say(f"{error.filename or environment.venv}: {error.strerror or error}. The checkout has to be writable.")
        return 1
    return become(environment, program)


def become(environment: Environment, program: list[str]) -> NoReturn:
    """Replace this process by a program of the environment."""
    path = os.pathsep.join([str(environment.bin), os.environ.get("PATH", os.defpath)])
    variables = {**os.environ, "VIRTUAL_ENV": str(environment.venv), "PATH": path}
    variables.pop("PYTHONHOME", None)
    os.execve(environment.bin / program[0], program, variables)  # noqa: S606


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
