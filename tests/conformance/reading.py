"""Documents: formats, sources, rotation and refusals. Text blocks: their invariants."""

from __future__ import annotations

import functools
import secrets
from collections.abc import Callable, Mapping
from typing import Any

from PIL import Image

from tests.conformance import documents
from tests.conformance.expectation import NO_FORMAT, NO_OBJECT, OWN, UNKNOWN, C, D, Expectation, O
from tests.conformance.service import Service, texts
from textract_support import bad_inputs

_DETECT = "DetectDocumentText"
_TEN_MB = 10 * 1024 * 1024
_LINES = ("LEMON 2468", "FLOUR 1357")
_PROSE = (
    "Anna bakes a lemon cake",
    "with flour and sugar",
    "for twelve people",
    "on a Sunday morning",
    "and brings it along",
    "to the garden party",
)
_SYNC_VERSIONS = {
    "DetectDocumentText": "DetectDocumentTextModelVersion",
    "AnalyzeDocument": "AnalyzeDocumentModelVersion",
}


def _file(kind: str) -> bytes:
    return documents.encoded([documents.sheet(_LINES)], kind, **({"quality": 95} if kind == "JPEG" else {}))


def _lines(service: Service, document: Mapping[str, Any]) -> list[str]:
    return texts(service.ask(_DETECT, Document=document)["Blocks"])


def _reads(service: Service, *, make: Callable[[], bytes], stored: bool = False) -> None:
    content = make()
    document = service.stored(content) if stored else {"Bytes": content}
    assert _lines(service, document) == list(_LINES)


def _key(service: Service, *, key: str) -> None:
    text = f"KEY {secrets.randbelow(9000) + 1000}"
    document = service.stored(documents.png(text), key)
    assert _lines(service, document) == [text]


def _version(service: Service) -> None:
    where = service.stored(documents.png("OLD 1111"), "version")["S3Object"]
    old = service.s3.head_object(Bucket=where["Bucket"], Key=where["Name"]).get("VersionId")
    assert old, "the bucket keeps no versions"
    new = service.s3.put_object(Bucket=where["Bucket"], Key=where["Name"], Body=documents.png("NEW 2222"))["VersionId"]
    assert _lines(service, {"S3Object": where}) == ["NEW 2222"]
    assert _lines(service, {"S3Object": {**where, "Version": old}}) == ["OLD 1111"]
    assert _lines(service, {"S3Object": {**where, "Version": new}}) == ["NEW 2222"]


def _missing_version(service: Service) -> None:
    where = service.stored(documents.png("OLD 1111"))["S3Object"]
    document = {"S3Object": {**where, "Version": "0" * 32}}
    assert service.refused(_DETECT, Document=document) == ("InvalidS3ObjectException", NO_OBJECT)


def _same_blocks(service: Service) -> None:
    content = documents.png("SALT 9753", "PEPPER 8642")
    inline = service.ask(_DETECT, Document={"Bytes": content})
    stored = service.ask(_DETECT, Document=service.stored(content))
    assert texts(inline["Blocks"], "WORD") == texts(stored["Blocks"], "WORD")
    assert [block["Geometry"] for block in inline["Blocks"]] == [block["Geometry"] for block in stored["Blocks"]]


def _refused(
    service: Service, *, make: Callable[[], bytes], codes: tuple[str, ...], message: str = "", stored: bool = False
) -> None:
    content = make()
    document = service.stored(content) if stored else {"Bytes": content}
    code, said = service.refused(_DETECT, Document=document)
    assert code in codes
    if message:
        assert said == message
    # The next call still works.
    assert _lines(service, {"Bytes": documents.png("NEXT 4321")}) == ["NEXT 4321"]


def _ten_mb(service: Service, *, more: int, stored: bool) -> None:
    content = documents.padded(documents.png(*_LINES), _TEN_MB + more)
    document = service.stored(content) if stored else {"Bytes": content}
    if more:
        code, _ = service.refused(_DETECT, Document=document)
        assert code in {"DocumentTooLargeException"} | (set() if stored else {"InvalidParameterException"})
    else:
        assert _lines(service, document) == list(_LINES)


def _forty_mb(service: Service) -> None:
    code, _ = service.refused(_DETECT, Document={"Bytes": bytes(30 * 1024 * 1024)})
    assert code in {"DocumentTooLargeException", "InvalidParameterException"}
    assert _lines(service, {"Bytes": documents.png("NEXT 4321")}) == ["NEXT 4321"]


