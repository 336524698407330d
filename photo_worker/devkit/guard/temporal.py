"""`python -m photo_worker.devkit.guard.temporal`: Temporal's development server with the origin rules for its UI.

    python -m photo_worker.devkit.guard.temporal --ui-port 15001 --stack 15000 -- temporal server start-dev ...

The server itself checks no Origin, and checks Host in a part of its HTTP API alone: not for Nexus tasks, not for its
UI and not for its metrics. None of them can be switched off. They therefore listen on ports that browsers refuse to
connect to from any page (Fetch Standard, "bad port"), and users reach the UI through a forwarder on the documented
port. This process becomes the server, whose pid, signals and exit code are the service's; the forwarder is in its
process group, ends with it, and is restarted if it dies.
"""

from __future__ import annotations

import argparse
import os
import socket
import sys
import time
from collections.abc import Iterator, Sequence

LOOPBACK = "127.0.0.1"
# The unprivileged ports of the Fetch Standard's list without that of X servers, then some privileged ones, which root
# and the users of most containers may listen on. A stack takes two on 127.0.0.1.
_UNPRIVILEGED = (6667, 6666, 6668, 6669, 6665, 6697, 6679, 10080, 4190, 3659, 1719, 1720, 1723, 6566)
_UNPRIVILEGED_AND_KNOWN = (5060, 5061, 4045, 2049)
_PRIVILEGED = (77, 87, 95, 526, 530, 531, 532, 540, 556, 601)
BAD_PORTS = (*_UNPRIVILEGED, *_UNPRIVILEGED_AND_KNOWN, *_PRIVILEGED)
_BIND_SECONDS = 3.0
# The delay before a dead forwarder is restarted: one that cannot start must not keep a core busy.
_AGAIN_SECONDS = 0.2


class NoBadPort(Exception):
    """No port that browsers refuse is free. The text is shown to the user."""


def main() -> None:
    """Reserve the ports, start the forwarder, and become the server."""
    parser = argparse.ArgumentParser(prog="python -m photo_worker.devkit.guard.temporal")
    parser.add_argument("--ui-port", type=int, required=True, help="where people reach the UI")
    parser.add_argument("--stack", type=int, required=True, help="a number that no other stack of this machine has")
    parser.add_argument("program", nargs="+", help="the server and its arguments")
    given = parser.parse_args()
    try:
        listening = _listen(given.ui_port)
        # The server holds them as long as it lives, so that no other stack takes them.
        held = [reserve(given.stack, host) for host in (ui_host(given.stack), LOOPBACK, LOOPBACK)]
        (ui_address, ui_port), (_, http_port), (_, metrics_port) = (each.getsockname() for each in held)
    except (NoBadPort, OSError) as error:
        sys.exit(f"Temporal, with its UI on port {given.ui_port}, cannot be served: {error}")
    _fork_forwarder(listening, (ui_address, ui_port))
    for each in held:
        each.set_inheritable(True)
    options = ["--ui-ip", ui_address, "--ui-port", str(ui_port)]
    options += ["--http-port", str(http_port), "--metrics-port", str(metrics_port)]
    os.execv(given.program[0], [*given.program, *options])  # noqa: S606 - no shell is wanted


def ui_host(stack: int) -> str:
    """Return the loopback address on which the server's own UI listens: on Linux, each stack has its own."""
    return f"127.83.{stack >> 8}.{stack & 255}" if sys.platform == "linux" else LOOPBACK


def reserve(stack: int, host: str = LOOPBACK) -> socket.socket:
    """Reserve a port of ``host`` that browsers refuse; it is held as long as the returned socket is open.

    The socket is a UDP socket, which leaves the TCP port of the same number to the server. Raises ``NoBadPort``.
    """
    for port in _rotated(BAD_PORTS, stack):
        held = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            held.bind((host, port))
            with socket.socket() as tried:
                tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                tried.bind((host, port))
                tried.listen()
        except OSError:
            held.close()
            continue
        return held
    raise NoBadPort(
        f"no port is left that browsers refuse ({', '.join(map(str, sorted(BAD_PORTS)))}); end another stack first"
    )


def _rotated(ports: Sequence[int], by: int) -> Iterator[int]:
    first = by // 20 % len(ports)
    yield from ports[first:]
    yield from ports[:first]


def _listen(port: int) -> socket.socket:
    """Return a listening socket; retries, as the forwarder of a server that was just killed may still be ending."""
    deadline = time.monotonic() + _BIND_SECONDS
    while True:
        try:
            return socket.create_server((LOOPBACK, port))
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _fork_forwarder(listening: socket.socket, target: tuple[str, int]) -> None:
    """Start the forwarder, which ends after this process; close its socket in this process.

    A monitor process between the two restarts the forwarder: the server, which this process becomes, would not notice
    that the forwarder has died, and its UI would stay unreachable.
    """
    life, mine = os.pipe()
    if os.fork() > 0:
        listening.close()
        os.close(life)
        os.set_inheritable(mine, True)
        return
    os.close(mine)
    while (forwarder := os.fork()) > 0:
        if os.waitpid(forwarder, 0)[1] == 0:
            # The forwarder ended because the server did.
            os._exit(0)
        time.sleep(_AGAIN_SECONDS)
    _forward(life, listening, target)


def _forward(life: int, listening: socket.socket, target: tuple[str, int]) -> None:
    # Imported here, so that the server does not wait for it.
    import asyncio

    from photo_worker.devkit.guard.proxy import limits_here, serve
    from photo_worker.devkit.guard.rules import ServiceRules, allowed_hosts

    async def forward() -> None:
        asyncio.get_running_loop().add_reader(life, os._exit, 0)
        await serve(listening, target, ServiceRules(allowed_hosts(os.environ), same_origin=True), limits_here())

    asyncio.run(forward())


if __name__ == "__main__":
    main()
