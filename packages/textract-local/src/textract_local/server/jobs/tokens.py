"""NextToken: opaque to clients, made for one job and position, and valid until the job expires."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets

from textract_local.server.failures import INVALID_PARAMETER, ServiceError

KEY_BYTES = 32

_POSITION_BYTES = 6
# With the position 30 bytes, which base64 encodes without padding and unambiguously.
_PROOF_BYTES = 24


def new_key() -> bytes:
    """Return a random key for ``PageTokens``, of ``KEY_BYTES`` bytes. It is secret: it can make valid tokens."""
    return secrets.token_bytes(KEY_BYTES)


class PageTokens:
    """Makes and reads NextTokens. They contain a position and an HMAC of it and the job's id."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def make(self, job_id: str, position: int) -> str:
        """Return the token for the blocks of a job from ``position`` (from 0) on. It is deterministic."""
        where = position.to_bytes(_POSITION_BYTES, "big")
        proof = hmac.new(self._key, b"NextToken " + job_id.encode() + where, hashlib.sha256).digest()
        return base64.urlsafe_b64encode(where + proof[:_PROOF_BYTES]).decode("ascii")

    def read(self, token: str, job_id: str) -> int:
        """Return a token's position. Raises InvalidParameterException if it was not made for this job [?]."""
        try:
            content = base64.b64decode(token.encode("ascii"), altchars=b"-_", validate=True)
        except (UnicodeEncodeError, binascii.Error) as error:
            raise ServiceError(INVALID_PARAMETER, "NextToken is none of this service's") from error
        position = int.from_bytes(content[:_POSITION_BYTES], "big")
        if not hmac.compare_digest(self.make(job_id, position), token):
            raise ServiceError(INVALID_PARAMETER, "NextToken is none of this job's")
        return position
