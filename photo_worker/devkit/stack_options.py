"""What is asked of a stack."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["native", "compose"]
S3Server = Literal["ministack", "localstack", "seaweedfs", "minio"]


@dataclass(frozen=True)
class StackOptions:
    """What a caller asks of a stack; what is None stays as the stack has it, or as its kind has it by default."""

    kind: Kind | None = None
    base_port: int | None = None
    """The first of its ports; 0 for a free block, kept from then on."""
    s3: S3Server | None = None
    external: Mapping[str, str] | None = field(default=None, repr=False)
    """Endpoints of services that are somebody else's, by service; empty to have all of them be the stack's own."""
    offline: bool = False
    """Refuse whatever would open a socket to anywhere but this machine."""
    durable: bool = True
