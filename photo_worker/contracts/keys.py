"""Names that a job's objects have, and the form that keys and job ids must have. No I/O."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from uuid import UUID

from photo_worker.errors import InvalidJobId, InvalidKey
from photo_worker.printable import cut

KEY_LIMIT_BYTES = 1024

_JOB_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SUFFIX = re.compile(r"\.[a-z0-9]{1,8}")


def parse_job_id(text: str) -> UUID:
    """Return the UUID of a job id in canonical form (RFC 9562: 36 characters, lower case).

    Other forms are refused because the text itself is the workflow id and stands in object
    keys: two spellings would be two jobs for one row. Raises ``InvalidJobId``.
    """
    if not _JOB_ID.fullmatch(text):
        raise InvalidJobId(job_id=cut(text))
    return UUID(text)


def validate_key(key: str) -> None:
    """Raise ``InvalidKey`` unless the key means one object to every client, proxy and file system.

    S3 takes any 1 to 1,024 bytes of UTF-8, but says itself that a '.' or '..' segment and control
    characters go wrong on the way ("Naming Amazon S3 objects" in its user guide).
    """
    reason = _key_problem(key)
    if reason is not None:
        raise InvalidKey(key=cut(key), reason=reason)


def _key_problem(key: str) -> str | None:
    if not key:
        return "it is empty"
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        return "it cannot be written as UTF-8"
    if size > KEY_LIMIT_BYTES:
        return f"it has {size} bytes, the limit is {KEY_LIMIT_BYTES}"
    if any(segment in {".", ".."} for segment in key.split("/")):
        return "a path segment is '.' or '..'"
    if any(unicodedata.category(character) == "Cc" for character in key):
        return "it holds a control character"
    return None


def raw_key(sha256: str, suffix: str = "") -> str:
    """Return the key of an uploaded asset: ``raw/{sha256}{suffix}``, the same for the same bytes.

    ``suffix`` is a file name's last part, such as ``.JPG``; it is written in lower case, and left
    out where it is more than a dot and 1 to 8 letters or digits. Raises ``InvalidKey`` where
    ``sha256`` is not 64 lower-case hexadecimal digits.
    """
    if not _SHA256.fullmatch(sha256):
        raise InvalidKey(key=sha256, reason="a raw key is made of a sha256 in lower-case hexadecimal")
    lowered = suffix.lower()
    return f"raw/{sha256}{lowered if _SUFFIX.fullmatch(lowered) else ''}"


def converted_key(bucket: str, key: str, sha256: str) -> str:
    """Return the key of the copy of an asset that OCR cannot read.

    It is ``converted/{the asset's sha256}-{digest of its bucket and key}.jpg``.

    All jobs that read the same bytes at the same place share it, and no others: the users of a copy are those of
    the asset's place, which is what a row can be asked for.
    """
    place = hashlib.sha256(json.dumps([bucket, key]).encode()).hexdigest()
    return f"converted/{sha256}-{place[:32]}.jpg"


def is_upload_of(key: str, sha256: str) -> bool:
    """Tell whether a key is an upload's whose bytes have this hash: it never stands for others."""
    return bool(_SHA256.fullmatch(sha256)) and key.startswith(raw_key(sha256))


# Below these a worker writes, and nothing else does.
WORKER_PREFIXES = ("artifacts/", "converted/")


def ocr_key(job_id: UUID) -> str:
    """Return the key of a job's full OCR result."""
    return f"artifacts/{job_id}/textract.json"


def manifest_key(job_id: UUID) -> str:
    """Return the key of a job's manifest."""
    return f"artifacts/{job_id}/manifest.json"
