"""A strict schema of Textract's responses: the service's model, and observations of recorded responses.

botocore does not validate responses, and drops unknown members. ``validate`` is called for every response that a
boto3 client of a test process gets, before the test sees it, with the body from the wire. It checks only responses
with a request id, which every Textract sends: the test suite's servers of prepared responses, valid or not, send none.

Written independently of the emulator's own validation, so that one mistake cannot hide in both.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from textract_support.observed_responses import BLOCKS, CERTAIN_PAGE_CHILDREN, PAGE_CHILDREN

# Coordinates are 32-bit floats printed as doubles; recorded boxes are off by at most 6e-8.
TOLERANCE = 1e-6
# LINE.Confidence is the mean of its words', to three digits in recorded responses.
MEAN_TOLERANCE = 0.01
_SYNCHRONOUS = {"DetectDocumentText", "AnalyzeDocument"}
_JOBS = {"GetDocumentTextDetection", "GetDocumentAnalysis"}
_KEYS = {
    "DetectDocumentText": {"DocumentMetadata", "Blocks", "DetectDocumentTextModelVersion"},
    "AnalyzeDocument": {"DocumentMetadata", "Blocks", "AnalyzeDocumentModelVersion"},
    "StartDocumentTextDetection": {"JobId"},
    "StartDocumentAnalysis": {"JobId"},
}
_VERSIONS = {
    "GetDocumentTextDetection": "DetectDocumentTextModelVersion",
    "GetDocumentAnalysis": "AnalyzeDocumentModelVersion",
}
_BOX = ["Width", "Height", "Left", "Top"]
_FIRST_KINDS = ("PAGE", "LINE", "WORD")
_REQUEST_ID = "x-amzn-requestid"


class SchemaFault(AssertionError):
    """A response that the real service could not have sent."""


def validate(http_response: Any, parsed: Mapping[str, Any], model: Any, **_: Any) -> None:
    """Raise ``SchemaFault`` for an invalid response: a handler of botocore's event ``after-call.textract``."""
    headers = {name.lower() for name in http_response.headers}
    if http_response.status_code != 200 or _REQUEST_ID not in headers:
        return
    if "json" in http_response.headers.get("content-type", ""):
        response = json.loads(http_response.content)
    else:
        response = {name: value for name, value in parsed.items() if name != "ResponseMetadata"}
    require(model.name, response)


def require(operation: str, response: Any) -> None:
    """Raise ``SchemaFault`` if an operation's response, as parsed JSON, is invalid."""
    found = list(faults(operation, response))
    if found:
        raise SchemaFault(f"{operation} answered with {len(found)} faults:\n" + "\n".join(found[:20]))


def faults(operation: str, response: Any) -> Iterator[str]:
    """Yield what is wrong with an operation's response."""
    service = _service()
    shape = service["operations"][operation].get("output", {}).get("shape")
    if shape is None or not isinstance(response, dict):
        yield f"the response is {type(response).__name__}"
        return
    broken = list(_model_faults(shape, response, service["shapes"], ""))
    yield from broken
    order = [name for name in service["shapes"][shape]["members"] if name in response]
    if [name for name in response if name in order] != order:
        yield f"members are in the order {list(response)}"
    if broken:
        return
    yield from _member_faults(operation, response)
    if operation in _SYNCHRONOUS:
        yield from block_faults(response["Blocks"], asynchronous=False)
    elif operation in _JOBS:
        blocks = response.get("Blocks", [])
        pages = response.get("DocumentMetadata", {}).get("Pages")
        # One part of a paged result ends in the middle of a document: relationships may point out of it.
        complete = "NextToken" not in response and sum(block["BlockType"] == "PAGE" for block in blocks) == pages
        yield from block_faults(blocks, asynchronous=True, complete=complete)


def _member_faults(operation: str, response: Mapping[str, Any]) -> Iterator[str]:
    for name in ("DetectDocumentTextModelVersion", "AnalyzeDocumentModelVersion"):
        if response.get(name, "1.0") != "1.0":
            yield f"{name} is {response[name]!r}"
    if operation in _JOBS:
        yield from _job_faults(operation, response)
    elif operation in _KEYS:
        if set(response) != _KEYS[operation]:
            yield f"members are {sorted(response)}"
        elif "JobId" in response and not re.fullmatch(r"[0-9a-f]{64}", response["JobId"]):
            yield f"JobId is {response['JobId']!r}"
        elif response.get("DocumentMetadata", {"Pages": 1}) != {"Pages": 1}:
            yield f"DocumentMetadata is {response['DocumentMetadata']}"


