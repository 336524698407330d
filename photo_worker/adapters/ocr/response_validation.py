"""What a DetectDocumentText response must contain before the worker stores it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

KINDS = frozenset({"PAGE", "LINE", "WORD"})


def response_defect(response: Any) -> str | None:
    """Return what is wrong with a response of DetectDocumentText, or None if it is valid."""
    if not isinstance(response, Mapping):
        return "it is not an object"
    metadata, blocks = response.get("DocumentMetadata"), response.get("Blocks")
    pages = metadata.get("Pages") if isinstance(metadata, Mapping) else None
    if type(pages) is not int or pages < 1:
        return "DocumentMetadata.Pages is not a number of pages"
    if not isinstance(blocks, list) or not blocks:
        return "it has no Blocks"
    for number, block in enumerate(blocks):
        if not isinstance(block, Mapping) or block.get("BlockType") not in KINDS or not block.get("Id"):
            return f"Blocks[{number}] is not a PAGE, LINE or WORD with an Id"
    if not isinstance(response.get("DetectDocumentTextModelVersion"), str):
        return "it has no DetectDocumentTextModelVersion"
    return None
