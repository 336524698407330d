"""The emulator's control interface: fault scripts, counters, reset. AWS has no such interface."""

from __future__ import annotations

import functools
import secrets
import time
from typing import Any

from tests.conformance import documents
from tests.conformance.expectation import OWN, Expectation, O
from tests.conformance.service import ANALYSE, GET, START, Service, exchange, texts

_CONTROLS = "the emulator's controls are needed"
_TOO_MANY = "Open jobs exceed maximum concurrent job limit"
_MOST_OPEN_JOBS = 100


def _one_page() -> bytes:
    return documents.png(f"CONTROL {secrets.randbelow(9000) + 1000}", "FLOUR 1357")


def _told_to_fail(service: Service) -> None:
    rule = {"kind": "job-fails", "document": f"{service.prefix}/*", "message": "as asked"}
    with service.emulator.faults(rule):
        finished = service.finished(service.start(_one_page()))
    assert (finished["JobStatus"], finished["StatusMessage"]) == ("FAILED", "as asked")
    assert "Blocks" not in finished


def _told_to_be_partial(service: Service) -> None:
    rule = {"kind": "job-partial", "document": f"{service.prefix}/*", "pages": 1}
    with service.emulator.faults(rule):
        job_id = service.start(documents.many_pages("TIFF", [["ONE 1111"], ["TWO 2222"]]))
        finished = service.finished(job_id)
    assert finished["JobStatus"] == "PARTIAL_SUCCESS"
    assert finished["StatusMessage"]
    assert texts(finished["Blocks"]) == ["ONE 1111"]


def _faulty_calls(service: Service, *, kind: str, status: int, code: str, message: str) -> None:
    rule = {"kind": kind, "operation": "GetDocumentTextDetection", "times": 1}
    job_id = service.start(_one_page())
    service.succeeded(job_id)
    with service.emulator.faults(rule):
        response = service.send(GET[START], {"JobId": job_id})
        assert (response.status, response.json["__type"]) == (status, code)
        if message:
            assert response.json["Message"] == message
        service.succeeded(job_id)


def _notified(service: Service, *, kind: str, times: int) -> None:
    channel = service.channel()
    rule = {"kind": kind, "document": f"{service.prefix}/*", "calls": [1]}
    with service.emulator.faults(rule):
        job_id = service.start(_one_page(), NotificationChannel=channel.member)
        service.succeeded(job_id)
        # The rule applies to the first notification only: the job's must have been sent before the next one.
        fence = service.start(_one_page(), NotificationChannel=channel.member)
        awaited = (fence, job_id) if kind == "notification-out-of-order" else (fence,)
        order = [message["JobId"] for message in service.until_told(channel, *awaited)]
    if kind == "notification-out-of-order":
        assert order == [fence, job_id]
    assert order.count(job_id) == times


def _health(service: Service) -> None:
    health = service.emulator.request("GET", "health").json
    assert health["service"] == "textract"
    assert health["engine"]
    assert health["engine_version"]
    assert set(health["operations"]) >= {*GET, *GET.values(), "DetectDocumentText", "AnalyzeDocument"}


def _late(service: Service) -> None:
    channel = service.channel()
    rule = {"kind": "notification-late", "seconds": 2, "document": f"{service.prefix}/*"}
    with service.emulator.faults(rule):
        job_id = service.start(_one_page(), NotificationChannel=channel.member)
        service.succeeded(job_id)
        ended = time.monotonic()
        service.until_told(channel, job_id)
    # Get may report the end a moment after it; the seconds count from the end itself.
    assert time.monotonic() - ended > 1


def _slow(service: Service) -> None:
    began = time.monotonic()
    with service.emulator.faults({"kind": "slow", "seconds": 1, "operations": ["DetectDocumentText"]}):
        service.ask("DetectDocumentText", Document={"Bytes": documents.png("LEMON 2468")})
    assert time.monotonic() - began >= 1


def _seeded(service: Service) -> None:
    rule = {"kind": "throttle", "operations": ["GetDocumentTextDetection"], "probability": 0.5}

    def outcomes() -> list[str]:
        with service.emulator.faults(rule):
            responses = [service.send(GET[START], {"JobId": "0" * 64}) for _ in range(16)]
        return [response.json["__type"] for response in responses]

    first = outcomes()
    assert set(first) == {"ThrottlingException", "InvalidJobIdException"}
    assert outcomes() == first


