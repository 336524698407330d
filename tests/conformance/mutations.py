"""The real emulator with one mutation: `python -m tests.conformance.mutations MUTATION ...`, then its own options.

Each mutation changes the messages between the emulator and its client, or the calls that the emulator makes, and
breaks one promise. It simulates a defect inside of the emulator, which the named check must detect.
"""

from __future__ import annotations

import json
import secrets
import sys
import tempfile
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]


@dataclass
class Exchange:
    """One call: its operation and members, and what the emulator answered."""

    operation: str
    given: Any
    status: int = 0
    answer: Any = None


class ResponseMutation:
    """Changes calls before the emulator sees them, and answers before the client does."""

    def before(self, exchange: Exchange) -> None:
        """Change ``exchange.given``; if an answer is set here, it is sent without calling the emulator."""

    def after(self, exchange: Exchange) -> None:
        """Change ``exchange.status`` and ``exchange.answer``."""


def _without(member: str) -> type[ResponseMutation]:
    class Without(ResponseMutation):
        def before(self, exchange: Exchange) -> None:
            exchange.given.pop(member, None)

    return Without


class _OnBlocks(ResponseMutation):
    def after(self, exchange: Exchange) -> None:
        if exchange.status == 200 and "Blocks" in exchange.answer:
            self.change(exchange.answer, exchange.answer["Blocks"])

    def change(self, answer: Any, blocks: list[Any]) -> None:
        raise NotImplementedError


class _PageInSynchronousAnswers(_OnBlocks):
    def change(self, answer: Any, blocks: list[Any]) -> None:
        for block in blocks:
            block["Page"] = 1


class _NoPageInJobs(_OnBlocks):
    def change(self, answer: Any, blocks: list[Any]) -> None:
        for block in blocks:
            block.pop("Page", None)


class _ConfidenceOfOne(_OnBlocks):
    def change(self, answer: Any, blocks: list[Any]) -> None:
        for block in blocks:
            if "Confidence" in block:
                block["Confidence"] /= 100


class _WordsFirst(_OnBlocks):
    def change(self, answer: Any, blocks: list[Any]) -> None:
        blocks.sort(key=lambda block: ["WORD", "LINE", "PAGE"].index(block["BlockType"]))


class _IdsThatLeadNowhere(_OnBlocks):
    def change(self, answer: Any, blocks: list[Any]) -> None:
        for block in blocks:
            for relationship in block.get("Relationships", ()):
                relationship["Ids"] = [secrets.token_hex(16) for _ in relationship["Ids"]]


class _BoxesInPixels(_OnBlocks):
    def change(self, answer: Any, blocks: list[Any]) -> None:
        for block in blocks:
            for name in block["Geometry"]["BoundingBox"]:
                block["Geometry"]["BoundingBox"][name] *= 800


class _InventedText(_OnBlocks):
    def change(self, answer: Any, blocks: list[Any]) -> None:
        for block in blocks:
            if "Text" in block:
                block["Text"] = "Hello World" if block["BlockType"] == "LINE" else "Hello"


class _TablesNobodyAskedFor(_OnBlocks):
    def change(self, answer: Any, blocks: list[Any]) -> None:
        first = next(block for block in blocks if block["BlockType"] == "WORD")
        blocks.append(
            {
                "BlockType": "KEY_VALUE_SET",
                "Confidence": 50.0,
                "Geometry": first["Geometry"],
                "Id": secrets.token_hex(16),
                "EntityTypes": ["VALUE"],
            }
        )
        blocks[0]["Relationships"][0]["Ids"].append(blocks[-1]["Id"])


class _PagesAsAnObject(ResponseMutation):
    def after(self, exchange: Exchange) -> None:
        if "DocumentMetadata" in exchange.answer:
            exchange.answer["DocumentMetadata"] = {"Pages": exchange.answer["DocumentMetadata"]}


class _QualifiedType(ResponseMutation):
    def after(self, exchange: Exchange) -> None:
        if "__type" in exchange.answer:
            exchange.answer["__type"] = f"com.amazonaws.textract#{exchange.answer['__type']}"


class _SmallMessage(ResponseMutation):
    def after(self, exchange: Exchange) -> None:
        if "Message" in exchange.answer:
            exchange.answer["message"] = exchange.answer.pop("Message")


class _ErrorsAs500(ResponseMutation):
    def after(self, exchange: Exchange) -> None:
        if exchange.status == 400:
            exchange.status = 500


class _MissingObjectsAreEmpty(ResponseMutation):
    def after(self, exchange: Exchange) -> None:
        if exchange.answer.get("__type") == "InvalidS3ObjectException":
            exchange.status = 200
            exchange.answer = {
                "DocumentMetadata": {"Pages": 1},
                "Blocks": [],
                "DetectDocumentTextModelVersion": "1.0",
            }


