"""The response schema finds each kind of fault, finds none in recorded responses, and checks all clients."""

from __future__ import annotations

import copy
import json
from collections import Counter
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import boto3
import pytest

from benchmarks.documents import NO_TRUTH, truth_documents
from tests.support.textract_responses import Reply, textract_responding
from textract_support.observed_responses import BLOCKS, PAGE_CHILDREN
from textract_support.response_schema import SchemaFault, block_faults, faults, validate

DETECT = "DetectDocumentText"
GET = "GetDocumentTextDetection"
# Fields that the service does not have: two of the recorded documents were edited by hand.
EDITED = {"childText", "SearchKey", "Page"}
VERSION = "AnalyzeDocumentModelVersion"


def response() -> Any:
    """Return a response with two lines, of two words and of one."""

    def geometry(left: float, top: float, width: float) -> dict[str, Any]:
        right, bottom = left + width, top + 0.1
        corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
        return {
            "BoundingBox": {"Width": right - left, "Height": bottom - top, "Left": left, "Top": top},
            "Polygon": [{"X": x, "Y": y} for x, y in corners],
        }

    def line(text: str, confidence: float, top: float, key: str, words: list[str]) -> dict[str, Any]:
        return {
            "BlockType": "LINE",
            "Confidence": confidence,
            "Text": text,
            "Geometry": geometry(0.1, top, 0.6),
            "Id": key,
            "Relationships": [{"Type": "CHILD", "Ids": words}],
        }

    def word(text: str, confidence: float, left: float, top: float, key: str) -> dict[str, Any]:
        return {
            "BlockType": "WORD",
            "Confidence": confidence,
            "Text": text,
            "TextType": "PRINTED",
            "Geometry": geometry(left, top, 0.2),
            "Id": key,
        }

    page: dict[str, Any] = {"BlockType": "PAGE", "Geometry": geometry(0, 0, 1), "Id": "p"}
    page["Relationships"] = [{"Type": "CHILD", "Ids": ["a", "b"]}]
    blocks = [
        page,
        line("two eggs", 98.0, 0.2, "a", ["v", "w"]),
        line("flour", 90.0, 0.4, "b", ["x"]),
        word("two", 99.0, 0.1, 0.2, "v"),
        word("eggs", 97.0, 0.5, 0.2, "w"),
        word("flour", 90.0, 0.1, 0.4, "x"),
    ]
    return {"DocumentMetadata": {"Pages": 1}, "Blocks": blocks, "DetectDocumentTextModelVersion": "1.0"}


def job_response() -> Any:
    """Return the response of a finished job, in the order of the service's model."""
    blocks = [{**block, "Page": 1} for block in response()["Blocks"]]
    return {
        "DocumentMetadata": {"Pages": 1},
        "JobStatus": "SUCCEEDED",
        "Blocks": blocks,
        "DetectDocumentTextModelVersion": "1.0",
    }


def test_response_schema_valid_response_has_no_faults() -> None:
    assert list(faults(DETECT, response())) == []
    assert list(faults(GET, job_response())) == []
    assert list(faults("StartDocumentAnalysis", {"JobId": "0a" * 32})) == []
    assert list(faults(GET, {"JobStatus": "IN_PROGRESS"})) == []


def _move(given: Any, index: int, key: str, value: Any) -> None:
    given["Blocks"][index][key] = value


def _drop(given: Any, index: int, key: str) -> None:
    del given["Blocks"][index][key]


def _swap(given: Any, one: int, other: int) -> None:
    blocks = given["Blocks"]
    blocks[one], blocks[other] = blocks[other], blocks[one]


