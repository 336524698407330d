"""What a service of a stack says about itself, and helpers for saying it; the files in ``services`` subclass it."""

from __future__ import annotations

import os
import shutil
import signal
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from photo_worker.devkit import probes
from photo_worker.devkit.errors import DataUnwritable, ExternalInvalid, StackError
from photo_worker.devkit.layout import StackPaths
from photo_worker.devkit.plan import ServicePlan
from photo_worker.devkit.ports import LOOPBACK
from photo_worker.devkit.state import StackRecord

# Variables that services inherit from the caller. No others, because a profile, a proxy or an endpoint
# meant for the real cloud must not reach its emulation.
_PASSED = ("PATH", "HOME", "USER", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME")
_PASSED_PREFIXES = ("OCR_", "OMP_", "PHOTO_WORKER_", "LD_LIBRARY_", "DYLD_")
_EMPTY_SECONDS = 10.0
INSTALL_HINT = "Install the development kit: pip install 'photo-worker[devkit]'."


@dataclass(frozen=True)
class Endpoint(ABC):
    """An address that ``--external`` may replace, here that of an AWS service; other services subclass it."""

    name: str
    variable: str
    """The variable by which the worker finds it."""
    container_variable: str
    """The variable of the Compose file by which containers find it."""
    form: str = "http://HOST:PORT"
    schemes: tuple[str, ...] = ("http", "https")

    def split(self, text: str) -> SplitResult:
        """Parse an endpoint of this form; raises ``ValueError``."""
        return urlsplit(text)

    def parse(self, text: str, url: SplitResult) -> str:
        """Return an endpoint as variables have it, after the checks of every endpoint; raises ``ExternalInvalid``."""
        if url.username is not None or url.query or url.fragment:
            form = f"it has to look like {self.form}"
            reason = f"credentials belong in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; {form}"
            raise ExternalInvalid(service=self.name, reason=reason)
        return text.rstrip("/")

    def greeting(self, url: SplitResult) -> bytes:
        """Return bytes that the service responds to."""
        return f"GET / HTTP/1.1\r\nHost: {url.netloc}\r\nConnection: close\r\n\r\n".encode("ascii", "replace")

    @abstractmethod
    def probe_ready(self, env: dict[str, str]) -> dict[str, str]:
        """Do one real round trip, creating what the stack needs; return the variables whose values the service chose.

        Raises ``NotReady``, or a specific error if a retry cannot help.
        """


class Service(ABC):
    """One service of a stack. What is not common to both runtimes says for which it is.

    ``published``, ``containers``, ``container_variables`` and ``restarts_to_reset`` describe the container, whose image
    and command are in the Compose file; ``version``, ``plan``, ``program`` and ``modules`` describe the process.
    """

    name: str
    """The service's name in commands, logs and messages, and in the Compose file."""
    uses: tuple[str, ...]
    """The stack's ports that the service listens on, by use; the first is the one shown."""
    position: int = 100
    """Its place among the services when they are listed."""
    kinds: tuple[str, ...] = ("native", "compose")
    """The kinds of stack that have it."""
    s3_server: str | None = None
    """The value of ``--s3`` that selects it, if it is an S3 server."""
    optional: bool = False
    """Whether it runs only if ``--with`` names it."""
    endpoints: tuple[Endpoint, ...] = ()
    """Its addresses that ``--external`` may replace; if all are, the service does not run."""
    clients: tuple[str, ...] = ()
    """Modules that ``probe_ready`` uses; they are imported while the service starts."""
    modules: Mapping[str, str] = {}
    """The packages of a service that is no program of its own, by module: ``doctor`` looks for them."""
    version_argument: str = "--version"
    """What ``doctor`` runs the program with."""
    install_hint: str = INSTALL_HINT
    """What ``doctor`` advises if the program does not run."""
    restarts_to_reset: bool = False
    """Whether a reset removes its container and volumes, because it cannot delete its data while it runs."""

    @property
    def published(self) -> tuple[str, ...]:
        """The ports that the container publishes, by use."""
        return self.uses

    @property
    def containers(self) -> tuple[str, ...]:
        """The services of the Compose file that it consists of."""
        return (self.name,)

    def chosen(self, s3: str, external: Collection[str], extras: Collection[str]) -> Service | None:
        """Return what runs with this S3 server, these external services and these optional ones, or None."""
        if self.optional:
            return self if self.name in extras else None
        if self.s3_server is not None:
            return self if self.s3_server == s3 and "s3" not in external else None
        return None if self.endpoints and all(one.name in external for one in self.endpoints) else self

    @abstractmethod
    def environment(self, record: StackRecord) -> dict[str, str]:
        """Return the variables by which the application finds the service."""

    def credentials(self, record: StackRecord) -> tuple[str, str] | None:
        """Return the AWS access key and secret that the service wants; None if it takes any."""
        return None

    def container_variables(self, record: StackRecord) -> dict[str, str]:
        """Return the variables of the Compose file that tell containers where this one is."""
        return {}

    def version(self) -> str:
        """Return the product's name and version for display; raises ``StackError`` if only containers run it."""
        raise self._without_process()

    def url(self, record: StackRecord) -> str:
        """Return the service's address without secrets."""
        return f"http://{LOOPBACK}:{record.ports[self.uses[0]]}"

    def program(self) -> Path | None:
        """Return the program that a native stack runs, None if there is none; raises ``ServiceMissing``."""
        return None

    def require(self) -> None:  # noqa: B027 - most services have all that they need
        """Raise ``ServiceMissing`` if this machine cannot run the process; for those that the dev kit lacks."""

    def plan(self, record: StackRecord, paths: StackPaths) -> ServicePlan:
        """Return how to run the service, and create the files that it needs; raises ``StackError``.

        Only a service that no native stack has can go without.
        """
        raise self._without_process()

    def warm_imports(self) -> None:
        """Import what ``probe_ready`` uses, while the service is still starting."""
        for module in self.clients:
            import_module(module)

    @abstractmethod
    def probe_ready(self, record: StackRecord) -> None:
        """Do one real round trip, creating what the stack needs in the service; raises ``NotReady``."""

    def wipe(self, record: StackRecord, paths: StackPaths) -> None:  # noqa: B027 - one without data has nothing to do
        """Delete the service's data while it runs; raises ``ResetFailed`` if only a restart can do that.

        A service whose plan has a directory to ``discard`` was restarted without it before this is called.
        """

    @abstractmethod
    def is_alive(self, record: StackRecord) -> bool:
        """Return whether the service responds to a cheap probe."""

    def unsaved(self, record: StackRecord) -> str | None:
        """Return what a snapshot of the containers would lose, as the end of a sentence, or None."""
        return None

    def _without_process(self) -> StackError:
        return StackError(reason=f"{self.name} runs in containers alone")


def post(service: str, record: StackRecord, path: str) -> None:
    """Post a reset request to a service; raises ``ResetFailed``."""
    from photo_worker.devkit.readiness import ResetFailed

    if not probes.http_ok(record.ports[service], path, method="POST", timeout=_EMPTY_SECONDS):
        raise ResetFailed(f"{service} does not respond to {path}")


def plan_of(
    name: str, argv: list[str], env: dict[str, str], paths: StackPaths, *, cwd: Path, stop_stage: int = 0
) -> ServicePlan:
    """Return the plan of a service that ends on SIGTERM and logs to its own file."""
    return ServicePlan(
        name=name,
        argv=argv,
        env=env,
        cwd=str(cwd),
        log=str(paths.log(name)),
        stop_signal=signal.SIGTERM,
        stop_stage=stop_stage,
    )


def base_environment(paths: StackPaths) -> dict[str, str]:
    """Return the variables of every service: those it inherits from the caller, TMPDIR and no proxy."""
    kept = {name: value for name, value in os.environ.items() if name in _PASSED or name.startswith(_PASSED_PREFIXES)}
    # Services leave files such as pid files in TMPDIR; the system's own is writable by every user.
    return {**kept, "TMPDIR": str(paths.run), "PYTHONUNBUFFERED": "1", "NO_PROXY": "*", "no_proxy": "*"}


def make_directory(directory: Path) -> Path:
    """Make a directory with mode 0700 and return it; raises ``DataUnwritable``."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise DataUnwritable(path=str(directory), reason=error.strerror or str(error)) from error
    return directory


def write_secret(path: Path, secret: str, owner: tuple[int, int] | None) -> None:
    """Replace a file by one of mode 0600 that belongs to ``owner``, a user and a group; raises ``DataUnwritable``."""
    try:
        path.unlink(missing_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as handle:
            handle.write(secret)
        if owner is not None:
            os.chown(path, *owner)
    except OSError as error:
        raise DataUnwritable(path=str(path), reason=error.strerror or str(error)) from error


def package_version(package: str, shown: str) -> str:
    """Return the name to show for a package, followed by its version if it is installed."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return f"{shown} {version(package)}"
    except PackageNotFoundError:
        return shown


def program_of(package: str, name: str) -> Path | None:
    """Return the program of this name in an installed package, else on PATH, or None."""
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        files = distribution(package).files or []
    except PackageNotFoundError:
        files = []
    for file in files:
        if file.name == name:
            program = Path(str(file.locate())).resolve()
            if os.access(program, os.X_OK):
                return program
    found = shutil.which(name)
    return None if found is None else Path(found)