class _JobsForgottenAfterGet(ResponseMutation):
    def __init__(self) -> None:
        self._read: set[str] = set()

    def before(self, exchange: Exchange) -> None:
        if exchange.operation.startswith("Get") and exchange.given.get("JobId") in self._read:
            exchange.given["JobId"] = "0" * 64

    def after(self, exchange: Exchange) -> None:
        if exchange.answer.get("JobStatus") == "SUCCEEDED":
            self._read.add(exchange.given["JobId"])


class _NotifiedBeforeGetSaysSo(ResponseMutation):
    """The first Get of a finished job reports IN_PROGRESS, even after its notification."""

    def __init__(self) -> None:
        self._late: set[str] = set()

    def after(self, exchange: Exchange) -> None:
        job_id = exchange.given.get("JobId")
        if exchange.answer.get("JobStatus") == "SUCCEEDED" and job_id not in self._late:
            self._late.add(job_id)
            version = {name: value for name, value in exchange.answer.items() if name.endswith("ModelVersion")}
            exchange.answer = {"JobStatus": "IN_PROGRESS", **version}


class _OneJobForEachToken(ResponseMutation):
    """A known token returns its first job, even with another input."""

    def __init__(self) -> None:
        self._first: dict[str, Any] = {}

    def before(self, exchange: Exchange) -> None:
        known = self._first.get(exchange.given.get("ClientRequestToken", ""))
        if known and exchange.operation.startswith("Start"):
            exchange.status, exchange.answer = 200, known

    def after(self, exchange: Exchange) -> None:
        if exchange.status == 200 and exchange.operation.startswith("Start"):
            self._first.setdefault(exchange.given.get("ClientRequestToken", secrets.token_hex(8)), exchange.answer)


class _JobIdsAreUuids(ResponseMutation):
    def after(self, exchange: Exchange) -> None:
        if exchange.operation.startswith("Start") and exchange.status == 200:
            exchange.answer["JobId"] = exchange.answer["JobId"][:36]


class _EveryGetWorks(ResponseMutation):
    """A job can be read with the Get of the other operation."""

    def __init__(self) -> None:
        self._operations: dict[str, str] = {}

    def before(self, exchange: Exchange) -> None:
        if exchange.operation.startswith("Get"):
            exchange.operation = self._operations.get(exchange.given.get("JobId", ""), exchange.operation)

    def after(self, exchange: Exchange) -> None:
        if exchange.operation.startswith("Start") and exchange.status == 200:
            self._operations[exchange.answer["JobId"]] = exchange.operation.replace("Start", "Get", 1)


class _TidyPrefix(ResponseMutation):
    def before(self, exchange: Exchange) -> None:
        config = exchange.given.get("OutputConfig", {})
        if "S3Prefix" in config:
            config["S3Prefix"] = config["S3Prefix"].strip("/")


class _ZeroResultsAreTaken(ResponseMutation):
    def before(self, exchange: Exchange) -> None:
        if exchange.given.get("MaxResults") == 0:
            exchange.given["MaxResults"] = 1000


class _AnyFeatures(ResponseMutation):
    def before(self, exchange: Exchange) -> None:
        if exchange.operation == "AnalyzeDocument":
            exchange.given.setdefault("FeatureTypes", ["TABLES"])


class _SecondNotification(ResponseMutation):
    def __init__(self) -> None:
        from botocore import client as botocore_client

        base: Any = botocore_client.BaseClient
        once = base._make_api_call

        def twice(client: Any, operation: str, given: Any) -> Any:
            if operation == "Publish":
                once(client, operation, given)
            return once(client, operation, given)

        base._make_api_call = twice


class _BilledTwice(ResponseMutation):
    def __init__(self) -> None:
        from textract_local.server.counters import Counters

        once = Counters.billed

        def twice(counters: Counters, sha256: str) -> None:
            once(counters, sha256)
            once(counters, sha256)

        setattr(Counters, "billed", twice)  # noqa: B010


class _NothingIsKept(ResponseMutation):
    def __init__(self) -> None:
        where = sys.argv.index("--data") + 1
        sys.argv[where] = tempfile.mkdtemp(dir=sys.argv[where].rpartition("/")[0])


NOTHING = "nothing"
"""The mutation that changes nothing: a control for the mechanism of mutations itself."""

