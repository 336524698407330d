"""Invalid requests: the constraints of the service's model, and the rules beyond it."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from tests.conformance import documents
from tests.conformance.expectation import (
    NO_JOB,
    NO_OBJECT,
    REQUEST_INVALID,
    UNKNOWN,
    D,
    Expectation,
    O,
    refusal,
)
from tests.conformance.service import Service

_INVALID = "InvalidParameterException"
_BUCKET = "conformance-bucket"
_AT = {"Bucket": _BUCKET, "Name": "a.png"}
_CHANNEL = {
    "SNSTopicArn": "arn:aws:sns:us-east-1:000000000000:done",
    "RoleArn": "arn:aws:iam::000000000000:role/textract",
}
_LOCATION = {"S3Object": _AT}


def _queries(*texts: str, **more: Any) -> dict[str, Any]:
    return {"Queries": [{"Text": text, **more} for text in texts]}


# Each violates exactly one constraint: everything else in the request is valid. The constraints are documented;
# the message was observed for some of them and is assumed for the rest.
_DOCUMENTS: Mapping[str, Any] = {
    "neither": {},
    "no-bucket": {"S3Object": {"Name": "a.png"}},
    "no-name": {"S3Object": {"Bucket": _BUCKET}},
    "empty-object": {"S3Object": {}},
    "bucket-short": {"S3Object": {**_AT, "Bucket": "ab"}},
    "bucket-long": {"S3Object": {**_AT, "Bucket": "a" * 256}},
    "bucket-space": {"S3Object": {**_AT, "Bucket": "my bucket"}},
    "name-empty": {"S3Object": {**_AT, "Name": ""}},
    "name-blank": {"S3Object": {**_AT, "Name": "  "}},
    "name-long": {"S3Object": {**_AT, "Name": "a" * 1025}},
    "version-empty": {"S3Object": {**_AT, "Version": ""}},
    "version-long": {"S3Object": {**_AT, "Version": "1" * 1025}},
}
_ANALYSES: Mapping[str, Any] = {
    "no-features": {},
    "unknown-feature": {"FeatureTypes": ["TABLES", "tables"]},
    "queries-without-config": {"FeatureTypes": ["QUERIES"]},
    "no-query": {"FeatureTypes": ["QUERIES"], "QueriesConfig": {"Queries": []}},
    "query-without-text": {"FeatureTypes": ["QUERIES"], "QueriesConfig": {"Queries": [{"Alias": "a"}]}},
    "query-empty": {"FeatureTypes": ["QUERIES"], "QueriesConfig": _queries("")},
    "query-long": {"FeatureTypes": ["QUERIES"], "QueriesConfig": _queries("a" * 201)},
    "alias-long": {"FeatureTypes": ["QUERIES"], "QueriesConfig": _queries("a?", Alias="a" * 201)},
    "query-page-letter": {"FeatureTypes": ["QUERIES"], "QueriesConfig": _queries("a?", Pages=["a"])},
    "query-page-empty": {"FeatureTypes": ["QUERIES"], "QueriesConfig": _queries("a?", Pages=[""])},
    "query-no-pages": {"FeatureTypes": ["QUERIES"], "QueriesConfig": _queries("a?", Pages=[])},
}
_STARTS: Mapping[str, Any] = {
    "token-empty": {"ClientRequestToken": ""},
    "token-long": {"ClientRequestToken": "a" * 65},
    "token-space": {"ClientRequestToken": "a b"},
    "tag-empty": {"JobTag": ""},
    "tag-long": {"JobTag": "a" * 65},
    "tag-slash": {"JobTag": "a/b"},
    "channel-without-role": {"NotificationChannel": {"SNSTopicArn": _CHANNEL["SNSTopicArn"]}},
    "channel-without-topic": {"NotificationChannel": {"RoleArn": _CHANNEL["RoleArn"]}},
    "topic-no-arn": {"NotificationChannel": {**_CHANNEL, "SNSTopicArn": "done-done-done-done-done"}},
    "role-no-arn": {"NotificationChannel": {**_CHANNEL, "RoleArn": "role-role-role-role-role"}},
    "output-without-bucket": {"OutputConfig": {"S3Prefix": "out"}},
    "output-prefix-empty": {"OutputConfig": {"S3Bucket": _BUCKET, "S3Prefix": ""}},
    "kms-key-space": {"KMSKeyId": "a key"},
}
_GETS: Mapping[str, Any] = {
    "max-results-0": {"JobId": "0" * 64, "MaxResults": 0},
    "max-results-negative": {"JobId": "0" * 64, "MaxResults": -1},
    "token-empty": {"JobId": "0" * 64, "NextToken": ""},
    "token-blank": {"JobId": "0" * 64, "NextToken": "  "},
    "no-job-id": {"MaxResults": 1},
}
_JOB_IDS = {"empty": "", "long": "a" * 65, "spaces": "Invalid Job Id"}


def _several(count: int, *, operation: str) -> Mapping[str, Any]:
    where = "Document" if operation == "AnalyzeDocument" else "DocumentLocation"
    queries = _queries(*(f"What is number {number}?" for number in range(count)))
    return {where: _LOCATION, "FeatureTypes": ["QUERIES"], "QueriesConfig": queries}


def _most_queries(service: Service) -> None:
    document = service.stored(documents.png("LEMON 2468"))
    queries = _queries(*(f"What is number {number}?" for number in range(15)))
    response = service.ask("AnalyzeDocument", Document=document, FeatureTypes=["QUERIES"], QueriesConfig=queries)
    asked = [block["Query"]["Text"] for block in response["Blocks"] if block["BlockType"] == "QUERY"]
    assert asked == [query["Text"] for query in queries["Queries"]]


def _missing(service: Service, *, member: str, bucket: bool) -> Mapping[str, Any]:
    name = "a-missing-bucket-of-conformance-2718281828" if bucket else service.bucket
    return {member: {"S3Object": {"Bucket": name, "Name": "conformance/missing.png"}}}


def _missing_analysis(service: Service, *, member: str, bucket: bool) -> Mapping[str, Any]:
    return {**_missing(service, member=member, bucket=bucket), "FeatureTypes": ["TABLES"]}


def _refusals() -> list[Expectation]:
    found = []
    for operation in ("DetectDocumentText", "AnalyzeDocument", "StartDocumentTextDetection", "StartDocumentAnalysis"):
        member = "DocumentLocation" if operation.startswith("Start") else "Document"
        more = {"FeatureTypes": ["TABLES"]} if "Analy" in operation else {}
        for name, document in {"no-document": None, **_DOCUMENTS}.items():
            given = {**more, **({} if document is None else {member: document})}
            basis = O if name in {"no-document", "neither"} else D
            found.append(refusal(f"request.{operation}.{name}", basis, operation, given, _INVALID, REQUEST_INVALID))
        for bucket in (False, True):
            make = _missing_analysis if more else _missing
            found.append(
                refusal(
                    f"request.{operation}.{'bucket' if bucket else 'object'}-missing",
                    O,
                    operation,
                    functools.partial(make, member=member, bucket=bucket),
                    "InvalidS3ObjectException",
                    NO_OBJECT,
                    sent=f"`{operation}` of {'a bucket' if bucket else 'an object'} that is not there",
                )
            )
    for operation, member in (("AnalyzeDocument", "Document"), ("StartDocumentAnalysis", "DocumentLocation")):
        for name, given in _ANALYSES.items():
            basis = O if name in {"no-features", "queries-without-config"} else D
            identity = f"request.{operation}.{name}"
            found.append(refusal(identity, basis, operation, {member: _LOCATION, **given}, _INVALID, REQUEST_INVALID))
        most = 15 if operation == "AnalyzeDocument" else 30
        found.append(
            refusal(
                f"request.{operation}.too-many-queries",
                D,
                operation,
                _several(most + 1, operation=operation),
                _INVALID,
                REQUEST_INVALID,
                sent=f"`{operation}` with {most + 1} queries",
            )
        )
    for operation in ("StartDocumentTextDetection", "StartDocumentAnalysis"):
        more = {"FeatureTypes": ["TABLES"]} if "Analy" in operation else {}
        for name, given in _STARTS.items():
            found.append(
                refusal(
                    f"request.{operation}.{name}",
                    D,
                    operation,
                    {"DocumentLocation": _LOCATION, **more, **given},
                    _INVALID,
                    REQUEST_INVALID,
                )
            )
    for operation in ("GetDocumentTextDetection", "GetDocumentAnalysis"):
        for name, given in _GETS.items():
            found.append(refusal(f"request.{operation}.{name}", D, operation, given, _INVALID, REQUEST_INVALID))
        for name, job_id in _JOB_IDS.items():
            identity, given = f"request.{operation}.job-id-{name}", {"JobId": job_id}
            found.append(refusal(identity, UNKNOWN, operation, given, "InvalidJobIdException", NO_JOB))
        found.append(
            refusal(
                f"request.{operation}.unknown-job", O, operation, {"JobId": "0" * 64}, "InvalidJobIdException", NO_JOB
            )
        )
    return found


EXPECTATIONS: tuple[Expectation, ...] = (
    *_refusals(),
    refusal(
        "request.DetectDocumentText.both",
        UNKNOWN,
        "DetectDocumentText",
        {"Document": {"Bytes": documents.png("LEMON 2468"), "S3Object": _AT}},
        _INVALID,
        sent="`DetectDocumentText` of a document with both Bytes and S3Object",
    ),
    refusal("request.DetectDocumentText.no-bytes", D, "DetectDocumentText", {"Document": {"Bytes": b""}}, _INVALID),
    refusal(
        "request.AnalyzeDocument.empty-features",
        UNKNOWN,
        "AnalyzeDocument",
        {"Document": _LOCATION, "FeatureTypes": []},
        _INVALID,
    ),
    Expectation(
        "request.AnalyzeDocument.15-queries",
        D,
        "`AnalyzeDocument` with 15 queries",
        "200, a QUERY block for each in their order",
        _most_queries,
    ),
)
