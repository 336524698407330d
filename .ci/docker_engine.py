"""Run a command with a Docker engine: the running one, or one that is started for it and stopped again.

    python .ci/docker_engine.py -- docker info        run a command with an engine
    python .ci/docker_engine.py --install -- ...      install what is missing first (Debian, as root)

An engine is started only as root, with the engine's default directory, and never in addition to another one: two in
one network undo each other's bridge. Exit codes: the command's; 3 if no engine can run here, with the reason.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

NO_ENGINE = 3
# Debian's packages by the program that each provides.
PACKAGES = {"dockerd": "docker.io", "docker": "docker.io", "iptables": "iptables", "mmdebstrap": "mmdebstrap"}
_START_SECONDS = 60.0
_STOP_SECONDS = 30.0
_SHOWN_LINES = 5


class NoEngine(Exception):
    """No engine can run here; the text says why."""


def responding() -> str | None:
    """Return the version of the running engine; None if none responds."""
    docker = shutil.which("docker")
    if docker is None:
        return None
    try:
        done = subprocess.run(
            [docker, "version", "--format", "{{.Server.Version}}"],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None


def missing() -> list[str]:
    """Return the missing ones of the programs that an engine and the images need."""
    directories = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
    return [program for program in PACKAGES if shutil.which(program, path=directories) is None]


def install() -> None:
    """Install the Debian packages of missing programs and print them; raises ``NoEngine`` if that is impossible."""
    packages = sorted({PACKAGES[program] for program in missing()})
    if not packages:
        return
    apt = shutil.which("apt-get")
    if apt is None or os.geteuid() != 0:
        raise NoEngine(f"{', '.join(packages)} would have to be installed, which takes Debian's apt-get and root")
    sys.stderr.write(f"installing {', '.join(packages)}\n")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for words in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", *packages]):
        done = subprocess.run([apt, *words], env=environment, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            last = (done.stderr or done.stdout).strip().splitlines()[-1:]
            raise NoEngine(f"apt-get {words[0]} failed: {' '.join(last)}")


@contextmanager
def engine() -> Iterator[str]:
    """Yield a running engine's version; start and stop one if none responds. Raises ``NoEngine``."""
    version = responding()
    if version is not None:
        yield version
        return
    with _started() as version:
        yield version


@contextmanager
def _started() -> Iterator[str]:
    if "DOCKER_HOST" in os.environ:
        raise NoEngine(f"nothing responds at DOCKER_HOST={os.environ['DOCKER_HOST']}")
    if sys.platform != "linux":
        raise NoEngine("no Docker engine responds; start Docker Desktop, or what you use in its place")
    lacking = [program for program in ("dockerd", "docker", "iptables") if program in missing()]
    if lacking:
        raise NoEngine(f"no Docker engine responds, and there is no {' and no '.join(lacking)}")
    if os.geteuid() != 0:
        raise NoEngine("no Docker engine responds, and only root can start one")
    directories = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
    with tempfile.TemporaryDirectory(prefix="photo-worker-engine-") as temporary:
        work = Path(temporary)
        log = work / "log"
        with log.open("wb") as output:
            # In its own session, so that a Ctrl-C reaches the programs that use containers before the engine.
            daemon = subprocess.Popen(
                ["dockerd", "--exec-root", str(work / "exec"), "--pidfile", str(work / "pid")],
                env={**os.environ, "PATH": directories},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            yield _wait(daemon, log)
        finally:
            _stop(daemon)


def _wait(daemon: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        version = responding()
        if version is not None:
            return version
        if daemon.poll() is not None:
            break
        time.sleep(0.1)
    last = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-_SHOWN_LINES:]
    what = f"ended with code {daemon.returncode}" if daemon.poll() is not None else "does not respond"
    raise NoEngine("\n  ".join([f"dockerd was started and {what}:", *last]))


def _stop(daemon: subprocess.Popen[bytes]) -> None:
    """Stop the engine, which stops its running containers."""
    with contextlib.suppress(ProcessLookupError):
        daemon.terminate()
    try:
        daemon.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        daemon.kill()
        daemon.wait()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command with an engine; return its exit code, or 3 if no engine can run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--install", action="store_true", help="install what is missing (Debian, as root)")
    parser.add_argument("command", nargs="+")
    chosen = parser.parse_args(arguments)
    # On SIGTERM the engine ends too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        if chosen.install:
            install()
        with engine():
            return subprocess.run(chosen.command, check=False).returncode
    except NoEngine as error:
        sys.stderr.write(f"{error}\n")
        return NO_ENGINE


if __name__ == "__main__":
    sys.exit(main())
