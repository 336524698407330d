from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from photo_worker.devkit import ports
from photo_worker.devkit.errors import NoFreePorts, PortTaken
from photo_worker.devkit.ports import StackPorts, derived_base, free_base, is_taken, owner_of, require_free

USES = ["temporal", "temporal-ui", "postgres", "aws", "textract"]


@given(
    st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\0"), min_size=1), st.from_regex(r"[a-z]{1,9}")
)
def test_derived_base_is_stable_and_below_ephemeral_ranges(path: str, name: str) -> None:
    base = derived_base(Path("/") / path, name)
    assert base == derived_base(Path("/") / path, name)
    assert base >= 15_000
    assert base + 9 < 32_768
    assert base % 10 == 0


def test_derived_base_differs_by_worktree_and_name() -> None:
    bases = {derived_base(Path(f"/src/w{number}"), name) for number in range(20) for name in ("dev", "ci")}
    assert len(bases) > 35


def test_stack_ports_are_distinct_and_inside_block() -> None:
    block = StackPorts(20_000)
    chosen = {block[use] for use in USES}
    assert len(chosen) == len(USES)
    assert all(20_000 <= port < 20_010 for port in chosen)


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0"])  # noqa: S104 - a listener on all interfaces is the case
def test_require_free_taken_port_names_listener(address: str) -> None:
    base = free_base()
    require_free(StackPorts(base), {"postgres": "postgres"})
    port = StackPorts(base)["postgres"]
    assert not is_taken(port)
    with socket.create_server((address, port)):
        assert is_taken(port)
        assert owner_of(port).startswith(f"process {os.getpid()} (")
        with pytest.raises(PortTaken, match=f"Port {port}, which postgres needs, is taken by process {os.getpid()}"):
            require_free(StackPorts(base), {"temporal": "temporal", "postgres": "postgres"})
    assert not is_taken(port)


def test_is_taken_bound_but_not_listening_is_true() -> None:
    port = free_base()
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", port))
        assert is_taken(port)


def test_owner_of_invisible_process_says_another_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("psutil.net_connections", lambda _kind: [])
    assert owner_of(15_000) == "a process of another user"


def test_owner_of_finds_own_process_when_access_is_denied(monkeypatch: pytest.MonkeyPatch) -> None:
    import psutil

    def refuse(_kind: str) -> None:
        raise psutil.AccessDenied

    monkeypatch.setattr("psutil.net_connections", refuse)
    port = free_base()
    with socket.create_server(("127.0.0.1", port)):
        assert owner_of(port).startswith(f"process {os.getpid()} (")


def test_free_base_without_free_block_raises_no_free_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "is_taken", lambda _port: True)
    with pytest.raises(NoFreePorts):
        free_base()
