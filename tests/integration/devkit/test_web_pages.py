"""A web page in a developer's browser can do nothing to a local stack; programs can use it as before."""

from __future__ import annotations

import http.client
import os
import re
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import NamedTuple
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import psutil
import pytest

from photo_worker.devkit.guard.temporal import BAD_PORTS, reserve, ui_host
from photo_worker.devkit.stack import Stack
from photo_worker.devkit.state import Processes, StackRecord
from tests.integration.devkit.clients import client
from tests.integration.devkit.fake_services import wait_until
from tests.support import workflows

pytestmark = [pytest.mark.stack, pytest.mark.timeout(240)]

SIGNED = "AWS4-HMAC-SHA256 Credential=a/20260101/us-east-1/textract/aws4_request, SignedHeaders=host, Signature=s"
# Those "bad ports" of the Fetch Standard that stacks may use.
REFUSED_BY_BROWSERS = {1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061, 6000, 6566, 6679, 6697, 10_080}
REFUSED_BY_BROWSERS |= {6665, 6666, 6667, 6668, 6669, 77, 87, 95, 526, 530, 531, 532, 540, 556, 601}
# What refuses a request, by service; the others are behind the guard of this product.
PROGRAMS = {"textract": "textract-local"}
PLAIN = {"Content-Type": "text/plain"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


class Asked(NamedTuple):
    """A request by a page, without the headers that the browser adds."""

    use: str
    method: str
    path: str
    body: bytes = b""
    headers: Mapping[str, str] = {}


class Response(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: str


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    made = Stack(tmp_path_factory.mktemp("pages"), f"t-{secrets.token_hex(4)}", base_port=0, durable=False)
    try:
        made.up()
        yield made
    finally:
        made.delete()


@pytest.fixture
def env(stack: Stack) -> dict[str, str]:
    return stack.env()


def port_of(stack: Stack, use: str) -> int:
    if use == "temporal-http":
        # No client uses it, so its port is only in the server's arguments.
        arguments = psutil.Process(Processes.load(stack.paths).services["temporal"].pid).cmdline()
        return int(arguments[arguments.index("--http-port") + 1])
    record = StackRecord.load(stack.paths)
    assert record is not None
    return record.ports[use]


def pages(port: int) -> dict[str, dict[str, str]]:
    """Return the headers that a browser adds, by the kind of page."""
    return {
        "of another site": {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"},
        "of another site, in an old browser": {"Origin": "https://evil.example"},
        "of another site, by a link, an image or a script": {"Sec-Fetch-Site": "cross-site"},
        "of another port": {"Origin": "http://localhost:3000", "Sec-Fetch-Site": "same-site"},
        "in a sandbox": {"Origin": "null"},
        "whose name was pointed here": {"Host": f"evil.example:{port}", "Origin": f"http://evil.example:{port}"},
        "whose name was pointed here, with a GET": {"Host": f"evil.example:{port}"},
    }


def send(port: int, asked: Asked, added: Mapping[str, str]) -> Response:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.putrequest(asked.method, asked.path, skip_host="Host" in added, skip_accept_encoding=True)
        for name, value in {**asked.headers, **added, "Content-Length": str(len(asked.body))}.items():
            connection.putheader(name, value)
        connection.endheaders(asked.body)
        response = connection.getresponse()
        headers = {name.lower(): value for name, value in response.getheaders()}
        return Response(response.status, headers, response.read().decode(errors="replace"))
    finally:
        connection.close()


def ministack(env: Mapping[str, str], listener: int) -> list[Asked]:
    bucket, topic = env["S3_BUCKET"], env["SNS_TOPIC_ARN"]
    delete = b"<Delete><Object><Key>raw/photo</Key></Object></Delete>"
    subscribe = f"Action=Subscribe&TopicArn={topic}&Protocol=http&Endpoint=http://127.0.0.1:{listener}/internal"
    part = '--x\r\nContent-Disposition: form-data; name="key"\r\n\r\nraw/form\r\n'
    part += '--x\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\nevil\r\n--x--\r\n'
    return [
        Asked("aws", "GET", "/"),
        Asked("aws", "GET", f"/{bucket}?list-type=2"),
        Asked("aws", "GET", f"/{bucket}/raw/photo"),
        Asked("aws", "OPTIONS", f"/{bucket}/raw/x", headers={"Access-Control-Request-Method": "PUT"}),
        Asked("aws", "PUT", f"/{bucket}/raw/photo", b"evil", PLAIN),
        Asked("aws", "POST", f"/{bucket}?delete", delete, PLAIN),
        Asked("aws", "POST", f"/{bucket}", part.encode(), {"Content-Type": "multipart/form-data; boundary=x"}),
        Asked("aws", "DELETE", f"/{bucket}/raw/photo"),
        Asked("aws", "POST", "/", subscribe.encode(), FORM),
        Asked("aws", "GET", f"/?{subscribe}"),
        Asked("aws", "GET", "/?Action=ListQueues"),
        Asked("aws", "POST", "/_ministack/reset", b"", PLAIN),
    ]


def temporal_http(env: Mapping[str, str]) -> list[Asked]:
    namespace = f"/api/v1/namespaces/{env['TEMPORAL_NAMESPACE']}"
    begin = b'{"workflowType":{"name":"image_processing_workflow"},"taskQueue":{"name":"recipe-process"}}'
    batch = b'{"jobId":"b1","reason":"x","visibilityQuery":"ExecutionStatus=\\"Running\\"","terminationOperation":{}}'
    update = b'{"config":{"workflowExecutionRetentionTtl":"86400s"},"updateInfo":{"description":"evil"}}'
    made = b'{"namespace":"evilns","workflowExecutionRetentionPeriod":"86400s"}'
    return [
        Asked("temporal-http", "POST", f"{namespace}/workflows/evil", begin, PLAIN),
        Asked("temporal-http", "POST", f"{namespace}/workflows/kept/terminate", b'{"reason":"x"}', PLAIN),
        Asked("temporal-http", "POST", f"{namespace}/batch-operations/b1", batch, PLAIN),
        Asked("temporal-http", "POST", f"{namespace}/update", update, PLAIN),
        Asked("temporal-http", "POST", "/cluster/namespaces", made, PLAIN),
        Asked("temporal-http", "GET", f"{namespace}/workflows/kept/history"),
    ]


def temporal_ui(env: Mapping[str, str], token: str) -> list[Asked]:
    namespace = f"/api/v1/namespaces/{env['TEMPORAL_NAMESPACE']}"
    begin = b'{"workflowType":{"name":"evil"},"taskQueue":{"name":"recipe-process"}}'
    known = {"Cookie": f"_csrf={token}", "X-CSRF-TOKEN": token, "Content-Type": "application/json"}
    return [
        Asked("temporal-ui", "GET", "/"),
        Asked("temporal-ui", "GET", "/api/v1/namespaces"),
        Asked("temporal-ui", "GET", f"{namespace}/workflows/kept/history"),
        Asked("temporal-ui", "POST", f"{namespace}/workflows/evil", begin, known),
        Asked("temporal-ui", "POST", f"{namespace}/workflows/kept/terminate", b'{"reason":"x"}', known),
    ]


def textract(env: Mapping[str, str]) -> list[Asked]:
    place = f'{{"S3Object":{{"Bucket":"{env["S3_BUCKET"]}","Name":"raw/photo"}}}}'
    output = f'"OutputConfig":{{"S3Bucket":"{env["S3_BUCKET"]}","S3Prefix":"evil"}}'
    signed = {"Authorization": SIGNED, "Content-Type": "application/x-amz-json-1.1"}
    cbor = {"Authorization": SIGNED, "Content-Type": "application/cbor", "smithy-protocol": "rpc-v2-cbor"}
    detect = signed | {"X-Amz-Target": "Textract.DetectDocumentText"}
    return [
        Asked("textract", "POST", "/", f'{{"Document":{place}}}'.encode(), detect),
        Asked(
            "textract",
            "POST",
            "/",
            f'{{"DocumentLocation":{place},{output}}}'.encode(),
            signed | {"X-Amz-Target": "Textract.StartDocumentTextDetection"},
        ),
        Asked("textract", "POST", "/service/Textract/operation/DetectDocumentText", b"\xa0", cbor),
        Asked("textract", "POST", "/_emulator/reset", b"", PLAIN),
        Asked("textract", "GET", "/_emulator/counters"),
        Asked("textract", "OPTIONS", "/", headers={"Access-Control-Request-Method": "POST"}),
        Asked("textract", "GET", "/no/such/path"),
    ]


def csrf_token(port: int) -> str:
    """Return the CSRF token that the UI gives to every client; a page under a rebound name could read it."""
    response = send(port, Asked("temporal-ui", "GET", "/api/v1/namespaces"), {})
    found = re.search(r"_csrf=([a-f0-9]+)", response.headers["set-cookie"])
    assert found is not None
    return found[1]


def test_web_page_requests_reach_no_service(stack: Stack, env: dict[str, str]) -> None:
    s3, sns = client("s3", env), client("sns", env)
    s3.put_object(Bucket=env["S3_BUCKET"], Key="raw/photo", Body=b"a photo")
    workflows.start(env, "kept")
    detail = send(port_of(stack, "textract"), Asked("textract", "GET", "/_emulator/counters"), {}).body
    subscriptions = sns.list_subscriptions()["Subscriptions"]
    token = csrf_token(port_of(stack, "temporal-ui"))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.2)
        everything = [*ministack(env, listener.getsockname()[1]), *temporal_http(env), *temporal_ui(env, token)]
        let_in, unsaid = [], []
        for asked in [*everything, *textract(env)]:
            port = port_of(stack, asked.use)
            for page, added in pages(port).items():
                response = send(port, asked, added)
                if response.status != 403 or "access-control-allow-origin" in response.headers:
                    let_in.append((asked.use, asked.method, asked.path, page, response.status))
                if (
                    asked.use != "temporal-http"
                    and f"{PROGRAMS.get(asked.use, 'photo-worker')} refuses this request" not in response.body
                ):
                    unsaid.append((asked.use, asked.method, asked.path, page, response.body[:200]))
        with pytest.raises(TimeoutError):
            listener.accept()

    # Check for harm first: it tells more than a status.
    assert s3.get_object(Bucket=env["S3_BUCKET"], Key="raw/photo")["Body"].read() == b"a photo"
    keys = [entry["Key"] for entry in s3.list_objects_v2(Bucket=env["S3_BUCKET"])["Contents"]]
    assert keys == [".photo-worker/deployment.json", "raw/photo"]
    assert sns.list_subscriptions()["Subscriptions"] == subscriptions
    wait_until(lambda: workflows.ids(env) == ["kept"], "the one workflow is listed, and no other")
    namespaces = send(port_of(stack, "temporal-ui"), Asked("temporal-ui", "GET", "/api/v1/namespaces"), {}).body
    assert "evil" not in namespaces
    assert send(port_of(stack, "textract"), Asked("textract", "GET", "/_emulator/counters"), {}).body == detail
    assert let_in == []
    assert unsaid == []


def listening(stack: Stack) -> set[tuple[str, int]]:
    known = Processes.load(stack.paths)
    supervisor = psutil.Process(known.pid)
    found = set()
    for process in supervisor.children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            connections = process.net_connections("tcp")
            found |= {(one.laddr.ip, one.laddr.port) for one in connections if one.status == psutil.CONN_LISTEN}
    return found


def said_to_a_page(host: str, port: int) -> bytes:
    """Return the first bytes of a socket's response to a page under a rebound name; empty if there is none."""
    request = f"GET /metrics HTTP/1.1\r\nHost: evil.example:{port}\r\nConnection: close\r\n\r\n"
    with socket.create_connection((host, port), timeout=5) as connection:
        connection.sendall(request.encode())
        try:
            return connection.recv(4096)
        except (TimeoutError, ConnectionResetError):
            return b""


def test_stack_sockets_serve_no_web_page(stack: Stack) -> None:
    """Including those that are easily overlooked: metrics, and the ports of Temporal's internal services."""
    sockets = listening(stack)
    assert len(sockets) >= 7
    served = []
    for host, port in sockets:
        assert host.startswith("127."), (host, port)
        if port in REFUSED_BY_BROWSERS:
            continue
        said = said_to_a_page(host, port)
        # gRPC and Postgres speak no HTTP/1.1.
        if said.startswith(b"HTTP/") and said.split()[1] not in {b"403", b"404"}:
            served.append((host, port, said))
    assert served == []
    assert set(BAD_PORTS) <= REFUSED_BY_BROWSERS
    # Temporal's own UI, its HTTP API and its metrics listen on bad ports.
    assert len([port for _, port in sockets if port in REFUSED_BY_BROWSERS]) == 3


def test_web_page_cannot_send_nexus_task_to_worker(stack: Stack, env: dict[str, str]) -> None:
    """Temporal's HTTP API accepts Nexus tasks for workers, and checks neither Host nor Origin."""
    queue = f"nexus-{secrets.token_hex(4)}"
    place = f"/namespaces/{env['TEMPORAL_NAMESPACE']}/task-queues/{queue}/nexus-services/service"

    def send_task(host: str, port: int, operation: str, headers: str) -> None:
        head = f"POST {place}/{operation} HTTP/1.1\r\nContent-Type: text/plain\r\n{headers}Content-Length: 0\r\n\r\n"
        with socket.create_connection((host, port), timeout=20) as connection, suppress(OSError):
            connection.sendall(head.encode())
            connection.recv(1)

    with ThreadPoolExecutor(1) as pool:
        taken = pool.submit(workflows.nexus_operations, env, queue, "meant")
        for host, port in listening(stack):
            if port not in REFUSED_BY_BROWSERS:
                send_task(host, port, "evil", "Host: evil.example\r\nOrigin: https://evil.example\r\n")
        send_task("127.0.0.1", port_of(stack, "temporal-http"), "meant", "Host: 127.0.0.1\r\n")
        assert taken.result(60) == ["meant"]


@pytest.mark.parametrize(
    "head",
    [
        b"GET %b HTTP/1.1\r\nHost:\r\nConnection: close",
        b"GET %b HTTP/1.1\r\nHost: \r\nConnection: close",
        b"GET %b HTTP/1.0",
        b"GET http://no%%20host%b HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close",
        b"GET %b HTTP/1.1\r\nHost: no host\r\nConnection: close",
        b"GET %b HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close",
        b"GET %b HTTP/1.1\r\nHost: localhost\r\nConnection: close",
    ],
)
def test_temporal_http_api_refuses_any_host(stack: Stack, env: dict[str, str], head: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port_of(stack, "temporal-http")), timeout=30) as connection:
        connection.sendall(head % b"/api/v1/namespaces" + b"\r\n\r\n")
        said = b""
        while piece := connection.recv(65_536):
            said += piece
    assert env["TEMPORAL_NAMESPACE"].encode() not in said
    assert said.split()[1] in {b"400", b"403"}


def test_aws_clients_pass_guard_unchanged(stack: Stack, env: dict[str, str]) -> None:
    s3, bucket = client("s3", env), env["S3_BUCKET"]
    large = os.urandom(24 * 1024 * 1024)
    # boto3 waits for "100 Continue", and sends a file in chunks with a checksum behind them.
    file = stack.paths.root / "large"
    file.write_bytes(large)
    s3.upload_file(str(file), bucket, "ordinary/large")
    assert s3.get_object(Bucket=bucket, Key="ordinary/large")["Body"].read() == large
    with file.open("rb") as body:
        s3.put_object(Bucket=bucket, Key="ordinary/stream", Body=body, ChecksumAlgorithm="CRC32")
    assert s3.head_object(Bucket=bucket, Key="ordinary/stream")["ContentLength"] == len(large)
    place = {"Bucket": bucket, "Key": "ordinary/presigned"}
    with urlopen(Request(s3.generate_presigned_url("put_object", Params=place), b"signed", method="PUT")):  # noqa: S310
        pass
    with urlopen(s3.generate_presigned_url("get_object", Params=place)) as response:  # noqa: S310
        assert response.read() == b"signed"
    # One connection for all requests, by each name of this machine.
    url = urlsplit(env["AWS_ENDPOINT_URL_S3"])
    connection = http.client.HTTPConnection(f"{url.hostname}:{url.port}", timeout=30)
    for host in (f"localhost:{url.port}", "127.0.0.1"):
        connection.request("GET", f"/{bucket}/ordinary/presigned", headers={"Host": host})
        assert connection.getresponse().read() == b"signed"
    connection.close()
    for key in ("large", "stream", "presigned"):
        s3.delete_object(Bucket=bucket, Key=f"ordinary/{key}")


def test_navigation_opens_object_but_runs_no_action(stack: Stack, env: dict[str, str]) -> None:
    """Also if a page led there: by a redirect from a typed address, or by a link in a mail."""
    s3, sqs, bucket = client("s3", env), client("sqs", env), env["S3_BUCKET"]
    s3.put_object(Bucket=bucket, Key="opened/text", Body=b"a text")
    opened = {
        "Sec-Fetch-Site": "none",
        "Sec-Fetch-Mode": "navigate",
        "Accept": "text/html",
        "User-Agent": "Mozilla/5.0",
    }
    port = port_of(stack, "aws")
    assert send(port, Asked("aws", "GET", f"/{bucket}/opened/text"), opened).body == "a text"
    queues = sqs.list_queues()["QueueUrls"]
    made = send(port, Asked("aws", "GET", "/?Action=CreateQueue&QueueName=evil"), opened)
    gone = send(port, Asked("aws", "GET", f"{urlsplit(env['SQS_QUEUE_URL']).path}?Action=DeleteQueue"), opened)
    assert sqs.list_queues()["QueueUrls"] == queues
    assert (made.status, gone.status) == (403, 403)
    s3.delete_object(Bucket=bucket, Key="opened/text")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_temporal_ui_own_page_works(stack: Stack, env: dict[str, str], host: str) -> None:
    port = port_of(stack, "temporal-ui")
    own = f"http://{host}:{port}"
    page = send(port, Asked("temporal-ui", "GET", "/"), {"Host": f"{host}:{port}", "Sec-Fetch-Site": "none"})
    assert page.status == 200
    scripts = re.findall(r'"(/_app/[^"]+\.js)"', page.body)
    assert scripts
    for script in scripts[:3]:
        read = send(port, Asked("temporal-ui", "GET", script), {"Host": f"{host}:{port}", "Referer": f"{own}/"})
        assert read.status == 200
    name = f"by-ui-{secrets.token_hex(4)}"
    begin = b'{"workflowType":{"name":"Kept"},"taskQueue":{"name":"unpolled"}}'
    token = csrf_token(port)
    browser = {
        "Host": f"{host}:{port}",
        "Origin": own,
        "Sec-Fetch-Site": "same-origin",
        "Cookie": f"_csrf={token}",
        "X-CSRF-TOKEN": token,
        "Content-Type": "application/json",
    }
    namespace = f"/api/v1/namespaces/{env['TEMPORAL_NAMESPACE']}"
    assert send(port, Asked("temporal-ui", "POST", f"{namespace}/workflows/{name}", begin), browser).status == 200
    assert workflows.is_kept(env, name)
    stop = Asked("temporal-ui", "POST", f"{namespace}/workflows/{name}/terminate", b'{"reason":"x"}')
    assert send(port, stop, browser).status == 200


def serves_a_page(port: int) -> bool:
    try:
        return said_to_a_page("127.0.0.1", port) != b""
    except OSError:
        return False


def test_forwarder_of_stopped_service_does_not_respond(stack: Stack) -> None:
    port = port_of(stack, "temporal-ui")
    assert serves_a_page(port)
    stack.pause("temporal")
    try:
        assert not serves_a_page(port)
    finally:
        stack.resume("temporal")
    assert serves_a_page(port)
    pid = Processes.load(stack.paths).services["temporal"].pid
    assert pid is not None
    forwarder = psutil.Process(pid).children(recursive=True)
    assert len(forwarder) == 2
    psutil.Process(pid).kill()
    wait_until(lambda: not serves_a_page(port), "nothing listens any more")
    wait_until(lambda: not any(each.is_running() for each in forwarder), "its forwarder has ended")
    assert stack.up().started
    assert serves_a_page(port)


def test_forwarder_killed_is_restarted(stack: Stack) -> None:
    port, pid = port_of(stack, "temporal-ui"), Processes.load(stack.paths).services["temporal"].pid
    assert serves_a_page(port)
    for process in psutil.Process(pid).children(recursive=True):
        if not process.children():
            process.kill()
            process.wait(30)
    wait_until(lambda: serves_a_page(port), "the page is there again")
    assert not stack.up().started


# A fake server: listens on the given ports of the UI, the HTTP API and the metrics.
LISTENS = """
import socket, sys
from itertools import pairwise
told = dict(pairwise(sys.argv))
socket.create_server((told["--ui-ip"], int(told["--ui-port"])))
for option in ("--http-port", "--metrics-port"):
    socket.create_server(("127.0.0.1", int(told[option])))
print(told["--ui-ip"], told["--ui-port"])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="no other system has all of 127.0.0.0/8")
@pytest.mark.parametrize("taken", BAD_PORTS[:3])
def test_temporal_guard_skips_taken_bad_port(taken: int) -> None:
    """For example, a chat server that listens on all addresses has one of the bad ports on the stack's address too."""
    # Each stack tries the list from another position: this one from the first.
    number = secrets.randbelow(100) * 20 * len(BAD_PORTS)
    with socket.create_server((ui_host(number), taken)), socket.create_server(("127.0.0.1", 0)) as free:
        ui_port = free.getsockname()[1]
        free.close()
        argv = [sys.executable, "-m", "photo_worker.devkit.guard.temporal", "--ui-port", str(ui_port)]
        done = subprocess.run(
            [*argv, "--stack", str(number), "--", sys.executable, "-c", LISTENS],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert (done.returncode, done.stderr) == (0, "")
    host, port = done.stdout.split()
    assert host == ui_host(number)
    assert int(port) in REFUSED_BY_BROWSERS - {taken}


def test_reserve_gives_stacks_distinct_ports_and_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    first = reserve(15_000)
    second = reserve(15_000)
    with first, second:
        ports = [each.getsockname()[1] for each in (first, second)]
    assert len(set(ports)) == 2
    assert set(ports) <= REFUSED_BY_BROWSERS
    monkeypatch.setattr("sys.platform", "linux")
    assert len({ui_host(base) for base in range(15_000, 32_000, 20)}) == len(range(15_000, 32_000, 20))
