"""Rules for the input of operations beyond the service's model.

Each rule is marked with the basis (D, O) of the rule itself. That the response to a violation is
InvalidParameterException was observed on the real service, unless a comment says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from textract_local.reader.analysis.request import QUERIES
from textract_local.server.failures import INVALID_PARAMETER, PART_NOT_EMULATED, ServiceError

# D: set quotas of Amazon Textract.
MOST_QUERIES = 15
MOST_QUERIES_OF_A_JOB = 30

_ANALYSES = {"AnalyzeDocument": MOST_QUERIES, "StartDocumentAnalysis": MOST_QUERIES_OF_A_JOB}


def check_input(operation: str, given: Mapping[str, Any]) -> None:
    """Raise ``ServiceError`` if an input that fits the model is not accepted by the operation."""
    if operation in _ANALYSES:
        _check_analysis(given, _ANALYSES[operation])
    if operation in _DOCUMENTS:
        member, required = _DOCUMENTS[operation]
        required(given[member], member)


def _check_analysis(given: Mapping[str, Any], most_queries: int) -> None:
    features = given["FeatureTypes"]
    if not features:
        raise ServiceError(INVALID_PARAMETER, "FeatureTypes is empty")  # O
    config = given.get("QueriesConfig")
    if QUERIES in features and config is None:
        raise ServiceError(INVALID_PARAMETER, "FeatureTypes has QUERIES, and there is no QueriesConfig")  # O
    if config is not None:
        if QUERIES not in features:
            # Not known; a request that is refused here cannot fail only on the real service.
            raise ServiceError(INVALID_PARAMETER, "there is a QueriesConfig, and FeatureTypes has no QUERIES")
        if len(config["Queries"]) > most_queries:
            raise ServiceError(INVALID_PARAMETER, f"QueriesConfig has over {most_queries} queries")  # D
    for member in ("HumanLoopConfig", "AdaptersConfig"):
        if member in given:
            raise ServiceError(PART_NOT_EMULATED, f"leave {member} out", part=member)


def _bytes_or_object(document: Mapping[str, Any], path: str) -> None:
    """O: a document with neither member is refused. Whether one with both is refused is not known."""
    if "Bytes" in document and "S3Object" in document:
        raise ServiceError(INVALID_PARAMETER, f"{path} has both Bytes and S3Object")
    if "Bytes" not in document:
        _named_object(document, path)


def _named_object(location: Mapping[str, Any], path: str) -> None:
    """The model requires no member here; the API reference requires Bucket and Name (D)."""
    if "S3Object" not in location:
        raise ServiceError(INVALID_PARAMETER, f"{path} has no S3Object")
    missing = [name for name in ("Bucket", "Name") if name not in location["S3Object"]]
    if missing:
        raise ServiceError(INVALID_PARAMETER, f"{path}.S3Object has no {' and no '.join(missing)}")


_DOCUMENTS: Mapping[str, tuple[str, Callable[[Mapping[str, Any], str], None]]] = {
    "DetectDocumentText": ("Document", _bytes_or_object),
    "AnalyzeDocument": ("Document", _bytes_or_object),
    "StartDocumentTextDetection": ("DocumentLocation", _named_object),
    "StartDocumentAnalysis": ("DocumentLocation", _named_object),
}
