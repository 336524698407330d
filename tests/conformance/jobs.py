"""Jobs: ids, tokens, paging, final states, notifications and output."""

from __future__ import annotations

import functools
import re
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.conformance import documents
from tests.conformance.expectation import (
    NO_JOB,
    OWN,
    UNKNOWN,
    D,
    Expectation,
    O,
    refusal,
)
from tests.conformance.job_ends import (
    fails,
    failure_is_told,
    figure,
    message,
    message_without_tag,
    one_page,
    output_is_stored,
    output_refused,
    queries_by_page,
)
from tests.conformance.service import ANALYSE, GET, START, Service, texts
from textract_support import bad_inputs

_OPERATIONS = (START, ANALYSE)
_CONTROLS = "the emulator's controls are needed"
_PROCESS = "the server is killed and started again"


def _token() -> str:
    return f"t-{secrets.token_hex(12)}"


def _job_id(service: Service, *, operation: str) -> None:
    assert re.fullmatch(r"[0-9a-f]{64}", service.start(one_page(), operation))


def _succeeds(service: Service, *, operation: str) -> None:
    text = f"JOB {figure()}"
    job_id = service.start(documents.png(text), operation)
    response = service.succeeded(job_id, operation)
    assert response["DocumentMetadata"] == {"Pages": 1}
    assert texts(response["Blocks"]) == [text]
    version = "AnalyzeDocumentModelVersion" if operation == ANALYSE else "DetectDocumentTextModelVersion"
    assert response[version] == "1.0"
    assert not {"NextToken", "Warnings", "StatusMessage", "JobId"} & set(response)


def _page_member(service: Service, *, operation: str) -> None:
    blocks = service.blocks_of(service.start(one_page(), operation), operation)
    assert {block.get("Page") for block in blocks} == {1}


def _many_pages(service: Service, *, kind: str, operation: str) -> None:
    lines = [[f"PAGE {number}", f"FIGURE {figure()}"] for number in (1, 2, 3)]
    job_id = service.start(documents.many_pages(kind, lines), operation)
    response = service.succeeded(job_id, operation)
    assert response["DocumentMetadata"] == {"Pages": 3}
    blocks = service.blocks_of(job_id, operation)
    for number, expected in enumerate(lines, 1):
        assert texts([block for block in blocks if block["Page"] == number]) == expected
    assert [block["Page"] for block in blocks if block["BlockType"] == "PAGE"] == [1, 2, 3]


def _pages_integer(service: Service) -> None:
    response = service.send(GET[START], {"JobId": service.start(one_page())})
    assert response.status == 200
    finished = service.finished(service.start(one_page()))
    assert type(finished["DocumentMetadata"]["Pages"]) is int


def _same_words(service: Service) -> None:
    content = one_page()
    blocks = service.blocks_of(service.start(content))
    at_once = service.ask("DetectDocumentText", Document={"Bytes": content})["Blocks"]
    assert [{key: block[key] for key in ("BlockType", "Geometry")} for block in blocks] == [
        {key: block[key] for key in ("BlockType", "Geometry")} for block in at_once
    ]
    assert texts(blocks, "WORD") == texts(at_once, "WORD")


def _read_again(service: Service, *, operation: str) -> None:
    job_id = service.start(one_page(), operation)
    first = service.succeeded(job_id, operation)
    for _ in range(3):
        assert service.ask(GET[operation], JobId=job_id) == first


def _other_operation(service: Service, *, operation: str) -> None:
    job_id = service.start(one_page(), operation)
    service.succeeded(job_id, operation)
    (other,) = (name for name in _OPERATIONS if name != operation)
    assert service.refused(GET[other], JobId=job_id) == ("InvalidJobIdException", NO_JOB)
    service.succeeded(job_id, operation)


def _in_progress(service: Service) -> None:
    with service.emulator.faults({"kind": "job-slow", "seconds": 3600, "document": f"{service.prefix}/*"}):
        job_id = service.start(one_page())
        response = service.ask(GET[START], JobId=job_id)
    assert response["JobStatus"] == "IN_PROGRESS"
    assert "Blocks" not in response


def _same_token(service: Service, *, operation: str) -> None:
    document, token = service.stored(one_page()), _token()
    first = service.start(document, operation, ClientRequestToken=token, JobTag="card")
    assert service.start(document, operation, ClientRequestToken=token, JobTag="card") == first
    service.succeeded(first, operation)
    assert service.start(document, operation, ClientRequestToken=token, JobTag="card") == first


def _no_token(service: Service) -> None:
    document = service.stored(one_page())
    assert service.start(document) != service.start(document)


def _other_token(service: Service) -> None:
    document = service.stored(one_page())
    assert service.start(document, ClientRequestToken=_token()) != service.start(document, ClientRequestToken=_token())


