"""The options that a caller gives for a stack."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["native", "compose"]
S3Server = Literal["ministack", "localstack", "seaweedfs", "minio"]


@dataclass(frozen=True)
class StackOptions:
    """Options for a stack; None keeps the recorded value, or else the default of the stack's kind."""

    kind: Kind | None = None
    base_port: int | None = None
    """The first of the stack's ports; 0 for a free block, kept from then on."""
    s3: S3Server | None = None
    external: Mapping[str, str] | None = field(default=None, repr=False)
    """Endpoints of external services, by service; empty if the stack shall run all services itself."""
    extras: tuple[str, ...] | None = None
    """Optional services to run, by name."""
    offline: bool = False
    """Refuse everything that would connect to another machine."""
    durable: bool = True
