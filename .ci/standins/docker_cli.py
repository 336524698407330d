"""A wrapper of the few commands of Docker's CLI that building stand-ins needs, with BuildKit."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Debian's CLI, if another one comes first on PATH.
_SYSTEM = "/usr/bin/docker"
# Since this version BuildKit is a plugin; before, it is a part of the engine and needs a variable.
_PLUGIN_SINCE = 23


class DockerError(Exception):
    """A Docker command failed; the text says why."""


@dataclass(frozen=True)
class Found:
    """An image that the engine has."""

    labels: Mapping[str, str]
    pulled: bool
    """Whether the image came from a registry."""


class Docker:
    """Docker's command line."""

    def __init__(self, program: str | None = None) -> None:
        self.program = program or shutil.which("docker") or _SYSTEM

    def run(self, *arguments: str, seconds: float = 60.0, env: Mapping[str, str] | None = None) -> str:
        """Return a command's output; raises ``DockerError`` with its last lines."""
        try:
            done = subprocess.run(
                [self.program, *arguments],
                env={**os.environ, **(env or {})},
                capture_output=True,
                text=True,
                timeout=seconds,
                check=False,
            )
        except OSError as error:
            raise DockerError(f"{self.program} does not run: {error.strerror or error}") from error
        except subprocess.TimeoutExpired as error:
            raise DockerError(f"docker {arguments[0]} did not end within {seconds:g} s") from error
        if done.returncode != 0:
            raise DockerError("\n".join((done.stderr.strip() or done.stdout.strip()).splitlines()[-15:]))
        return done.stdout.strip()

    def image(self, name: str) -> Found | None:
        """Return the engine's image of this name; None if it has none."""
        try:
            told = self.run("image", "inspect", name)
        except DockerError as error:
            if "no such image" in str(error).lower():
                return None
            raise
        first: dict[str, Any] = json.loads(told)[0]
        return Found(first["Config"].get("Labels") or {}, bool(first.get("RepoDigests")))

    def builder(self) -> Docker:
        """Return a CLI that can build with BuildKit; raises ``DockerError`` if there is none."""
        for program in dict.fromkeys((self.program, _SYSTEM)):
            candidate = Docker(program)
            try:
                version = re.match(r"\d+", candidate.run("version", "--format", "{{.Client.Version}}"))
                if version is not None and int(version[0]) < _PLUGIN_SINCE:
                    return candidate
                candidate.run("buildx", "version")
            except DockerError:
                continue
            return candidate
        raise DockerError("no docker here builds with BuildKit; install its plugin buildx (Debian: docker-buildx)")

    def build(
        self,
        name: str,
        context: Path,
        file: Path,
        *,
        arguments: Mapping[str, str],
        labels: Mapping[str, str],
        secrets: Mapping[str, Path] | None = None,
    ) -> None:
        """Build an image with BuildKit."""
        words = ["build", "--progress", "plain", "--tag", name, "--file", str(file)]
        for option, pairs in (("--build-arg", arguments), ("--label", labels)):
            for key, value in pairs.items():
                words += [option, f"{key}={value}"]
        for key, path in (secrets or {}).items():
            words += ["--secret", f"id={key},src={path}"]
        self.run(*words, str(context), seconds=1800, env={"DOCKER_BUILDKIT": "1"})
