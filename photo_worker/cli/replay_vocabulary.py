"""The product's words that the scrubbing of histories keeps: codes, hints, fixed parts of messages, names of steps."""

from __future__ import annotations

import inspect
import re

from photo_worker import errors, pipelines
from photo_worker.errors.base import class_tree
from temporal_replay_gate.vocabulary import SHA256, TEMPORALS_WORDS, UUID, Vocabulary

# Contract fields whose values are vocabulary, not content.
_FIELDS = frozenset({"status", "engine", "ocr_engine", "ocr_version", "content_type", "expected_content_type", "code"})

_FORM = re.compile(
    rf"""
      {UUID}
    | {SHA256}
    | ({"|".join(pipelines.artifact_folders())}){UUID}/[a-z]+\.json               # what a job writes
    | raw/{SHA256}(\.[a-z0-9]{{1,8}})?              # an upload, named by its bytes
    | (application|image|text)/[a-z0-9.+-]{{1,40}}  # a content type
    """,
    re.VERBOSE,
)

# In messages, the place of an error that no activity has raised.
_WORKFLOW = "workflow"


def vocabulary() -> Vocabulary:
    """Return the words of all error classes that are imported, and of the contracts."""
    kinds = list(class_tree(errors.PhotoWorkerError))
    names = (_WORKFLOW, *(kind.name for kind in pipelines.workflow_types()), *pipelines.steps())
    return Vocabulary(
        words=TEMPORALS_WORDS.union(names, (kind.code for kind in kinds), (kind.hint for kind in kinds)),
        fields=_FIELDS,
        # The message of InvalidContract names fields and their faults; the converter leaves out the values.
        forms=(_FORM, _template(errors.InvalidContract)),
        messages=tuple(_template(kind) for kind in kinds if _telling(kind)),
        # The type of a failure is the code, and the class name in its cause.
        failure_types=frozenset(name for kind in kinds for name in (kind.code, kind.__name__)),
    )


def _fixed_parts(kind: type[errors.PhotoWorkerError]) -> list[str]:
    return re.split(r"\{[^}]*\}", inspect.cleandoc(kind.__doc__ or "").replace("\n", " "))


def _telling(kind: type[errors.PhotoWorkerError]) -> bool:
    """Tell whether a message has enough fixed text; a template of fields alone would match any text."""
    return sum(map(len, _fixed_parts(kind))) >= 12


def _template(kind: type[errors.PhotoWorkerError]) -> re.Pattern[str]:
    """Return a pattern for an error's message, with a group for each field of its template."""
    return re.compile("(.*?)".join(map(re.escape, _fixed_parts(kind))), re.DOTALL)