def _job_faults(operation: str, response: Mapping[str, Any]) -> Iterator[str]:
    status, version = response.get("JobStatus"), _VERSIONS[operation]
    if status is None:
        yield "JobStatus is missing"
    if status in {"IN_PROGRESS", "FAILED"} and {"NextToken", "Blocks"} & set(response):
        yield f"a job that is {status} has blocks"
    if status in {"FAILED", "PARTIAL_SUCCESS"} and not response.get("StatusMessage"):
        yield f"a job that is {status} has no StatusMessage"
    if status == "SUCCEEDED" and not {"DocumentMetadata", "Blocks", version} <= set(response):
        yield f"a job that SUCCEEDED has only {sorted(response)}"
    for other in set(_VERSIONS.values()) - {version}:
        if other in response:
            yield f"{operation} has {other}"
    if len(response.get("Blocks", ())) > 1000:
        yield f"{len(response['Blocks'])} blocks are in one response"


def block_faults(blocks: Sequence[Mapping[str, Any]], *, asynchronous: bool, complete: bool = True) -> Iterator[str]:
    """Yield what is wrong with blocks in the order of the response; ``complete`` if none is missing."""
    by_id = {str(block.get("Id")): block for block in blocks}
    if len(by_id) != len(blocks):
        yield f"{len(blocks)} blocks have {len(by_id)} ids"
    for index, block in enumerate(blocks):
        where = f"block {index} ({block.get('BlockType')})"
        for fault in (*_key_faults(block, asynchronous), *_geometry_faults(block), *_number_faults(block)):
            yield f"{where} {fault}"
        for fault in _relationship_faults(block, by_id, complete):
            yield f"{where} {fault}"
    yield from _order_faults(blocks, asynchronous=asynchronous, complete=complete)
    if complete:
        for page in _by_page(blocks, asynchronous):
            yield from _page_faults(page, by_id)


def _key_faults(block: Mapping[str, Any], asynchronous: bool) -> Iterator[str]:
    seen = BLOCKS.get(block["BlockType"])
    if seen is None:
        yield "is of a kind that no response of these operations has"
        return
    model = list(_service()["shapes"]["Block"]["members"])
    expected = seen.order + (["Page"] if asynchronous else [])
    given = list(block)
    if given != sorted(given, key=model.index):
        yield f"has its keys in the order {given}"
    for key in sorted(set(given) - set(expected)):
        yield f"has {key}"
    for key in sorted((seen.required | ({"Page"} if asynchronous else set())) - set(given)):
        yield f"has no {key}"
    for key, value in block.items():
        if value in ("", [], {}):
            yield f"has an empty {key}"
    if not set(block.get("EntityTypes", ())) <= seen.entities:
        yield f"has EntityTypes {block['EntityTypes']}"


def _geometry_faults(block: Mapping[str, Any]) -> Iterator[str]:
    geometry = block.get("Geometry")
    if geometry is None:
        return
    if list(geometry) != ["BoundingBox", "Polygon"] or list(geometry["BoundingBox"]) != _BOX:
        yield f"has a Geometry of {list(geometry)}, {list(geometry.get('BoundingBox', ()))}"
        return
    box, polygon = geometry["BoundingBox"], geometry["Polygon"]
    if [list(point) for point in polygon] != [["X", "Y"]] * 4:
        yield f"has a Polygon of {len(polygon)} points"
        return
    xs, ys = [point["X"] for point in polygon], [point["Y"] for point in polygon]
    if not all(0 <= value <= 1 for value in (*xs, *ys, *box.values())):
        yield f"leaves the page: {geometry}"
    envelope = (min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys))
    given = (box["Left"], box["Top"], box["Width"], box["Height"])
    if any(abs(one - other) > TOLERANCE for one, other in zip(given, envelope, strict=True)):
        yield f"has a box that is not its polygon's: {geometry}"


def _number_faults(block: Mapping[str, Any]) -> Iterator[str]:
    for name in ("RowIndex", "ColumnIndex", "RowSpan", "ColumnSpan", "Page"):
        if name in block and block[name] < 1:
            yield f"has {name} {block[name]}"


def _relationship_faults(
    block: Mapping[str, Any], by_id: Mapping[str, Mapping[str, Any]], complete: bool
) -> Iterator[str]:
    allowed = BLOCKS[block["BlockType"]].children if block["BlockType"] in BLOCKS else {}
    types = [relationship["Type"] for relationship in block.get("Relationships", ())]
    if types != [name for name in allowed if name in types]:
        yield f"has relationships {types}"
    for relationship in block.get("Relationships", ()):
        kind, ids = relationship["Type"], relationship.get("Ids", [])
        if not ids or len(set(ids)) != len(ids):
            yield f"has {len(ids)} ids, {len(set(ids))} of them different, in {kind}"
        for other in ids:
            if other not in by_id:
                if complete:
                    yield f"points to {other}, which is not there"
            elif by_id[other]["BlockType"] not in allowed.get(kind, ()):
                yield f"has a {by_id[other]['BlockType']} in {kind}"
            elif by_id[other].get("Page") != block.get("Page"):
                yield f"points to page {by_id[other].get('Page')}"


