"""The base of all contracts: immutable models that cross a process boundary."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer

# Fields of later releases. They are omitted if they are None, so that payloads stay as earlier releases wrote them.
_LATER = frozenset({"version_id", "etag", "modified_at"})


class Contract(BaseModel):
    """An immutable model; unknown fields of a newer release are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    @property
    def summary(self) -> str:
        """One line about the subject, which Temporal's UI shows beside a workflow; empty if there is none."""
        return ""

    @model_serializer(mode="wrap")
    def _without_unknown(self, written: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in written(self).items() if value is not None or name not in _LATER}
