"""The emulator as a process: its options, its start message and its shutdown.

S3 and SNS are those that AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL_SNS and the other standard variables name.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

from textract_local.errors import AddressUnusable, DataUnwritable, ExtraMissing, TextractLocalError
from textract_local.origins import OriginRules
from textract_local.server.options import DEFAULT_HOST, DEFAULT_PORT, MOST_OPEN_JOBS
from textract_local.server.recognition import make
from textract_local.server.spawning import OWN_READER, ReadingLimits

if TYPE_CHECKING:
    import uvicorn

    from textract_local.server.recognition import PageRecogniser
    from textract_local.server.server import Emulator

logger = logging.getLogger(__name__)

# A reading process holds some 300 MB; a laptop has no memory for more of them.
MOST_PROCESSES = 8

_STATE_VARIABLE = "XDG_STATE_HOME"

# Clients reuse connections: if the server closes one at that moment, it looks like a network failure.
_KEEP_ALIVE_SECONDS = 300
# Together less than the two seconds within which a signal ends the process.
_SHUTDOWN_SECONDS = 1
_CLOSE_SECONDS = 0.7


@dataclass(frozen=True)
class EmulatorOptions:
    """The options of the emulator. Port 0 takes a free one; without ``data`` the port determines the directory.

    ``reader`` is the factory of the page reader, as ``module:name``, and ``bounds`` limits its cost. More jobs in
    progress than ``most_open_jobs`` are refused. ``hosts`` are the names, besides loopback's and ``host``, under
    which clients may call the emulator; an empty ``host`` is refused. ``rules`` makes the rules that refuse any other.
    """

    host: str = DEFAULT_HOST
    port: int = DEFAULT_PORT
    data: Path | None = None
    processes: int = 0
    reader: str = OWN_READER
    bounds: ReadingLimits | None = None
    most_open_jobs: int = MOST_OPEN_JOBS
    hosts: tuple[str, ...] = ()
    rules: Callable[[tuple[str, ...]], OriginRules] = OriginRules

    @property
    def most_processes(self) -> int:
        """How many pages are read at once: ``processes``, or one for each core that this process may use."""
        return self.processes or default_processes()


def run(options: EmulatorOptions, first: subprocess.Popen[bytes] | None = None) -> NoReturn:
    """Serve until SIGTERM or SIGINT, which end the process with status 0 within two seconds.

    ``first`` is a process that ``spawn`` has started for the options' reader and bounds.

    Raises ``AddressUnusable``, ``DataInUse``, ``DataUnwritable`` and ``DataMismatch``.
    """
    ending = _Ending()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, ending)
    bound = listen(options.host, options.port)
    with bound, _data_directory(options, bound) as data:
        logger.info("%s", greeting(bound))
        try:
            recogniser = make(
                data,
                processes=options.most_processes,
                reader=options.reader,
                bounds=options.bounds,
                first=first,
            )
        except OSError as error:
            raise DataUnwritable(path=str(error.filename or data), reason=error.strerror or str(error)) from error
        loop = asyncio.new_event_loop()
        try:
            loop.run_until_complete(_serve(recogniser, data, options, bound, ending))
        except TextractLocalError:
            # Otherwise Python prints a warning about the open loop beside the error message.
            loop.close()
            raise
    logging.shutdown()
    # Python would wait for threads that are in a call; nothing in them needs to be saved.
    os._exit(0)


def greeting(bound: socket.socket) -> str:
    """Return the first line of the log: the address, and the variable that an SDK needs."""
    host, port = bound.getsockname()[:2]
    reached = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    url = f"http://[{reached}]:{port}" if ":" in reached else f"http://{reached}:{port}"
    return f"listening on {host}:{port}; for an AWS SDK or the AWS CLI: export AWS_ENDPOINT_URL_TEXTRACT={url}"


def default_processes() -> int:
    """Return the number of cores that this process may use, at most ``MOST_PROCESSES``."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(usable, MOST_PROCESSES))


def default_data(port: int) -> Path:
    """Return the data directory for this port, below the user's state directory."""
    state = os.environ.get(_STATE_VARIABLE, "")
    return (Path(state) if state else Path.home() / ".local" / "state") / "textract-local" / str(port)


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens on a port, or on a free one for 0. Raises ``AddressUnusable``."""
    if not host:
        # The socket would listen on all addresses, and every machine of the network could reach it.
        reason = "the host is empty; 0.0.0.0 stands for all addresses"
        raise AddressUnusable(host="''", port=port, reason=reason).from_option()
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        # With an explicit protocol, asyncio sets TCP_NODELAY. Otherwise the second half of a response waits 40 ms
        # for the client to acknowledge the first.
        bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind((host, port))
            # From here on clients wait instead of being refused, while the server is still starting.
            bound.listen()
        except BaseException:
            bound.close()
            raise
    except (OSError, OverflowError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        unusable = AddressUnusable(host=host, port=port, reason=reason)
        # If the host name is unknown or invalid, the error is attributed to --host.
        raise (unusable.from_option() if isinstance(error, socket.gaierror | UnicodeError) else unusable) from error
    return bound


@contextlib.contextmanager
def _data_directory(options: EmulatorOptions, bound: socket.socket) -> Iterator[Path]:
    """Give the data directory: a temporary one if the port is 0 and none was given."""
    if options.data is None and options.port == 0:
        with tempfile.TemporaryDirectory(prefix="textract-local-", ignore_cleanup_errors=True) as passing:
            yield Path(passing)
        return
    yield options.data.absolute() if options.data is not None else default_data(bound.getsockname()[1])


async def _serve(
    recogniser: PageRecogniser, data: Path, options: EmulatorOptions, bound: socket.socket, ending: _Ending
) -> None:
    emulator: Emulator | None = None
    try:
        # The first reading process loads its engine meanwhile.
        server, made = _made(recogniser, data, options)
        await made.open()
        emulator = made
        ending.is_left_to_others = True
        await server.serve(sockets=[bound])
    finally:
        closing = recogniser.close() if emulator is None else emulator.close()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(closing, _CLOSE_SECONDS)


def _made(recogniser: PageRecogniser, data: Path, options: EmulatorOptions) -> tuple[uvicorn.Server, Emulator]:
    try:
        import uvicorn

        from textract_local.server.heads import BoundedHeads
        from textract_local.server.server import Emulator
    except ImportError as error:
        raise ExtraMissing(reason=str(error)) from error
    rules = options.rules((*options.hosts, *own_names(options.host)))
    emulator = Emulator(recogniser, data, most_open_jobs=options.most_open_jobs, rules=rules)
    config = uvicorn.Config(
        emulator.app,
        loop="asyncio",
        http=BoundedHeads,
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
    )
    return uvicorn.Server(config), emulator


def own_names(host: str) -> tuple[str, ...]:
    """Return the host name under which clients may call: the listening address, unless it means all addresses.

    Browsers connect to 0.0.0.0 as to loopback, so any web page could send requests with that name.
    """
    with contextlib.suppress(ValueError):
        if ip_address(host).is_unspecified:
            return ()
    return (f"[{host}]" if ":" in host else host,)


class _Ending:
    """Signal handler: exits at once before uvicorn serves; later uvicorn's handlers act, and re-raise the signal."""

    def __init__(self) -> None:
        self.is_left_to_others = False

    def __call__(self, _: int, __: FrameType | None) -> None:
        if not self.is_left_to_others:
            sys.exit(0)


def configure_logging() -> None:
    """Log to standard error."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")
