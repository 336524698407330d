"""Proxies and loopback: no client uses a proxy for it, and other programs get the same exceptions."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.request import getproxies, getproxies_environment, proxy_bypass

import pytest
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from photo_worker.adapters.ocr import textract
from photo_worker.adapters.s3 import object_store as s3_boto
from photo_worker.aws import aws_session
from photo_worker.errors import PhotoWorkerError
from photo_worker.loopback import is_loopback, proxy_exceptions
from tests.support.s3_responses import Response, refusal, s3_responding
from textract_local.server.jobs.aws import AwsClients

TOPIC = "arn:aws:sns:us-east-1:000000000000:t"
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "grpc_proxy")


@pytest.fixture
def service() -> Iterator[tuple[str, list[str]]]:
    """A server's address and the requested paths; it responds to every request with status 400."""
    paths: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            paths.append(self.path)
            self.send_response(400)
            body = b"<ErrorResponse><Error><Code>400</Code></Error></ErrorResponse>"
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET

        def log_message(self, format: str, *args: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", paths
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def proxied(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A listener that is set as the proxy in every variable."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        for name in PROXIES:
            for spelling in (name, name.upper()):
                monkeypatch.setenv(spelling, f"http://127.0.0.1:{listener.getsockname()[1]}")
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "local")
        monkeypatch.setenv("AWS_REGION", "us-east-1")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        yield listener


def asked(listener: socket.socket) -> bool:
    listener.setblocking(False)
    try:
        listener.accept()[0].close()
    except BlockingIOError:
        return False
    return True


def read_object(client: Any) -> None:
    client.get_object(Bucket="b", Key="k")


def list_topics(client: Any) -> None:
    client.list_topics()


def s3_client() -> Any:
    """Return a client with the settings of the environment that gives up at once."""
    return s3_boto.make_client(session=aws_session(os.environ), connect_timeout=1, read_timeout=0.2)


def ask_for_job(client: Any) -> None:
    client.get_document_text_detection(JobId="j")


@pytest.mark.parametrize(
    ("make", "use"),
    [
        pytest.param(lambda: s3_boto.make_client(session=aws_session(os.environ)), read_object, id="s3"),
        pytest.param(lambda: textract.make_client(session=aws_session(os.environ)), ask_for_job, id="textract"),
        pytest.param(lambda: AwsClients().s3(), read_object, id="the emulator's s3"),
        pytest.param(
            lambda: AwsClients().sns("arn:aws:sns:us-east-1:000000000000:t"), list_topics, id="the emulator's sns"
        ),
    ],
)
def test_clients_bypass_proxy_for_loopback(
    make: Callable[[], Any],
    use: Callable[[Any], None],
    service: tuple[str, list[str]],
    proxied: socket.socket,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url, paths = service
    for variable in ("S3", "SNS", "TEXTRACT"):
        monkeypatch.setenv(f"AWS_ENDPOINT_URL_{variable}", url)
    with closing(make()) as client, pytest.raises((ClientError, ResponseParserError)):
        use(client)
    assert paths
    assert not asked(proxied)


def test_put_to_loopback_is_not_sent_to_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A company's proxy would see the photo, and respond that it cannot reach 127.0.0.1."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "local")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with s3_responding(lambda _: refusal(403, "Forbidden")) as proxy, s3_responding(lambda _: Response()) as service:
        monkeypatch.setenv("http_proxy", proxy.url)
        client = s3_boto.make_client(session=aws_session(os.environ), endpoint_url=service.url, region="us-east-1")
        with closing(client), suppress(PhotoWorkerError):
            s3_boto.BotoObjectStore(client).put("photos", "pie.jpg", b"a pie", content_type="image/jpeg")
        assert [request.body for request in proxy.requests] == []
        assert [request.body for request in service.requests] == [b"a pie"]


def test_client_uses_proxy_for_other_hosts(proxied: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://s3.example.invalid")
    with closing(s3_client()) as client, pytest.raises(BotoCoreError):
        client.list_buckets()
    assert asked(proxied)


@pytest.mark.parametrize("spelling", ["NO_PROXY", "no_proxy"])
def test_no_proxy_star_in_list_disables_proxy(
    spelling: str, proxied: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container has this value if the Compose file is started by hand; Python's own clients read it as a name."""
    monkeypatch.setenv(spelling, "localhost,aws,*")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://s3.example.invalid")
    with closing(s3_client()) as client, pytest.raises(BotoCoreError):
        client.list_buckets()
    assert not asked(proxied)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "localhost", "LocalHost"])
def test_is_loopback_of_loopback_host_is_true(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["127.0.0.1.example", "10.0.0.1", "localhost.example", "", "0.0.0.0"])  # noqa: S104
def test_is_loopback_of_other_host_is_false(host: str) -> None:
    assert not is_loopback(host)


def test_proxy_exceptions_extend_no_proxy() -> None:
    assert proxy_exceptions({}) == {}
    assert proxy_exceptions({"NO_PROXY": "corp.example", "http_proxy": " "}) == {}
    for name in PROXIES:
        for spelling in (name, name.upper()):
            whole = dict.fromkeys(("NO_PROXY", "no_proxy"), "127.0.0.1,localhost,::1")
            assert proxy_exceptions({spelling: "http://proxy.example"}) == whole
    # Programs read one spelling or the other, so both get the whole list.
    given = {"HTTPS_PROXY": "http://p", "NO_PROXY": "corp.example, localhost", "no_proxy": ".intern"}
    all_of_it = "corp.example,localhost,.intern,127.0.0.1,::1"
    assert proxy_exceptions(given) == {"NO_PROXY": all_of_it, "no_proxy": all_of_it}


@pytest.mark.parametrize("spelling", ["NO_PROXY", "no_proxy"])
def test_proxy_exceptions_keep_no_proxy_star(spelling: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """If a list contains ``*`` and loopback, Python's clients, and so boto3, only use the latter."""
    for name in [*PROXIES, "no_proxy"]:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("https_proxy", "http://proxy.example")
    monkeypatch.setenv(spelling, "*")
    assert proxy_bypass("s3.example")
    for name, value in proxy_exceptions(os.environ).items():
        monkeypatch.setenv(name, value)
    assert proxy_bypass("s3.example")
    assert proxy_bypass("127.0.0.1")


def test_proxy_exceptions_read_any_spelling_of_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*PROXIES, "no_proxy"]:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("Http_Proxy", "http://proxy.example")
    assert getproxies()["http"] == "http://proxy.example"
    assert "127.0.0.1" in proxy_exceptions(os.environ)["no_proxy"]


@pytest.mark.parametrize(
    "variables",
    [
        {"http_proxy": "http://lower.example", "HTTP_PROXY": "http://upper.example"},
        {"HTTP_PROXY": "http://upper.example", "http_proxy": "http://lower.example"},
        {"HTTP_PROXY": "http://upper.example", "http_proxy": ""},
        {"Http_Proxy": "http://mixed.example", "https_proxy": "http://secure.example", "no_proxy": "other.example"},
    ],
)
def test_aws_session_proxies_are_those_of_urllib(variables: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*PROXIES, "no_proxy"]:
        for spelling in (name, name.upper()):
            monkeypatch.delenv(spelling, raising=False)
    session = aws_session({**variables, "AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local"})
    with closing(session.client("s3", endpoint_url="http://s3.example", region_name="us-east-1")) as client:
        found = vars(client.meta.config)["proxies"]
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    expected = {scheme: proxy for scheme, proxy in getproxies_environment().items() if scheme != "no"}
    assert found == expected
