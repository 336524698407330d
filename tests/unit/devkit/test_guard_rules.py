"""Which requests the origin rules allow: headers that reveal a page of another origin, and those of programs."""

from __future__ import annotations

import pytest

from photo_worker.devkit.guard.rules import ServiceRules, allowed_hosts

HOST = "127.0.0.1:15005"


def refusal(rules: ServiceRules, *headers: tuple[str, str]) -> str | None:
    return rules.refusal([(name.lower().encode(), value.encode("latin-1")) for name, value in headers])


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        HOST,
        "127.83.1.2:6667",
        "localhost:15005",
        "LOCALHOST",
        "localhost.",
        "photos.localhost:4566",
        "[::1]:15005",
        "[::1]",
    ],
)
def test_origin_rules_loopback_host_is_allowed(host: str) -> None:
    assert refusal(ServiceRules(), ("Host", host), ("Authorization", "AWS4-HMAC-SHA256 ...")) is None


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:15005",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "localhost:15005.evil.example",
        "evillocalhost",
        "evil.example@127.0.0.1",
        "127.0.0.1:15005@evil.example",
        "127.0.0.1:15005:1",
        "textract:8765",
        "host.docker.internal:15005",
        "10.0.0.7",
        "0.0.0.0",  # noqa: S104 - a name that a page may have, not an address to listen on
        "[2001:db8::1]:15005",
        "2130706433",
        "127.0.0.1 ",
        "",
        "\xe9.localhost",
        "127.0.0.1\tevil.example",
    ],
)
def test_origin_rules_other_host_names_allowed_hosts_variable(host: str) -> None:
    told = refusal(ServiceRules(), ("Host", host))
    if host == "127.0.0.1 ":
        # Whitespace around a value is not part of it (RFC 9110, 5.5).
        assert told is None
        return
    assert told is not None
    assert "Host" in told
    assert "PHOTO_WORKER_ALLOWED_HOSTS" in told


def test_origin_rules_missing_or_duplicate_host_is_refused() -> None:
    assert "Host is missing" in (refusal(ServiceRules()) or "")
    assert "two Host headers" in (refusal(ServiceRules(), ("Host", HOST), ("Host", "evil.example")) or "")
    assert "two Host headers" in (refusal(ServiceRules(), ("Host", "evil.example"), ("Host", HOST)) or "")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Origin", "https://evil.example"),
        ("Origin", "null"),
        ("Origin", ""),
        ("Origin", "http://localhost:3000"),
        ("Origin", "http://127.0.0.1:15006"),
        ("Origin", f"https://{HOST}"),
        ("Origin", f"http://{HOST}.evil.example"),
        ("Sec-Fetch-Site", "cross-site"),
        ("Sec-Fetch-Site", "same-site"),
        ("Sec-Fetch-Site", "Cross-Site"),
        ("Sec-Fetch-Site", "of a later standard"),
    ],
)
@pytest.mark.parametrize("same_origin", [False, True])
def test_origin_rules_cross_origin_page_is_refused(name: str, value: str, same_origin: bool) -> None:
    told = refusal(ServiceRules(same_origin=same_origin), ("Host", HOST), (name, value))
    assert told is not None
    assert "web page sent it" in told


def test_origin_rules_own_page_needs_same_origin_option() -> None:
    own = [("Host", HOST), ("Origin", f"http://{HOST}"), ("Sec-Fetch-Site", "same-origin")]
    assert refusal(ServiceRules(same_origin=True), *own) is None
    assert refusal(ServiceRules(), *own) is not None
    # If a foreign name resolves to this machine, the browser takes the page for one of the same origin.
    rebound = [("Host", "evil.example:15005"), ("Origin", "http://evil.example:15005")]
    assert refusal(ServiceRules(same_origin=True), *rebound) is not None


def test_origin_rules_page_stored_as_object_is_refused() -> None:
    """Its plain GETs are of the same origin and carry no Origin: ``?Action=`` would reach SNS or SQS."""
    assert refusal(ServiceRules(), ("Host", HOST), ("Sec-Fetch-Site", "none")) is None
    told = refusal(
        ServiceRules(), ("Host", HOST), ("Sec-Fetch-Site", "same-origin"), ("Referer", f"http://{HOST}/b/page.html")
    )
    assert told is not None
    assert "web page sent it" in told


BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"


@pytest.mark.parametrize("query", [b"Action=CreateQueue&QueueName=evil", b"x=%FF\xff&%41ction", b"a=b&action="])
def test_origin_rules_navigation_with_action_is_refused(query: bytes) -> None:
    """To a browser, a link in a mail and a redirect from a typed address are the user's own navigation."""
    opened = [(b"host", HOST.encode()), (b"sec-fetch-site", b"none"), (b"sec-fetch-mode", b"navigate")]
    told = ServiceRules().refusal(opened, query)
    assert told is not None
    assert "a browser was led to it" in told
    assert ServiceRules().refusal(opened[:1], query) is None
    assert ServiceRules().refusal(opened, b"versionId=Action&list-type=2&X-Amz-Action=x") is None
    # The UI's GET requests change nothing, so they are allowed.
    assert ServiceRules(same_origin=True).refusal(opened, query) is None


