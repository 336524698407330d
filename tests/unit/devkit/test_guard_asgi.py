"""The origin rules in front of a service: requests of web pages are refused, those of programs pass."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from photo_worker.devkit.guard.asgi import Message, Receive, Scope, Send, guarded
from textract_local.origins import OriginRules

HOST = ("Host", "127.0.0.1:15005")


class Service:
    """An application that records the requests that reach it."""

    def __init__(self) -> None:
        self.done: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.done.append(f"{scope['method']} {scope['path']}")
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})


async def call(
    service: Service, *headers: tuple[str, str], hosts: Iterable[str] = (), method: str = "DELETE", query: bytes = b""
) -> object:
    """Send a request to the service behind the rules; return the status of the response."""
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    scope: Scope = {
        "type": "http",
        "method": method,
        "path": "/photos/pie.jpg",
        "query_string": query,
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers],
    }
    await guarded(service, OriginRules(hosts))(scope, receive, send)
    return sent[0]["status"]


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param([HOST, ("Origin", "https://evil.example")], id="another origin"),
        pytest.param([HOST, ("Sec-Fetch-Site", "cross-site")], id="another site"),
        pytest.param([("Host", "evil.example:15005")], id="a rebound name"),
    ],
)
async def test_guarded_request_of_web_page_is_403_and_not_passed_on(headers: list[tuple[str, str]]) -> None:
    service = Service()
    status = await call(service, *headers)
    assert service.done == []
    assert status == 403


async def test_guarded_request_of_program_reaches_service() -> None:
    service = Service()
    assert await call(service, HOST) == 200
    assert service.done == ["DELETE /photos/pie.jpg"]


async def test_guarded_image_get_by_allowed_host_is_403() -> None:
    """``<img src="http://localhost.localstack.cloud:4566/?Action=CreateQueue">``, by plain HTTP."""
    service = Service()
    name = "localhost.localstack.cloud"
    sent = [("Host", f"{name}:4566"), ("User-Agent", "Mozilla/5.0"), ("Accept", "image/avif,image/*,*/*;q=0.8")]
    status = await call(service, *sent, hosts=[name], method="GET")
    assert service.done == []
    assert status == 403
    program = [("Host", f"{name}:4566"), ("User-Agent", "Boto3/1.40")]
    assert await call(service, *program, hosts=[name], method="GET") == 200


async def test_guarded_navigation_with_action_query_is_403() -> None:
    service = Service()
    opened = (HOST, ("Sec-Fetch-Site", "none"))
    assert await call(service, *opened, method="GET", query=b"Action=CreateQueue&QueueName=evil") == 403
    assert service.done == []
    assert await call(service, *opened, method="GET", query=b"versionId=1") == 200
    assert await call(service, HOST, method="GET", query=b"Action=ListQueues") == 200
