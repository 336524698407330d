"""The Docker engine's socket: its path, the meaning of responses, and the errors if there is none."""

from __future__ import annotations

import hashlib
import io
import json
import socket
import struct
from pathlib import Path

import pytest

from photo_worker.devkit.compose import output
from photo_worker.devkit.container_engine import ContainerEngine, container_proxy_exceptions, socket_path
from photo_worker.devkit.containers import Container, containers
from photo_worker.devkit.errors import DockerDenied, DockerElsewhere, DockerFailed, DockerMissing
from tests.unit.devkit.compose.fake_engine import FakeEngine


def test_socket_path_prefers_docker_host_to_context(tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path), "DOCKER_HOST": "unix:///run/mine.sock", "DOCKER_CONTEXT": "other"}
    assert socket_path(environ) == Path("/run/mine.sock")


@pytest.mark.parametrize("chosen_by", ["variable", "file"])
def test_socket_path_follows_current_context(tmp_path: Path, chosen_by: str) -> None:
    meta = tmp_path / ".docker" / "contexts" / "meta" / hashlib.sha256(b"desk").hexdigest()
    meta.mkdir(parents=True)
    (meta / "meta.json").write_text(json.dumps({"Endpoints": {"docker": {"Host": "unix:///run/desk.sock"}}}))
    environ = {"HOME": str(tmp_path)}
    if chosen_by == "variable":
        environ["DOCKER_CONTEXT"] = "desk"
    else:
        (tmp_path / ".docker" / "config.json").write_text(json.dumps({"currentContext": "desk"}))
    assert socket_path(environ) == Path("/run/desk.sock")


def test_container_proxy_exceptions_are_those_of_engine(tmp_path: Path) -> None:
    environ = {"DOCKER_CONFIG": str(tmp_path), "DOCKER_HOST": "unix:///run/mine.sock"}
    assert container_proxy_exceptions(environ) == ""
    for content, told in (
        ("{", ""),
        ("[]", ""),
        ('{"proxies": {"default": {"httpProxy": "http://p"}}}', ""),
        ('{"proxies": {"default": {"noProxy": "a,b"}}}', "a,b"),
        ('{"proxies": {"default": {"noProxy": "a"}, "unix:///run/mine.sock": {"noProxy": "c"}}}', "c"),
    ):
        (tmp_path / "config.json").write_text(content)
        assert container_proxy_exceptions(environ) == told
    assert container_proxy_exceptions({**environ, "DOCKER_HOST": "tcp://elsewhere:2375"}) == "a"


@pytest.mark.parametrize("address", ["tcp://10.1.2.3:2375", "ssh://somebody@there"])
def test_socket_path_remote_engine_is_refused(address: str) -> None:
    with pytest.raises(DockerElsewhere, match=address):
        socket_path({"HOME": "/nowhere", "DOCKER_HOST": address})


def test_engine_without_socket_is_missing(tmp_path: Path) -> None:
    with pytest.raises(DockerMissing, match=r"none\.sock: No such file"):
        ContainerEngine(tmp_path / "none.sock").get("/version")


def test_engine_socket_without_permission_is_denied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: socket.socket, __: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    with pytest.raises(DockerDenied) as caught:
        ContainerEngine(tmp_path / "closed.sock").get("/version")
    assert "group" in caught.value.hint


def test_engine_socket_of_other_server_is_missing(tmp_path: Path) -> None:
    with (
        FakeEngine(tmp_path / "s", {"GET /version": b"220 mail ready\r\n"}) as fake,
        pytest.raises(DockerMissing, match="no Docker engine"),
    ):
        ContainerEngine(fake.path).get("/version")


def test_engine_get_joins_chunked_response(tmp_path: Path) -> None:
    chunks = b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\n{"a":\r\n3\r\n 1}\r\n0\r\n\r\n'
    with FakeEngine(tmp_path / "s", {"GET /x": chunks}) as fake:
        assert ContainerEngine(fake.path).get("/x") == {"a": 1}


def test_engine_get_truncated_response_is_refused(tmp_path: Path) -> None:
    cut = b'HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{"a": 1}'
    with FakeEngine(tmp_path / "s", {"GET /x": cut}) as fake, pytest.raises(DockerMissing, match="early"):
        ContainerEngine(fake.path).get("/x")


def test_engine_do_failed_shows_message_of_engine(tmp_path: Path) -> None:
    responses = {"POST /x/stop": (500, {"message": "device is busy"}), "DELETE /x": (404, {"message": "gone"})}
    with FakeEngine(tmp_path / "s", responses) as fake:
        engine = ContainerEngine(fake.path)
        with pytest.raises(DockerFailed, match="could not stop it: device is busy"):
            engine.do("POST", "/x/stop", doing="stop it")
        assert engine.do("DELETE", "/x", doing="remove it", fine=(404,)).status == 404