def _billed_once_a_response(service: Service) -> None:
    content = documents.png(f"BILL {secrets.randbelow(9000) + 1000}")
    before = service.emulator.billed(content)
    assert before == 0
    service.ask(_DETECT, Document={"Bytes": content})
    assert service.emulator.billed(content) == 1
    service.ask(_DETECT, Document={"Bytes": content})
    assert service.emulator.billed(content) == 2
    service.refused(_DETECT, Document={"Bytes": content[:200]})
    assert service.emulator.billed(content[:200]) == 0


def _page(service: Service) -> Any:
    return service.ask(_DETECT, Document={"Bytes": documents.png(*_LINES)})


def _no_page_member(service: Service) -> None:
    for operation in _SYNC_VERSIONS:
        more = {"FeatureTypes": ["LAYOUT"]} if operation == "AnalyzeDocument" else {}
        response = service.ask(operation, Document={"Bytes": documents.png(*_LINES)}, **more)
        assert [block["BlockType"] for block in response["Blocks"] if "Page" in block] == []
        assert response["DocumentMetadata"] == {"Pages": 1}
        assert response[_SYNC_VERSIONS[operation]] == "1.0"


def _confidence_of_100(service: Service) -> None:
    words = [block for block in _page(service)["Blocks"] if block["BlockType"] in {"LINE", "WORD"}]
    assert len(words) == 6
    # Clear print is read with nearly 100 percent confidence; on a scale from 0 to 1 it would be at most 1.
    assert all(50 < word["Confidence"] <= 100 for word in words)


def _order(service: Service) -> None:
    blocks = _page(service)["Blocks"]
    assert [block["BlockType"] for block in blocks] == ["PAGE", "LINE", "LINE", "WORD", "WORD", "WORD", "WORD"]
    assert texts(blocks, "WORD") == " ".join(_LINES).split()


def _ids_resolve(service: Service) -> None:
    blocks = {block["Id"]: block for block in _page(service)["Blocks"]}
    assert len(blocks) == 7
    (page,) = (block for block in blocks.values() if block["BlockType"] == "PAGE")
    lines = [blocks[one] for one in page["Relationships"][0]["Ids"]]
    words = [blocks[one]["Text"] for line in lines for one in line["Relationships"][0]["Ids"]]
    assert words == " ".join(_LINES).split()


def _boxes_in_place(service: Service) -> None:
    blocks = _page(service)["Blocks"]
    first, second = (block["Geometry"]["BoundingBox"] for block in blocks if block["BlockType"] == "LINE")
    # The text begins at 60 of 800 pixels, and its lines are a third of the page apart.
    for box in (first, second):
        assert 0.04 < box["Left"] < 0.1
        assert 0.2 < box["Width"] < 0.5
    assert 0.25 < second["Top"] - first["Top"] < 0.42
    words = [block["Geometry"]["BoundingBox"] for block in blocks if block["BlockType"] == "WORD"]
    assert words[0]["Left"] + words[0]["Width"] < words[1]["Left"]


def _first_corner(service: Service, *, degrees: int) -> None:
    response = service.ask(_DETECT, Document={"Bytes": documents.turned(degrees, *_PROSE)})
    assert sorted(texts(response["Blocks"])) == sorted(_PROSE)
    line = next(block for block in response["Blocks"] if block.get("Text") == _PROSE[0])
    corner, following = line["Geometry"]["Polygon"][:2]
    across, down = following["X"] - corner["X"], following["Y"] - corner["Y"]
    along = {0: across, 90: down, 180: -across, 270: -down}[degrees]
    aside = {0: down, 90: across, 180: down, 270: across}[degrees]
    assert along > 5 * abs(aside)


def _blank(service: Service) -> None:
    (page,) = service.ask(_DETECT, Document={"Bytes": documents.blank()})["Blocks"]
    assert list(page) == ["BlockType", "Geometry", "Id"]


def _wide(side: int) -> bytes:
    return documents.encoded([Image.new("L", (side, 20), documents.PAPER)], "PNG")


_KEYS = {
    "spaces": "two words and more.png",
    "plus": "a+b.png",
    "unicode": "Käse/Brötchen 雪.png",
    "percent": "100%25.png",
    "query": "q?a=b&c#d.png",
}
_UNREADABLE = ("BadDocumentException", "UnsupportedDocumentException")
_FORMAT = ("UnsupportedDocumentException",)