@pytest.mark.parametrize("host", [HOST, "localhost.:15005", "[::1]:15005"])
@pytest.mark.parametrize(
    ("name", "value"),
    [("User-Agent", BROWSER), ("Accept", "text/html,*/*;q=0.8"), ("Referer", "https://evil.example/")],
)
def test_origin_rules_action_without_fetch_site_is_refused(host: str, name: str, value: str) -> None:
    """Safari before 16.4 sends no Sec-Fetch-Site, and no browser sends it to a host that it does not trust."""
    sent = [(b"host", host.encode()), (name.lower().encode(), value.encode())]
    told = ServiceRules().refusal(sent, b"Action=CreateQueue&QueueName=evil")
    assert told is not None
    assert "a browser was led to it" in told
    assert ServiceRules().refusal(sent, b"versionId=Action") is None


@pytest.mark.parametrize("agent", ["Boto3/1.40 md/Botocore#1.40", "aws-cli/2.31 md/awscrt#0.27", "curl/8.14.1"])
def test_origin_rules_action_of_program_is_allowed(agent: str) -> None:
    sent = [(b"host", HOST.encode()), (b"user-agent", agent.encode()), (b"accept", b"*/*")]
    assert ServiceRules().refusal(sent, b"Action=ListQueues") is None


def test_origin_rules_duplicate_origin_is_refused() -> None:
    own, foreign = ("Origin", f"http://{HOST}"), ("Origin", "https://evil.example")
    for both in ((own, foreign), (foreign, own)):
        assert "two Origin headers" in (refusal(ServiceRules(same_origin=True), ("Host", HOST), *both) or "")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("User-Agent", BROWSER),
        ("Referer", "https://evil.example/"),
        ("Sec-CH-UA", '"Chromium";v="140"'),
        ("Sec-Fetch-Mode", "no-cors"),
        ("Sec-Fetch-Site", "none"),
        ("Accept", "image/avif,image/webp,*/*;q=0.8"),
        ("Accept", "application/xhtml+xml, Text/HTML"),
    ],
)
@pytest.mark.parametrize("host", ["localhost.localstack.cloud:4566", "dev.box", "10.0.0.7:8765"])
def test_origin_rules_browser_by_allowed_host_is_refused(host: str, name: str, value: str) -> None:
    """Such a GET for an image has neither Origin nor Sec-Fetch-Site, and could still create a queue."""
    rules = ServiceRules(["localhost.localstack.cloud", "dev.box", "10.0.0.7"])
    told = refusal(rules, ("Host", host), (name, value))
    assert told is not None
    assert name.lower() in told
    assert refusal(rules, ("Host", HOST), (name, value)) is None
    assert refusal(rules, ("Host", host), ("User-Agent", "Boto3/1.40 md/Botocore#1.40"), ("Accept", "*/*")) is None


@pytest.mark.parametrize(
    ("agent", "accept"),
    [
        ("Boto3/1.40 md/Botocore#1.40", "*/*"),
        ("curl/8.14.1", "*/*"),
        ("aws-sdk-go-v2/1.39", "application/json"),
        # The defaults of Java's own client; the first form is that of older releases.
        ("aws-sdk-java/2.34 UrlConnection", "text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2"),
        ("aws-sdk-java/2.34 UrlConnection", "text/html, image/gif, image/jpeg, */*; q=0.2"),
    ],
)
def test_origin_rules_program_by_allowed_host_is_allowed(agent: str, accept: str) -> None:
    rules = ServiceRules(["aws"])
    assert refusal(rules, ("Host", "aws:4566"), ("User-Agent", agent), ("Accept", accept)) is None


def test_origin_rules_own_page_by_allowed_host_is_allowed() -> None:
    rules = ServiceRules(["dev.box"], same_origin=True)
    assert refusal(rules, ("Host", "dev.box:8233"), ("User-Agent", BROWSER), ("Accept", "text/html")) is None
    assert refusal(rules, ("Host", "dev.box:8233"), ("User-Agent", BROWSER), ("Origin", "http://evil.example"))


def test_origin_rules_plain_navigation_is_allowed() -> None:
    assert refusal(ServiceRules(), ("Host", HOST), ("Sec-Fetch-Site", "none"), ("Sec-Fetch-Mode", "navigate")) is None


@pytest.mark.parametrize("given", ["dev.box:8233", "Dev.Box.:1", "[2001:db8::1]:8233"])
def test_allowed_hosts_ignores_port(given: str) -> None:
    rules = ServiceRules(allowed_hosts({"PHOTO_WORKER_ALLOWED_HOSTS": f"textract,{given}"}))
    host = "[2001:db8::1]" if given.startswith("[") else "dev.box"
    for port in ("", ":8233", ":15005"):
        assert refusal(rules, ("Host", f"{host}{port}")) is None, port
    assert refusal(rules, ("Host", "box")) is not None


def test_allowed_hosts_matches_each_listed_name_exactly() -> None:
    rules = ServiceRules(allowed_hosts({"PHOTO_WORKER_ALLOWED_HOSTS": " textract, Host.Docker.Internal ,,"}))
    for host in ("textract:8765", "TEXTRACT", "host.docker.internal:15005", "127.0.0.1"):
        assert refusal(rules, ("Host", host)) is None, host
    for host in ("aws:4566", "evil.textract", "textract.evil.example"):
        assert refusal(rules, ("Host", host)) is not None, host
    # An allowed Host does not allow another Origin.
    assert refusal(rules, ("Host", "textract:8765"), ("Origin", "http://evil.example")) is not None