def _mismatch(service: Service, *, operation: str, change: str) -> None:
    document, token = service.stored(one_page()), _token()
    given: dict[str, Any] = {"DocumentLocation": document, "ClientRequestToken": token}
    if operation == ANALYSE:
        given["FeatureTypes"] = ["TABLES"]
    job_id = service.ask(operation, **given)["JobId"]
    changes: dict[str, Callable[[], Any]] = {
        "DocumentLocation": lambda: service.stored(one_page()),
        "FeatureTypes": lambda: ["FORMS"],
        "JobTag": lambda: "another",
        "OutputConfig": lambda: {"S3Bucket": service.bucket, "S3Prefix": service.prefix},
    }
    code, _ = service.refused(operation, **{**given, change: changes[change]()})
    assert code == "IdempotentParameterMismatchException"
    assert service.ask(operation, **given)["JobId"] == job_id


def _token_of_other_operation(service: Service) -> None:
    document, token = service.stored(one_page()), _token()
    detection = service.start(document, START, ClientRequestToken=token)
    analysis = service.start(document, ANALYSE, ClientRequestToken=token)
    assert detection != analysis
    service.succeeded(detection, START)
    service.succeeded(analysis, ANALYSE)


def _run_once(service: Service) -> None:
    content, token = one_page(), _token()
    document = service.stored(content)
    job_id = service.start(document, ClientRequestToken=token)
    service.succeeded(job_id)
    assert service.start(document, ClientRequestToken=token) == job_id
    service.succeeded(job_id)
    assert service.emulator.billed(content) == 1


def _told_once(service: Service) -> None:
    """Check for a single notification, waiting for that of a later job so that no duplicate is missed."""
    channel, document, token = service.channel(), service.stored(one_page()), _token()
    given: dict[str, Any] = {"ClientRequestToken": token, "NotificationChannel": channel.member}
    job_id = service.start(document, **given)
    told = service.until_told(channel, job_id)
    assert service.start(document, **given) == job_id
    fence = service.start(one_page(), NotificationChannel=channel.member)
    told += service.until_told(channel, fence)
    assert [message["JobId"] for message in told].count(job_id) == 1


def _sixteen(service: Service) -> None:
    content, channel = one_page(), service.channel()
    document = service.stored(content)
    given: dict[str, Any] = {"ClientRequestToken": _token(), "NotificationChannel": channel.member, "JobTag": "sixteen"}
    with ThreadPoolExecutor(16) as threads:
        ids = list(threads.map(lambda _: service.start(document, **given), range(16)))
    assert len(set(ids)) == 1
    told = service.until_told(channel, ids[0])
    service.succeeded(ids[0])
    fence = service.start(one_page(), NotificationChannel=channel.member)
    told += service.until_told(channel, fence)
    assert [message["JobId"] for message in told].count(ids[0]) == 1
    if service.control is not None:
        assert service.control.billed(content) == 1