BROKEN: dict[str, tuple[Callable[[Any], Any], str]] = {
    "pages is an object": (lambda a: a.update(DocumentMetadata={"Pages": {"Pages": 1}}), "Pages may not be"),
    "pages is a float": (lambda a: a.update(DocumentMetadata={"Pages": 1.0}), "Pages may not be"),
    "an unknown member": (lambda a: a.update(Mood="good"), "does not know"),
    "a member is missing": (lambda a: a.pop("DocumentMetadata"), "members are"),
    "members in another order": (lambda a: a.update(Blocks=a.pop("Blocks")), "members are in the order"),
    "another version": (lambda a: a.update(DetectDocumentTextModelVersion="2"), "ModelVersion is '2'"),
    "a null": (lambda a: _move(a, 1, "TextType", None), "may not be None"),
    "no kind of the model": (lambda a: _move(a, 1, "BlockType", "SENTENCE"), "may not be 'SENTENCE'"),
    "confidence over 100": (lambda a: _move(a, 3, "Confidence", 100.5), "may not be 100.5"),
    "confidence as text": (lambda a: _move(a, 3, "Confidence", "99"), "may not be '99'"),
    "Page in a synchronous response": (lambda a: _move(a, 0, "Page", 1), "has Page"),
    "confidence on PAGE": (lambda a: a["Blocks"].__setitem__(0, {"BlockType": "PAGE", "Confidence": 99.0}), "has Conf"),
    "text type on LINE": (lambda a: _move(a, 1, "TextType", "PRINTED"), "has TextType"),
    "no text type on WORD": (lambda a: _drop(a, 3, "TextType"), "has no TextType"),
    "keys in another order": (lambda a: _move(a, 3, "Text", a["Blocks"][3].pop("Text")), "its keys in the order"),
    "an empty list": (lambda a: _move(a, 0, "Relationships", []), "an empty Relationships"),
    "an id twice": (lambda a: _move(a, 5, "Id", "w"), "6 blocks have 5 ids"),
    "an id that leads nowhere": (lambda a: _move(a, 3, "Id", "other"), "points to v"),
    "a WORD as a child of PAGE": (
        lambda a: _move(a, 0, "Relationships", [{"Type": "CHILD", "Ids": ["a", "b", "v"]}]),
        "has a WORD in CHILD",
    ),
    "a LINE that PAGE lacks": (
        lambda a: _move(a, 0, "Relationships", [{"Type": "CHILD", "Ids": ["a"]}]),
        "missing among PAGE's children",
    ),
    "PAGE's children in another order": (
        lambda a: _move(a, 0, "Relationships", [{"Type": "CHILD", "Ids": ["b", "a"]}]),
        "PAGE's children are not in the order",
    ),
    "WORD before LINE": (lambda a: _swap(a, 2, 3), "the order is not"),
    "WORDs not in the order of LINEs": (lambda a: _swap(a, 4, 5), "WORDs are not"),
    "two pages": (lambda a: a["Blocks"].append({**a["Blocks"][0], "Id": "q"}), "the order is not"),
    "text that is not its words": (lambda a: _move(a, 1, "Text", "2 eggs"), "'2 eggs' has the words"),
    "a mean that is none": (lambda a: _move(a, 1, "Confidence", 97.9), "has confidence 97.9"),
    "a box beside its polygon": (
        lambda a: a["Blocks"][3]["Geometry"]["BoundingBox"].update(Left=0.11),
        "a box that is not its polygon's",
    ),
    "a box in pixels": (lambda a: a["Blocks"][3]["Geometry"]["Polygon"][0].update(X=120), "leaves the page"),
    "a polygon of three": (lambda a: a["Blocks"][3]["Geometry"]["Polygon"].pop(), "a Polygon of 3"),
    "a rotation of the page's that was not observed": (
        lambda a: a["Blocks"][3]["Geometry"].update(RotationAngle=0),
        "has a Geometry of",
    ),
}


@pytest.mark.parametrize("name", sorted(BROKEN))
def test_response_schema_finds_fault(name: str) -> None:
    damage, said = BROKEN[name]
    given = copy.deepcopy(response())
    damage(given)
    assert said in "\n".join(faults(DETECT, given))


