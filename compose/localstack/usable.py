"""LocalStack's health check, run within its container: S3, SNS and SQS each respond to a real call, and pages none.

Standard library alone, since it runs with the Python of the image. Exit codes: 0, or 1 with the reason.
"""

import sys
import time
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

ADDRESS = "http://127.0.0.1:4566"
SECONDS = 8
# Asked every second until it works, every ten seconds from then on; the file goes when the container stops.
WORKED = Path("/dev/shm/usable")  # noqa: S108 - the container's own


def ask(service: str, body: str, headers: dict[str, str], expected: bytes) -> None:
    """Make one call; raises ``OSError`` where it is refused, ``ValueError`` where the response is another's."""
    # LocalStack tells services apart by this header, and checks no signature but that of a presigned URL.
    scope = f"test/20260101/us-east-1/{service}/aws4_request"
    signed = f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=none"
    request = Request(f"{ADDRESS}/", body.encode() or None, {"Authorization": signed, **headers})  # noqa: S310
    with urlopen(request, timeout=SECONDS) as response:  # noqa: S310 - the address is the constant above
        found = response.read()
    if expected not in found:
        raise ValueError(f"it responds {found[:200]!r}")


def refuses_pages() -> bool:
    """Say whether a request by the name of a web page is refused, as the stack's rules have it."""
    # A page's owner can have its name point here.
    request = Request(f"{ADDRESS}/", headers={"Host": "page.invalid"})  # noqa: S310
    try:
        with urlopen(request, timeout=SECONDS):  # noqa: S310 - the address is the constant above
            return False
    except HTTPError as error:
        return error.code == 403


def main() -> int:
    """Ask each service once."""
    if WORKED.exists():
        time.sleep(10)
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    json = {"Content-Type": "application/x-amz-json-1.0", "X-Amz-Target": "AmazonSQS.ListQueues"}
    for service, body, headers, expected in (
        ("s3", "", {}, b"ListAllMyBucketsResult"),
        ("sns", "Action=ListTopics&Version=2010-03-31", form, b"ListTopicsResult"),
        ("sqs", "{}", json, b"{"),
    ):
        try:
            ask(service, body, headers, expected)
        except (OSError, ValueError) as error:
            sys.stdout.write(f"{service}: {error}\n")
            return 1
    if not refuses_pages():
        sys.stdout.write("web pages are let in: /etc/localstack/init/start.d/photo-worker.py did not run\n")
        return 1
    WORKED.touch()
    return 0


if __name__ == "__main__":
    sys.exit(main())