def _order_faults(blocks: Sequence[Mapping[str, Any]], *, asynchronous: bool, complete: bool) -> Iterator[str]:
    numbers = [block.get("Page") for block in blocks] if asynchronous else [1] * len(blocks)
    if None not in numbers and numbers != sorted(numbers, key=lambda number: number or 0):
        yield "pages are not in their order"
    if complete and asynchronous and None not in numbers:
        pages = [block.get("Page") for block in blocks if block["BlockType"] == "PAGE"]
        if pages != list(range(1, len(pages) + 1)):
            yield f"there are pages {pages}"
    for page in _by_page(blocks, asynchronous):
        ranks = [
            _FIRST_KINDS.index(block["BlockType"]) if block["BlockType"] in _FIRST_KINDS else len(_FIRST_KINDS)
            for block in page
        ]
        if ranks != sorted(ranks):
            yield "the order is not PAGE, all LINEs, all WORDs, the rest"


def _page_faults(page: Sequence[Mapping[str, Any]], by_id: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Yield what is wrong with all blocks of one page."""
    kinds = [block["BlockType"] for block in page]
    if kinds.count("PAGE") != 1:
        yield f"a page has {kinds.count('PAGE')} PAGE blocks"
        return
    children = _related(page[kinds.index("PAGE")], "CHILD")
    certain = [block["Id"] for block in page if block["BlockType"] in CERTAIN_PAGE_CHILDREN]
    possible = [block["Id"] for block in page if block["BlockType"] in PAGE_CHILDREN]
    if not set(certain) <= set(children):
        yield f"{len(set(certain) - set(children))} blocks are missing among PAGE's children"
    if children != [one for one in possible if one in set(children)]:
        yield "PAGE's children are not in the order of the blocks"
    words: list[str] = []
    for line in page:
        if line["BlockType"] != "LINE":
            continue
        own = [by_id[one] for one in _related(line, "CHILD") if one in by_id]
        words += [word["Id"] for word in own]
        if not own or any("Confidence" not in word for word in (line, *own)):
            continue
        text = " ".join(word.get("Text", "") for word in own)
        if line.get("Text") != text:
            yield f"LINE {line.get('Text')!r} has the words {text!r}"
        mean = sum(word["Confidence"] for word in own) / len(own)
        if abs(line["Confidence"] - mean) > MEAN_TOLERANCE:
            yield f"LINE {line.get('Text')!r} has confidence {line['Confidence']}, its words {mean}"
    if words != [block["Id"] for block in page if block["BlockType"] == "WORD"]:
        yield "WORDs are not those of the LINEs in their order"


def _related(block: Mapping[str, Any], kind: str) -> list[str]:
    return [one for item in block.get("Relationships", ()) if item["Type"] == kind for one in item["Ids"]]


def _by_page(blocks: Sequence[Mapping[str, Any]], asynchronous: bool) -> list[list[Mapping[str, Any]]]:
    pages: dict[Any, list[Mapping[str, Any]]] = {}
    for block in blocks:
        pages.setdefault(block.get("Page") if asynchronous else None, []).append(block)
    return list(pages.values())


def _model_faults(shape: str, value: Any, shapes: Mapping[str, Any], path: str) -> Iterator[str]:
    rule = shapes[shape]
    if rule["type"] == "structure" and isinstance(value, dict):
        for name in rule.get("required", ()):
            if name not in value:
                yield f"{path}.{name} is missing"
        for name, item in value.items():
            if name in rule["members"]:
                yield from _model_faults(rule["members"][name]["shape"], item, shapes, f"{path}.{name}")
            else:
                yield f"{path} has {name}, which the model does not know"
    elif rule["type"] == "list" and isinstance(value, list):
        if not rule.get("min", 0) <= len(value) <= rule.get("max", len(value)):
            yield f"{path} has {len(value)} items"
        for index, item in enumerate(value):
            yield from _model_faults(rule["member"]["shape"], item, shapes, f"{path}[{index}]")
    elif rule["type"] == "map" and isinstance(value, dict):
        for item in value.values():
            yield from _model_faults(rule["value"]["shape"], item, shapes, f"{path}.*")
    elif not _fits(rule, value):
        yield f"{path} may not be {value!r}"


def _fits(rule: Mapping[str, Any], value: Any) -> bool:
    match rule["type"]:
        case "string":
            return (
                isinstance(value, str)
                and value in rule.get("enum", [value])
                and rule.get("min", 0) <= len(value) <= rule.get("max", len(value))
                and ("pattern" not in rule or _matches(rule["pattern"], value))
            )
        case "integer":
            return type(value) is int and rule.get("min", value) <= value <= rule.get("max", value)
        case "float" | "timestamp":
            return type(value) in {int, float} and rule.get("min", value) <= value <= rule.get("max", value)
    return False


def _matches(pattern: str, value: str) -> bool:
    # Unicode categories, which Python's re does not support, occur only in patterns of requests.
    return r"\p{" in pattern or re.search(pattern, value) is not None


@lru_cache(maxsize=1)
def _service() -> Any:
    from botocore.loaders import Loader

    return Loader().load_service_model("textract", "service-2")