MUTATIONS: dict[str, tuple[type[ResponseMutation], str]] = {
    "token ignored": (_without("ClientRequestToken"), "job.token.StartDocumentTextDetection"),
    "token ignored, 16 at once": (_without("ClientRequestToken"), "job.16-starts"),
    "token without its request": (
        _OneJobForEachToken,
        "job.token-mismatch.DocumentLocation.StartDocumentTextDetection",
    ),
    "token for both operations": (_OneJobForEachToken, "job.token-other-operation"),
    "NextToken ignored": (_without("NextToken"), "job.paging.replay"),
    "MaxResults ignored": (_without("MaxResults"), "job.paging.4.StartDocumentTextDetection"),
    "MaxResults of 0 taken": (_ZeroResultsAreTaken, "request.GetDocumentTextDetection.max-results-0"),
    "Page in synchronous answers": (_PageInSynchronousAnswers, "block.no-page"),
    "no Page in jobs": (_NoPageInJobs, "job.page.StartDocumentTextDetection"),
    "confidence on a scale of 1": (_ConfidenceOfOne, "block.confidence"),
    "words before lines": (_WordsFirst, "block.order"),
    "ids that lead nowhere": (_IdsThatLeadNowhere, "block.ids"),
    "boxes in pixels": (_BoxesInPixels, "block.geometry"),
    "invented text": (_InventedText, "document.png.inline"),
    "blocks of a feature nobody asked for": (_TablesNobodyAskedFor, "analysis.nothing-else.TABLES"),
    "Pages as an object": (_PagesAsAnObject, "job.pages-integer"),
    "qualified __type": (_QualifiedType, "wire.error-form"),
    "message with a small m": (_SmallMessage, "wire.error-form"),
    "errors as 500": (_ErrorsAs500, "wire.error-form"),
    "missing objects are empty": (_MissingObjectsAreEmpty, "request.DetectDocumentText.object-missing"),
    "FeatureTypes not needed": (_AnyFeatures, "request.AnalyzeDocument.no-features"),
    "job forgotten after Get": (_JobsForgottenAfterGet, "job.read-again.StartDocumentTextDetection"),
    "job lost with the process": (_NothingIsKept, "job.restart.done"),
    "job for the other Get": (_EveryGetWorks, "job.other-operation.StartDocumentAnalysis"),
    "job ids of 36 letters": (_JobIdsAreUuids, "job.id.StartDocumentTextDetection"),
    "second notification": (_SecondNotification, "job.told-once"),
    "notified before Get says so": (_NotifiedBeforeGetSaysSo, "job.message.StartDocumentTextDetection"),
    "charged twice": (_BilledTwice, "counter.synchronous"),
    "prefix made tidy": (_TidyPrefix, "job.output.slash.StartDocumentTextDetection"),
}
"""Each mutation by the promise that it breaks, with the check that must fail."""


def mutated(app: App, mutation: ResponseMutation) -> App:
    """Return the emulator's app with a mutation around its JSON calls."""

    async def around(scope: Message, receive: Receive, send: Send) -> None:
        headers = {name.lower(): value for name, value in scope.get("headers", ())}
        target = headers.get(b"x-amz-target", b"").decode("latin-1")
        if scope["type"] != "http" or not target.startswith("Textract."):
            await app(scope, receive, send)
            return
        body = await _whole(receive)
        exchange = Exchange(target.removeprefix("Textract."), json.loads(body))
        mutation.before(exchange)
        started: Message = {
            "type": "http.response.start",
            "headers": [(b"content-type", b"application/x-amz-json-1.1")],
        }
        if exchange.answer is None:
            started, exchange.answer = await _asked(app, scope, receive, exchange)
            exchange.status = started["status"]
        mutation.after(exchange)
        content = json.dumps(exchange.answer).encode()
        kept = [(name, value) for name, value in started["headers"] if name.lower() != b"content-length"]
        length = (b"content-length", str(len(content)).encode())
        await send({**started, "status": exchange.status, "headers": [*kept, length]})
        await send({"type": "http.response.body", "body": content})

    return around


async def _asked(app: App, scope: Message, gone: Receive, exchange: Exchange) -> tuple[Message, Any]:
    body = json.dumps(exchange.given).encode()
    changed = {b"content-length": str(len(body)).encode(), b"x-amz-target": f"Textract.{exchange.operation}".encode()}
    headers = [(name, changed.get(name.lower(), value)) for name, value in scope["headers"]]
    sent = iter([{"type": "http.request", "body": body, "more_body": False}])
    answered: list[Message] = []

    async def receive() -> Message:
        # After the body there is no message until the client disconnects, which cancels the call.
        return next(sent, None) or await gone()

    async def send(message: Message) -> None:
        answered.append(message)

    await app({**scope, "headers": headers}, receive, send)
    return answered[0], json.loads(b"".join(message.get("body", b"") for message in answered[1:]))


async def _whole(receive: Receive) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            return bytes(body)


def main() -> int:
    """Run the emulator's own program with the mutation that the first argument names."""
    import uvicorn

    from textract_local.server.__main__ import main as emulator

    name = sys.argv.pop(1)
    mutation = ResponseMutation() if name == NOTHING else MUTATIONS[name][0]()
    sound = uvicorn.Config.__init__

    def broken(config: uvicorn.Config, app: Any, **options: Any) -> None:
        sound(config, mutated(app, mutation), **options)

    setattr(uvicorn.Config, "__init__", broken)  # noqa: B010
    return emulator()


if __name__ == "__main__":
    sys.exit(main())