def test_engine_upload_refused_shows_reason(tmp_path: Path) -> None:
    responses = {"PUT /x": (507, {"message": "no space left on device"})}
    with FakeEngine(tmp_path / "s", responses) as fake, (tmp_path / "archive").open("w+b") as source:
        source.truncate(8 * 1024 * 1024)
        with pytest.raises(DockerFailed, match="no space left"):
            ContainerEngine(fake.path).upload("/x", {}, source, doing="fill it")


def test_engine_download_failed_writes_nothing(tmp_path: Path) -> None:
    target = io.BytesIO()
    with FakeEngine(tmp_path / "s", {}) as fake, pytest.raises(DockerFailed, match="knows nothing"):
        ContainerEngine(fake.path).download("/x", {}, target, doing="copy it")
    assert target.getvalue() == b""


@pytest.mark.parametrize(
    ("newest", "oldest", "spoken"),
    [("1.41", "1.12", "v1.41"), ("1.44", "1.24", "v1.44"), ("1.52", "1.44", "v1.44"), ("1.60", "1.50", "v1.50")],
)
def test_engine_negotiates_api_version(tmp_path: Path, newest: str, oldest: str, spoken: str) -> None:
    version = (200, {"ApiVersion": newest, "MinAPIVersion": oldest})
    with FakeEngine(tmp_path / "s", {"GET /version": version, "GET /x": (200, 1)}) as fake:
        engine = ContainerEngine(fake.path)
        assert (engine.get("/x"), engine.get("/x")) == (1, 1)
        assert fake.versions == {spoken}
        assert len(fake.asked) == 3, "the version is asked for once"


def listed(service: str, state: str, status: str, **labels: str) -> dict[str, object]:
    return {
        "Id": f"{service}-{state}",
        "Names": [f"/p-{service}-1"],
        "State": state,
        "Status": status,
        "Image": "image:1",
        "Labels": {"com.docker.compose.service": service, **labels},
    }


def test_containers_parses_state_health_and_exit_code(tmp_path: Path) -> None:
    entries = [
        listed("a", "running", "Up 2 minutes (healthy)", **{"photo-worker.stand-in": "yes"}),
        listed("b", "exited", "Exited (137) 5 seconds ago"),
        listed("c", "running", "Up 1 second (health: starting)"),
        listed("d", "paused", "Up 3 minutes (Paused)"),
        listed("e", "running", "Up 9 hours (unhealthy)"),
        # A container that is being replaced, and one of `docker compose run`.
        listed("a", "exited", "Exited (0) 1 second ago"),
        listed("b", "running", "Up 1 second", **{"com.docker.compose.oneoff": "True"}),
    ]
    with FakeEngine(tmp_path / "s", {"GET /containers/json": (200, entries)}) as fake:
        found = containers(ContainerEngine(fake.path), "p")
        assert "com.docker.compose.project=p" in fake.asked[-1]
    assert {name: (one.state, one.health, one.exit_code) for name, one in found.items()} == {
        "a": ("running", "healthy", None),
        "b": ("exited", None, 137),
        "c": ("running", "starting", None),
        "d": ("paused", None, None),
        "e": ("running", "unhealthy", None),
    }
    assert [name for name, one in found.items() if one.stand_in] == ["a"]


def test_output_tail_extracts_lines_from_frames(tmp_path: Path) -> None:
    def frame(stream: int, payload: bytes) -> bytes:
        return struct.pack(">BxxxL", stream, len(payload)) + payload

    content = frame(1, b"one\ntw") + frame(1, b"o\n") + frame(2, b"\x1b[31mred\n") + frame(1, b"last")
    # Split at any position, as a network does.
    pieces = [content[start : start + 7] for start in range(0, len(content), 7)]
    chunked = b"".join(f"{len(piece):x}\r\n".encode() + piece + b"\r\n" for piece in pieces) + b"0\r\n\r\n"
    response = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked
    with FakeEngine(tmp_path / "s", {"GET /containers/x/logs": response}) as fake:
        one = Container("x", "p-a-1", "a", "running", None, None, "image:1", False)
        assert output.tail(ContainerEngine(fake.path), one, 10) == ["one", "two", "\ufffd[31mred", "last"]
        assert output.tail(ContainerEngine(fake.path), one, 2) == ["\ufffd[31mred", "last"]
        assert output.tail(ContainerEngine(fake.path), one, 0) == []