def _paging(service: Service, *, operation: str, most: int) -> None:
    job_id = service.start(documents.many_pages("TIFF", [["ONE 1111", "TWO 2222"], ["THREE 3333"]]), operation)
    whole = service.blocks_of(job_id, operation)
    responses = service.pages_of(job_id, operation, MaxResults=most)
    sizes = [len(response["Blocks"]) for response in responses]
    assert sizes == [most] * (len(whole) // most) + ([len(whole) % most] if len(whole) % most else [])
    assert [block for response in responses for block in response["Blocks"]] == whole
    assert {response["DocumentMetadata"]["Pages"] for response in responses} == {2}
    assert {response["JobStatus"] for response in responses} == {"SUCCEEDED"}


def _default_size(service: Service) -> None:
    job_id = service.start(documents.dense())
    responses = service.pages_of(job_id)
    assert len(responses[0]["Blocks"]) == 1000
    assert len(responses) == 2
    assert responses[0]["DocumentMetadata"] == responses[1]["DocumentMetadata"] == {"Pages": 3}
    larger = service.pages_of(job_id, MaxResults=5000)
    assert [len(response["Blocks"]) for response in larger] == [len(response["Blocks"]) for response in responses]
    assert [response["Blocks"] for response in larger] == [response["Blocks"] for response in responses]
    assert "1000" in texts(responses[0]["Blocks"], "WORD")


def _replayed(service: Service) -> None:
    job_id = service.start(one_page())
    first = service.succeeded(job_id, MaxResults=2)
    token = first["NextToken"]
    second = service.ask(GET[START], JobId=job_id, MaxResults=2, NextToken=token)
    assert second["Blocks"] != first["Blocks"]
    service.ask(GET[START], JobId=job_id, MaxResults=2, NextToken=second["NextToken"])
    assert service.ask(GET[START], JobId=job_id, MaxResults=2, NextToken=token)["Blocks"] == second["Blocks"]


def _unknown_next_token(service: Service) -> None:
    job_id = service.start(one_page())
    service.succeeded(job_id)
    code, _ = service.refused(GET[START], JobId=job_id, NextToken="a-token-that-was-not-issued")
    assert code == "InvalidParameterException"


def _foreign_next_token(service: Service) -> None:
    one, other = (service.start(one_page()) for _ in range(2))
    token = service.succeeded(one, MaxResults=2)["NextToken"]
    service.succeeded(other)
    code, _ = service.refused(GET[START], JobId=other, NextToken=token)
    assert code == "InvalidParameterException"


def _expires(service: Service) -> None:
    document, token = service.stored(one_page()), _token()
    job_id = service.start(document, ClientRequestToken=token)
    service.succeeded(job_id)
    service.emulator.age(job_id, 7 * 24 * 3600 - 600)
    service.succeeded(job_id)
    assert service.start(document, ClientRequestToken=token) == job_id
    service.emulator.expire(job_id)
    assert service.refused(GET[START], JobId=job_id) == ("InvalidJobIdException", NO_JOB)
    assert service.start(document, ClientRequestToken=token) != job_id


def _survives(service: Service) -> None:
    text, token = f"KEPT {figure()}", _token()
    document = service.stored(documents.png(text, "LINE 2222"))
    job_id = service.start(document, ClientRequestToken=token)
    first = service.succeeded(job_id, MaxResults=2)
    service.emulator.restart()
    assert service.ask(GET[START], JobId=job_id, MaxResults=2) == first
    assert service.start(document, ClientRequestToken=token) == job_id
    rest = service.ask(GET[START], JobId=job_id, NextToken=first["NextToken"])
    assert texts([*first["Blocks"], *rest["Blocks"]]) == [text, "LINE 2222"]


def _resumes(service: Service) -> None:
    text, channel = f"LATE {figure()}", service.channel()
    with service.emulator.faults({"kind": "job-slow", "seconds": 2, "document": f"{service.prefix}/*"}):
        job_id = service.start(documents.png(text), NotificationChannel=channel.member)
        service.emulator.restart()
    assert texts(service.blocks_of(job_id)) == [text]
    assert service.until_told(channel, job_id)[-1]["Status"] == "SUCCEEDED"


EXPECTATIONS: tuple[Expectation, ...] = (
    *(
        Expectation(
            f"job.{name}.{operation}",
            basis,
            sent.format(operation=f"`{operation}`", get=f"`{GET[operation]}`"),
            expected,
            functools.partial(check, operation=operation),
        )
        for operation in _OPERATIONS
        for name, basis, sent, expected, check in (
            ("id", D, "{operation} of a page", "a JobId of 64 lower-case hexadecimal digits", _job_id),
            (
                "succeeds",
                O,
                "{get} of a finished job",
                "SUCCEEDED, Pages, blocks, model version; no NextToken, Warnings, StatusMessage or JobId",
                _succeeds,
            ),
            ("page", O, "{get} of a finished job", "`Page` on every block", _page_member),
            ("read-again", D, "{get} four times", "the same response", _read_again),
            (
                "other-operation",
                D,
                "a JobId of {operation} to the other Get",
                f"400 `InvalidJobIdException`, `{NO_JOB}`",
                _other_operation,
            ),
            ("token", D, "{operation} twice with one token, and again after its end", "one JobId", _same_token),
            (
                "message",
                D,
                "{operation} with a NotificationChannel",
                "JobId, Status, API, JobTag, Timestamp in ms and DocumentLocation, when Get says so already",
                message,
            ),
        )
    ),
    *(
        Expectation(
            f"job.pages.{kind.lower()}.{operation}",
            O,
            f"`{operation}` of a {kind} of 3 pages",
            "Pages 3; each page's blocks in the order of the pages",
            functools.partial(_many_pages, kind=kind, operation=operation),
        )
        for kind in ("PDF", "TIFF")
        for operation in _OPERATIONS
    ),
    Expectation("job.pages-integer", D, "a finished job", "`DocumentMetadata.Pages` is an integer", _pages_integer),
    Expectation("job.same-words", UNKNOWN, "a page as a job and at once", "the same blocks", _same_words),
    Expectation("job.in-progress", D, "Get of a job that runs", "IN_PROGRESS, no Blocks", _in_progress, _CONTROLS),
    Expectation("job.no-token", D, "two Starts without a token", "two jobs", _no_token),
    Expectation("job.other-token", D, "two Starts with two tokens", "two jobs", _other_token),
    *(
        Expectation(
            f"job.token-mismatch.{change}.{operation}",
            D,
            f"`{operation}` with a used token and another {change}",
            "400 `IdempotentParameterMismatchException`; the first job stays",
            functools.partial(_mismatch, operation=operation, change=change),
        )
        for operation, changes in (
            (START, ("DocumentLocation", "JobTag", "OutputConfig")),
            (ANALYSE, ("DocumentLocation", "FeatureTypes")),
        )
        for change in changes
    ),
    Expectation("job.token-other-operation", D, "one token with both Starts", "two jobs", _token_of_other_operation),
    Expectation("job.run-once", D, "one token twice", "charged for once", _run_once, "the emulator's counters tell"),
    Expectation("job.told-once", D, "one token twice, with a channel", "one notification", _told_once),
    Expectation("job.16-starts", D, "16 Starts at once with one token", "one job, charge and notification", _sixteen),
    *(
        Expectation(
            f"job.paging.{most}.{operation}",
            D,
            f"all of `{GET[operation]}` with MaxResults {most}",
            "responses of that size, the same blocks in all",
            functools.partial(_paging, operation=operation, most=most),
        )
        for operation in _OPERATIONS
        for most in (1, 4)
    ),
    Expectation("job.paging.1000", D, "over 1,000 blocks, MaxResults left out and 5,000", "1,000 first", _default_size),
    Expectation("job.paging.replay", D, "a NextToken again", "the same blocks", _replayed),
    Expectation(
        "job.paging.unknown",
        UNKNOWN,
        "a NextToken that was not issued",
        "400 `InvalidParameterException`",
        _unknown_next_token,
    ),
    Expectation(
        "job.paging.foreign",
        UNKNOWN,
        "a NextToken of another job",
        "400 `InvalidParameterException`",
        _foreign_next_token,
    ),
    Expectation(
        "job.expires",
        D,
        "a job and its token before and after 7 days",
        f"then 400 `InvalidJobIdException`, `{NO_JOB}`, and the token begins a new job",
        _expires,
        _CONTROLS,
    ),
    Expectation("job.restart.done", OWN, "a finished job after a restart", "all as before", _survives, _PROCESS),
    Expectation(
        "job.restart.running", OWN, "a job that ran before a restart", "it ends, and is told", _resumes, _PROCESS
    ),
    *(
        Expectation(
            f"job.fails.{name}",
            UNKNOWN,
            f"a job for {said}",
            "FAILED with a StatusMessage and no Blocks, or refused at Start",
            functools.partial(fails, make=make),
        )
        for name, said, make in (
            ("text", "plain text", lambda: b"flour, butter, sugar"),
            ("cut-pdf", "a PDF that ends in the middle", bad_inputs.truncated_pdf),
        )
    ),
    Expectation(
        "job.fails.told",
        UNKNOWN,
        "a job for a PDF that ends in the middle, with a channel",
        "Status FAILED",
        failure_is_told,
    ),
    *(
        Expectation(
            f"job.output.{name}.{operation}",
            O,
            f"`{operation}` with OutputConfig, {said}",
            f"`{folder}/<JobId>/1` and so on with the blocks, and an empty `.s3_access_check`",
            functools.partial(output_is_stored, prefix=prefix, folder=folder, operation=operation),
        )
        for operation in _OPERATIONS
        for name, said, prefix, folder in (
            ("prefix", "a prefix", "ROOT/out", "ROOT/out"),
            ("default", "no prefix", None, "textract_output"),
            ("slash", "a prefix with a slash at its end, which is kept", "ROOT/out/", "ROOT/out/"),
        )
    ),
    Expectation(
        "job.message-without-tag", UNKNOWN, "a job without JobTag", "a message without JobTag", message_without_tag
    ),
    Expectation(
        "job.queries-by-page",
        D,
        "queries without Pages, with `2-*` and `*`",
        "asked of the first page, from the second on, of all",
        queries_by_page,
    ),
    Expectation(
        "job.output.no-bucket",
        UNKNOWN,
        "OutputConfig with a bucket that is not there",
        "400 `InvalidS3ObjectException` or `InvalidParameterException`",
        functools.partial(
            output_refused,
            given={"OutputConfig": {"S3Bucket": "a-missing-bucket-of-conformance-2718281828"}},
            codes={"InvalidS3ObjectException", "InvalidParameterException"},
        ),
    ),
    Expectation(
        "job.no-topic",
        UNKNOWN,
        "a NotificationChannel with a topic that is not there",
        "400 `InvalidParameterException`",
        functools.partial(
            output_refused,
            given={
                "NotificationChannel": {
                    "SNSTopicArn": "arn:aws:sns:us-east-1:000000000000:a-missing-topic-of-conformance",
                    "RoleArn": "arn:aws:iam::000000000000:role/textract",
                }
            },
            codes={"InvalidParameterException"},
        ),
    ),
    refusal(
        "job.max-results-text",
        D,
        GET[START],
        {"JobId": "0" * 64, "MaxResults": "all"},
        "SerializationException",
    ),
)