EXPECTATIONS: tuple[Expectation, ...] = (
    *(
        Expectation(
            f"document.{kind.lower()}.{'stored' if stored else 'inline'}",
            D,
            f"a {kind} of one page{', in S3' if stored else ''}",
            "200, its lines",
            functools.partial(_reads, make=functools.partial(_file, kind), stored=stored),
        )
        for kind in ("PNG", "JPEG", "TIFF", "PDF")
        for stored in (False, True)
    ),
    Expectation(
        "document.exif",
        D,
        "a JPEG on its side whose EXIF orientation says so",
        "200, its lines",
        functools.partial(_reads, make=functools.partial(documents.exif_turned, *_LINES)),
    ),
    *(
        Expectation(
            f"document.turned-{degrees}",
            O,
            f"a page turned by {degrees} degrees",
            "its lines; the polygon begins at the text's own top left",
            functools.partial(_first_corner, degrees=degrees),
        )
        for degrees in (0, 90, 180, 270)
    ),
    *(
        Expectation(
            f"document.key.{name}",
            D,
            f"an object named `{key}`",
            "200, its lines",
            functools.partial(_key, key=key),
        )
        for name, key in _KEYS.items()
    ),
    Expectation("document.version", D, "an object with and without Version", "the one that was asked for", _version),
    Expectation(
        "document.version-missing", O, "a Version that is not there", "400 `InvalidS3ObjectException`", _missing_version
    ),
    Expectation("document.same-blocks", C, "a document inline and in S3", "the same words and places", _same_blocks),
    *(
        Expectation(
            f"document.several-pages.{kind.lower()}",
            O,
            f"a {kind} of 2 pages to `DetectDocumentText`",
            f"400 `UnsupportedDocumentException`, `{NO_FORMAT}`",
            functools.partial(
                _refused,
                make=functools.partial(documents.many_pages, kind, [["ONE 1111"], ["TWO 2222"]]),
                codes=_FORMAT,
                message=NO_FORMAT,
            ),
        )
        for kind in ("PDF", "TIFF")
    ),
    *(
        Expectation(
            f"document.no-format.{name}",
            O,
            f"{said}",
            f"400 `UnsupportedDocumentException`, `{NO_FORMAT}`",
            functools.partial(_refused, make=make, codes=_FORMAT, message=NO_FORMAT, stored=stored),
        )
        for name, said, make, stored in (
            ("text", "plain text", lambda: b"flour, butter, sugar", False),
            ("gif", "a GIF", bad_inputs.gif, False),
            ("html", "a page of HTML in S3", bad_inputs.html_named_jpeg, True),
        )
    ),
    *(
        Expectation(
            f"document.unreadable.{name}",
            UNKNOWN,
            said,
            "400 `BadDocumentException` or `UnsupportedDocumentException`",
            functools.partial(_refused, make=make, codes=_UNREADABLE),
        )
        for name, said, make in (
            ("cut-png", "a PNG that ends in the middle", bad_inputs.truncated_png),
            ("cut-jpeg", "a JPEG that ends in the middle", bad_inputs.truncated_jpeg),
            ("cut-tiff", "a TIFF that ends in the middle", bad_inputs.truncated_tiff),
            ("cut-pdf", "a PDF that ends in the middle", bad_inputs.truncated_pdf),
            ("damaged-png", "a PNG with a damaged part", bad_inputs.damaged_png),
            ("bomb", "a small PNG of very many pixels", bad_inputs.bomb_png),
            ("wide", "a side of 10,001 pixels", functools.partial(_wide, 10_001)),
        )
    ),
    *(
        Expectation(
            f"document.10-mb.{name}",
            D,
            f"a PNG of 10 MB{' and a byte' if more else ''}{', in S3' if stored else ''}",
            "400 `DocumentTooLargeException`" + ("" if stored else " or `InvalidParameterException` [?]")
            if more
            else "200, its lines",
            functools.partial(_ten_mb, more=more, stored=stored),
        )
        for name, more, stored in (
            ("inline", 0, False),
            ("inline-more", 1, False),
            ("stored", 0, True),
            ("stored-more", 1, True),
        )
    ),
    Expectation(
        "document.40-mb-body",
        D,
        "a body of 40 MB",
        "400 `DocumentTooLargeException` or `InvalidParameterException`; the next call is answered",
        _forty_mb,
        "AWS closes the connection at a size of its own",
    ),
    Expectation("block.no-page", O, "a page to the synchronous operations", "no block has `Page`", _no_page_member),
    Expectation("block.confidence", O, "clear print", "a Confidence of up to 100 on LINE and WORD", _confidence_of_100),
    Expectation("block.order", O, "two lines", "PAGE, all LINEs, all WORDs in the lines' order", _order),
    Expectation(
        "block.ids", O, "two lines", "PAGE leads to LINEs and LINEs to WORDs by ids that are there", _ids_resolve
    ),
    Expectation("block.geometry", D, "two lines", "boxes in ratios of the page, where the text is", _boxes_in_place),
    Expectation("block.blank", O, "a blank page", "one PAGE block without Relationships", _blank),
    Expectation(
        "counter.synchronous",
        OWN,
        "a page twice, and one that is refused",
        "charged for each response, and not for the refusal",
        _billed_once_a_response,
        "the emulator's counters tell",
    ),
)