def _limit(service: Service) -> None:
    document = service.stored(_one_page())
    # Jobs of other expectations may still be read, and are counted as well.
    assert service.emulator.request("POST", "reset").status == 200
    try:
        with service.emulator.faults({"kind": "job-slow", "seconds": 3600, "document": f"{service.prefix}/*"}):
            for _ in range(_MOST_OPEN_JOBS):
                service.start(document)
            assert service.refused(START, DocumentLocation=document) == ("LimitExceededException", _TOO_MANY)
            assert service.refused(ANALYSE, DocumentLocation=document, FeatureTypes=["TABLES"]) == (
                "LimitExceededException",
                _TOO_MANY,
            )
    finally:
        assert service.emulator.request("POST", "reset").status == 200
    service.succeeded(service.start(document))


def _counted(service: Service) -> None:
    def tally() -> Any:
        return service.emulator.counters()["operations"].get("AnalyzeDocument", {"requests": 0, "errors": {}})

    before = tally()
    service.refused("AnalyzeDocument", Document={}, FeatureTypes=["TABLES"])
    after = tally()
    assert after["requests"] == before["requests"] + 1
    code = "InvalidParameterException"
    assert after["errors"][code] == before["errors"].get(code, 0) + 1


def _reset(service: Service) -> None:
    job_id = service.start(_one_page())
    service.succeeded(job_id)
    assert service.emulator.request("POST", "reset").status == 200
    code, _ = service.refused(GET[START], JobId=job_id)
    assert code == "InvalidJobIdException"
    counters = service.emulator.counters()
    assert counters["documents"] == {}
    assert list(counters["operations"]) == [GET[START]]


def _foreign_pages(service: Service) -> None:
    for headers in ({"Origin": "https://example.com"}, {"Host": "example.com"}):
        for method, path in (("POST", "reset"), ("GET", "counters")):
            url = f"{service.url}/_emulator/{path}"
            assert exchange(url, method, None, headers).status == 403


EXPECTATIONS: tuple[Expectation, ...] = (
    *(
        Expectation(
            f"control.{kind}",
            OWN,
            f"a call that the fault script has down for `{kind}`",
            f"{status} `{code}`" + (f", `{message}`" if message else "") + "; the next is answered",
            functools.partial(_faulty_calls, kind=kind, status=status, code=code, message=message),
            _CONTROLS,
        )
        for kind, status, code, message in (
            ("throttle", 500, "ThrottlingException", ""),
            (
                "provisioned-throughput",
                400,
                "ProvisionedThroughputExceededException",
                "Provisioned rate exceeded",
            ),
            ("internal-error", 500, "InternalServerError", ""),
        )
    ),
    Expectation("control.job-fails", OWN, "a job that is down for it", "FAILED as asked", _told_to_fail, _CONTROLS),
    Expectation(
        "control.job-partial",
        OWN,
        "a job that is down for it",
        "PARTIAL_SUCCESS, first page",
        _told_to_be_partial,
        _CONTROLS,
    ),
    *(
        Expectation(
            f"control.{kind}",
            OWN,
            f"a notification that is down for `{kind}`",
            said,
            functools.partial(_notified, kind=kind, times=times),
            _CONTROLS,
        )
        for kind, times, said in (
            ("notification-doubled", 2, "it comes twice"),
            ("notification-lost", 0, "it does not come"),
            ("notification-out-of-order", 1, "it comes after the next one"),
        )
    ),
    Expectation("control.health", OWN, "GET `/_emulator/health`", "engine, versions, operations", _health, _CONTROLS),
    Expectation(
        "control.notification-late",
        OWN,
        "a notification that is down for 2 seconds",
        "it comes later",
        _late,
        _CONTROLS,
    ),
    Expectation("control.slow", OWN, "a call that is down for a second", "it takes a second", _slow, _CONTROLS),
    Expectation(
        "control.seeded", OWN, "a script of probability one half, twice", "the same calls fail", _seeded, _CONTROLS
    ),
    Expectation("control.counters", OWN, "a call that is refused", "it is counted with its error", _counted, _CONTROLS),
    Expectation("control.reset", OWN, "POST `/_emulator/reset`", "no job and no count is left", _reset, _CONTROLS),
    Expectation(
        "control.web-pages",
        OWN,
        "a control request with an Origin, or for the name of another host",
        "403",
        _foreign_pages,
        _CONTROLS,
    ),
    Expectation(
        "control.open-jobs",
        O,
        "100 jobs in progress and one more",
        f"400 `LimitExceededException`, `{_TOO_MANY}`",
        _limit,
        "the quota of an account, and what it costs to reach it",
    ),
)
