"""amazon-textract-textractor: `python with_textractor.py TASK`, with its parameters as JSON on stdin."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from PIL import Image
from textractor import Textractor
from textractor.data.constants import TextractFeatures
from textractor.entities.lazy_document import LazyDocument
from textractor.exceptions import InvalidS3ObjectException, UnsupportedDocumentException


def extractor() -> Textractor:
    return Textractor(region_name=os.environ["AWS_REGION"])


def uri(given: dict[str, Any]) -> str:
    return f"s3://{given['bucket']}/{given['key']}"


def lines(document: Any) -> list[str]:
    return [line.text for line in document.lines]


def read(given: dict[str, Any]) -> Any:
    """Read a path, an image in memory, a list of one, and an object."""
    reader = extractor()
    with Image.open(given["file"]) as picture:
        documents = [
            reader.detect_document_text(file_source=source, save_image=False)
            for source in (given["file"], picture, [picture], uri(given))
        ]
    return {
        "lines": [lines(document) for document in documents],
        "pages": [len(document.pages) for document in documents],
        "text": documents[0].get_text(),
    }


def analyse(given: dict[str, Any]) -> Any:
    """Analyse a file for tables, forms and layout, and read each with textractor."""
    features = [TextractFeatures.TABLES, TextractFeatures.FORMS, TextractFeatures.LAYOUT]
    document = extractor().analyze_document(file_source=given["file"], features=features, save_image=False)
    return {
        "tables": [table.to_pandas().values.tolist() for table in document.tables],
        "shapes": [[table.row_count, table.column_count] for table in document.tables],
        "fields": {" ".join(word.text for word in field.key): field.value.text for field in document.key_values},
        "layouts": [layout.layout_type for layout in document.layouts],
        "text": document.get_text(),
    }


def job(given: dict[str, Any]) -> Any:
    """Read a document by jobs: an object, and a file that is uploaded first; results from S3 and from Get."""
    reader = extractor()
    directory = f"s3://{given['bucket']}"
    documents = [
        reader.start_document_text_detection(
            file_source=uri(given), s3_output_path=f"{directory}/output", save_image=False
        ),
        reader.start_document_text_detection(
            file_source=given["file"], s3_upload_path=f"{directory}/upload", save_image=False
        ),
        reader.start_document_analysis(
            file_source=uri(given), features=[TextractFeatures.TABLES], s3_output_path=f"{directory}/output",
            save_image=False,
        ),
    ]  # fmt: skip
    for document in documents:
        document.s3_polling_interval = 0.2
        document.textract_polling_interval = 1
    return {
        "lazy": all(isinstance(document, LazyDocument) for document in documents),
        "pages": [len(document.pages) for document in documents],
        "lines": [lines(document) for document in documents],
    }


def errors(given: dict[str, Any]) -> Any:
    """Read a missing object, and a file that is not a document.

    Both are named as PDFs, which textractor sends unchanged; images it opens itself first.
    """
    reader = extractor()
    seen = {}
    attempts = {"no such object": uri(given), "no document": given["file"]}
    for name, source in attempts.items():
        try:
            reader.detect_document_text(file_source=source, save_image=False)
        except (InvalidS3ObjectException, UnsupportedDocumentException) as error:
            seen[name] = type(error).__name__
        except Exception as error:
            seen[name] = f"{type(error).__module__}.{type(error).__name__}: {error}"
    return seen


if __name__ == "__main__":
    tasks = {"read": read, "analyse": analyse, "job": job, "errors": errors}
    json.dump(tasks[sys.argv[1]](json.load(sys.stdin)), sys.stdout)
