"""Runs commands in a network namespace and reports every packet that would leave the machine.

Run as root, as a program, in a separate network and mount namespace: the arguments are a directory for temporary
files, and the commands as JSON, a list of lists. The output is JSON: control, responses and packets.
"""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

_DEVICE = "out0"
_GATEWAY, _GATEWAY_6, _GATEWAY_MAC = "10.255.0.2", "fd00::2", "02:00:00:00:00:02"
_ALL, _IPV4, _IPV6, _ICMPV6 = 0x0003, 0x0800, 0x86DD, 58
_CONTROL_SECONDS = 10.0


def main() -> None:
    """Set up the network, run the commands, and print the packets that were seen."""
    directory, commands = Path(sys.argv[1]), json.loads(sys.argv[2])
    _make_a_way_out(directory)
    packets: list[str] = []
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ALL)) as tap:
        tap.bind((_DEVICE, _ALL))
        tap.settimeout(0.1)
        over = threading.Event()
        thread = threading.Thread(target=_count, args=(tap, packets, over))
        thread.start()
        try:
            control = _provoke(packets)
            responses = [_run(command) for command in commands]
        finally:
            over.set()
            thread.join()
    json.dump({"control": control, "responses": responses, "packets": packets}, sys.stdout)


def _make_a_way_out(directory: Path) -> None:
    """Make a network interface with a gateway and a name server behind it, so that packets really leave."""
    _ip("link", "set", "lo", "up")
    try:
        _ip("link", "add", _DEVICE, "type", "dummy")
    except subprocess.CalledProcessError:
        # Not every kernel has the dummy driver; one end of a veth pair works too.
        _ip("link", "add", _DEVICE, "type", "veth", "peer", "name", "out1")
        _ip("link", "set", "out1", "up")
    _ip("addr", "add", "10.255.0.1/24", "dev", _DEVICE)
    _ip("link", "set", _DEVICE, "up")
    _ip("neigh", "add", _GATEWAY, "lladdr", _GATEWAY_MAC, "dev", _DEVICE, "nud", "permanent")
    _ip("route", "add", "default", "via", _GATEWAY)
    # A kernel may have no IPv6; then nothing can leave that way.
    with contextlib.suppress(subprocess.CalledProcessError):
        _ip("-6", "addr", "add", "fd00::1/64", "dev", _DEVICE, "nodad")
        _ip("-6", "neigh", "add", _GATEWAY_6, "lladdr", _GATEWAY_MAC, "dev", _DEVICE, "nud", "permanent")
        _ip("-6", "route", "add", "default", "via", _GATEWAY_6)
    # With a name server on loopback, lookups would not leave this namespace and not be seen.
    resolver = directory / "resolv.conf"
    resolver.write_text(f"nameserver {_GATEWAY}\noptions timeout:1 attempts:1\n")
    subprocess.run(["mount", "--bind", str(resolver), "/etc/resolv.conf"], check=True)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


def _count(tap: socket.socket, packets: list[str], over: threading.Event) -> None:
    while not over.is_set():
        try:
            frame, (_, _, kind, *_) = tap.recvfrom(65_535)
        except TimeoutError:
            continue
        if kind == socket.PACKET_OUTGOING and (said := _describe(frame)):
            packets.append(said)


def _describe(frame: bytes) -> str | None:
    """Return a packet's destination; None for the kernel's own neighbour discovery."""
    (kind,) = struct.unpack(">H", frame[12:14])
    packet = frame[14:]
    if kind == _IPV4:
        ports = packet[(packet[0] & 15) * 4 :]
        return f"{socket.inet_ntop(socket.AF_INET, packet[16:20])} port {int.from_bytes(ports[2:4])}"
    if kind == _IPV6:
        # Multicast listener reports have a hop-by-hop header, number 0.
        return None if packet[6] in {_ICMPV6, 0} else socket.inet_ntop(socket.AF_INET6, packet[24:40])
    return None


def _provoke(packets: list[str]) -> list[str]:
    """Send a packet and look a name up, and return the packets seen: proof that the tap works."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"out", ("192.0.2.1", 9))
    with contextlib.suppress(OSError):
        socket.getaddrinfo("example.invalid", 80)
    deadline = time.monotonic() + _CONTROL_SECONDS
    wanted = {"192.0.2.1 port 9", f"{_GATEWAY} port 53"}
    while not wanted <= set(packets) and time.monotonic() < deadline:
        time.sleep(0.05)
    seen = sorted(set(packets))
    packets.clear()
    return seen


def _run(command: list[str]) -> dict[str, Any]:
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    return {"code": done.returncode, "stdout": done.stdout, "stderr": done.stderr}


if __name__ == "__main__":
    main()
