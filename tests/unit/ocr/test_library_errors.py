"""Each error of textract-local that the product can meet has the product's counterpart: code, message, values."""

from __future__ import annotations

import string

import pytest

from photo_worker import errors
from photo_worker.adapters.ocr.library_errors import COUNTERPARTS, product_errors
from photo_worker.cli.textract_emulator import SERVER_COUNTERPARTS
from photo_worker.errors.base import class_tree
from textract_local import errors as library

# Roots of the hierarchy, and what only `read`, its command and `DocumentReader` raise, which the product does not call:
# `ReadingProcesses` raises `DecoderUnavailable` in the place of `engine_failed`.
OWN = {
    "error",
    "document_invalid",
    "reading_failed",
    "server_error",
    "document_missing",
    "feature_unknown",
    "engine_failed",
}


KINDS = [kind for kind in class_tree(library.TextractLocalError) if kind.code not in OWN]


def test_counterparts_are_complete() -> None:
    assert {kind.code for kind in KINDS} == set(COUNTERPARTS) | set(SERVER_COUNTERPARTS)
    # A worker reads without the server.
    assert {kind.code for kind in KINDS if issubclass(kind, library.ServerError)} == set(SERVER_COUNTERPARTS)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_product_errors_keep_code_and_values(kind: type[library.TextractLocalError]) -> None:
    fields = {field.partition("!")[0] for _, field, _, _ in string.Formatter().parse(kind.__doc__ or "") if field}
    raised = kind(**dict.fromkeys(fields, "value")).from_option()
    counterparts = {**COUNTERPARTS, **SERVER_COUNTERPARTS}
    with pytest.raises(counterparts[kind.code]) as caught, product_errors(counterparts):
        raise raised
    assert caught.value.code == kind.code
    assert caught.value.wrong_use
    assert caught.value.__cause__ is raised
    assert fields <= caught.value.context.keys()
    if not isinstance(raised, library.ServerError):
        assert caught.value.passes is isinstance(raised, library.ReadingError)


def test_product_errors_leave_others_alone() -> None:
    with pytest.raises(errors.StorageUnavailable), product_errors():
        raise errors.StorageUnavailable(store="S3", reason="away")
    with pytest.raises(library.FeatureUnknown), product_errors():
        raise library.FeatureUnknown(feature="X", known="Y")
