"""A small checkout for tests of dev.py, which installs it with pip from local wheels, without a network."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]

# A minimal build backend: its editable install puts the checkout on the path.
_BACKEND = """
import os, zipfile

def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    name = "photo_worker-1.0-py3-none-any.whl"
    info = "photo_worker-1.0.dist-info/"
    files = {
        "tiny_checkout.pth": os.getcwd(),
        info + "METADATA": "Metadata-Version: 2.1\\nName: photo-worker\\nVersion: 1.0\\n",
        info + "WHEEL": "Wheel-Version: 1.0\\nGenerator: test\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
        info + "entry_points.txt": "[console_scripts]\\nphoto-worker = tiny_app:main\\nnox = tiny_app:main\\n",
    }
    with zipfile.ZipFile(os.path.join(wheel_directory, name), "w") as wheel:
        for path, text in files.items():
            wheel.writestr(path, text)
        wheel.writestr(info + "RECORD", "".join(f"{path},,\\n" for path in [*files, info + "RECORD"]))
    return name
"""
_APP = """
import os, sys
import tinydep

def main():
    print(os.path.basename(sys.argv[0]), *sys.argv[1:])
    print("tinydep", tinydep.VERSION, "prefix", sys.prefix)
"""
_PROJECT = """
[build-system]
requires = []
build-backend = "tiny_backend"
backend-path = ["."]

[project]
name = "photo-worker"
version = "1.0"
"""


@dataclass
class Checkout:
    """A directory with dev.py, a project, and requirements that a directory of wheels satisfies."""

    root: Path

    @property
    def venv(self) -> Path:
        return self.root / ".venv"

    @property
    def marker(self) -> Path:
        return self.venv / "photo-worker-env.json"

    def require(self, version: str, *, file: str = "requirements-devkit.txt", digest: str = "") -> None:
        """Pin a release of the only dependency, and build its wheel."""
        wheel = self.root / "wheels" / f"tinydep-{version}-py3-none-any.whl"
        wheel.parent.mkdir(exist_ok=True)
        info = f"tinydep-{version}.dist-info/"
        files = {
            "tinydep.py": f"VERSION = {version!r}\n",
            info + "METADATA": f"Metadata-Version: 2.1\nName: tinydep\nVersion: {version}\n",
            info + "WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        }
        files[info + "RECORD"] = "".join(f"{path},,\n" for path in [*files, info + "RECORD"])
        with zipfile.ZipFile(wheel, "w") as archive:
            for path, text in files.items():
                # A fixed time stamp: a wheel that is built twice has the same hash.
                archive.writestr(zipfile.ZipInfo(path), text)
        digest = digest or hashlib.sha256(wheel.read_bytes()).hexdigest()
        pin = f"tinydep=={version} --hash=sha256:{digest}\n"
        (self.root / file).write_text("--no-index\n--find-links wheels\n" + pin, encoding="utf-8")

    def run(self, *arguments: str, launcher: Path | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run dev.py as a user does, with PATH, HOME and the given variables alone."""
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.root / "home"), **variables}
        command = [sys.executable, *([str(launcher)] if launcher else []), str(self.root / "dev.py"), *arguments]
        return subprocess.run(
            command, env=environment, text=True, capture_output=True, check=False, timeout=100, stdin=subprocess.DEVNULL
        )


def make_checkout(root: Path) -> Checkout:
    """Create a checkout in a new directory, with release 1.0 of the dependency."""
    root.mkdir()
    (root / "home").mkdir()
    shutil.copy(ROOT / "dev.py", root / "dev.py")
    (root / "tiny_backend.py").write_text(_BACKEND, encoding="utf-8")
    (root / "tiny_app.py").write_text(_APP, encoding="utf-8")
    (root / "pyproject.toml").write_text(_PROJECT, encoding="utf-8")
    (root / "noxfile.py").touch()
    made = Checkout(root)
    made.require("1.0")
    made.require("1.0", file="requirements-dev.txt")
    return made