BROKEN_JOBS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "no Page": (lambda a: _drop(a, 3, "Page"), "has no Page"),
    "page 0": (lambda a: [block.update(Page=0) for block in a["Blocks"]], "has Page 0"),
    "blocks in progress": (lambda a: a.update(JobStatus="IN_PROGRESS"), "IN_PROGRESS has blocks"),
    "failed without a reason": (lambda a: a.update(JobStatus="FAILED"), "no StatusMessage"),
    "no status": (lambda a: a.pop("JobStatus"), "JobStatus is missing"),
    "no blocks": (lambda a: a.pop("Blocks"), "SUCCEEDED has only"),
    "the other version": (lambda a: a.update(AnalyzeDocumentModelVersion="1.0"), f"has {VERSION}"),
    "too many blocks": (lambda a: a.update(Blocks=a["Blocks"] * 200), "1200 blocks"),
    "a block of another page": (lambda a: _move(a, 5, "Page", 2), "points to page 2"),
}


@pytest.mark.parametrize("name", sorted(BROKEN_JOBS))
def test_response_schema_finds_fault_in_job_response(name: str) -> None:
    damage, said = BROKEN_JOBS[name]
    given = copy.deepcopy(job_response())
    damage(given)
    assert said in "\n".join(faults(GET, given))


def test_response_schema_part_may_reference_other_parts() -> None:
    whole = job_response()
    part = {"DocumentMetadata": {"Pages": 1}, "JobStatus": "SUCCEEDED", "NextToken": "more"}
    part |= {"Blocks": whole["Blocks"][:3], "DetectDocumentTextModelVersion": "1.0"}
    assert list(faults(GET, part)) == []
    del part["NextToken"]
    assert "points to v" in "\n".join(faults(GET, part))


def test_response_schema_is_enforced_for_any_boto3_client(monkeypatch: pytest.MonkeyPatch) -> None:
    unsound = response()
    unsound["Blocks"][1]["Confidence"] = 1.0
    body = json.dumps(unsound).encode()
    with textract_responding(Reply(body=body, request_id="0b5f0c1e")) as served:
        client = boto3.client(
            "textract",
            endpoint_url=served.url,
            region_name="eu-central-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )
        with pytest.raises(SchemaFault, match="confidence"):
            client.detect_document_text(Document={"Bytes": b"photo"})
        client.close()


def test_validate_without_request_id_is_skipped() -> None:
    responded = SimpleNamespace(status_code=200, headers={"content-type": "application/x-amz-json-1.1"}, content=b"{}")
    validate(responded, {}, None)


@pytest.mark.requires_ground_truth
def test_response_schema_matches_recorded_responses() -> None:
    documents = truth_documents()
    if not documents:
        pytest.skip(NO_TRUTH)
    keys: dict[str, Counter[tuple[str, ...]]] = {}
    children: dict[tuple[str, str], set[str]] = {}
    entities: dict[str, set[str]] = {}
    for document in documents:
        response: Any = copy.deepcopy(dict(document.response))
        response.pop("ResponseMetadata", None)
        for block in response["Blocks"]:
            for name in EDITED:
                block.pop(name, None)
        operation = "AnalyzeDocument" if VERSION in response else DETECT
        assert list(faults(operation, response)) == [], document.name
        assert list(block_faults(response["Blocks"], asynchronous=False)) == []
        by_id = {block["Id"]: block for block in response["Blocks"]}
        for block in response["Blocks"]:
            kind = block["BlockType"]
            keys.setdefault(kind, Counter())[tuple(block)] += 1
            entities.setdefault(kind, set()).update(block.get("EntityTypes", ()))
            for relationship in block.get("Relationships", ()):
                found = {by_id[one]["BlockType"] for one in relationship["Ids"]}
                children.setdefault((kind, relationship["Type"]), set()).update(found)
    for kind, sets in keys.items():
        assert BLOCKS[kind].basis == "O"
        if kind != "PAGE":
            assert set.intersection(*map(set, sets)) == BLOCKS[kind].required, kind
            assert set().union(*sets) == set(BLOCKS[kind].order), kind
    for (kind, relation), found in children.items():
        assert found <= BLOCKS[kind].children[relation]
    assert children["PAGE", "CHILD"] <= PAGE_CHILDREN
    assert {kind for kind, seen in BLOCKS.items() if seen.basis == "O"} == set(keys)
