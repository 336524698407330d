"""The keys of a job's objects, and the valid form of keys and job ids. No I/O."""

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


def is_sha256(text: str) -> bool:
    """Return whether a text is a SHA-256 in lower-case hex."""
    return _SHA256.fullmatch(text) is not None


def parse_job_id(text: str) -> UUID:
    """Return the UUID of a job id in canonical form (RFC 9562: 36 characters, lower case).

    Raises ``InvalidJobId`` for other forms: the text itself is the workflow id and part of object keys, so two
    spellings would be two jobs with one row.
    """
    if not _JOB_ID.fullmatch(text):
        raise InvalidJobId(job_id=cut(text))
    return UUID(text)


def validate_key(key: str) -> None:
    """Raise ``InvalidKey`` unless the key means the same object to every client, proxy and file system.

    S3 accepts any 1 to 1,024 bytes of UTF-8, but warns of '.' and '..' segments and of control characters ("Naming
    Amazon S3 objects" in its user guide).
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

    ``suffix`` is a file name's extension, such as ``.JPG``. It is converted to lower case, and omitted unless it is a
    dot and 1 to 8 letters or digits. Raises ``InvalidKey`` if ``sha256`` is not 64 lower-case hexadecimal digits.
    """
    if not is_sha256(sha256):
        raise InvalidKey(key=sha256, reason="a raw key is made of a sha256 in lower-case hexadecimal")
    lowered = suffix.lower()
    return f"raw/{sha256}{lowered if _SUFFIX.fullmatch(lowered) else ''}"


def converted_key(bucket: str, key: str, sha256: str) -> str:
    """Return the key of the converted copy of an asset that OCR cannot read.

    It is ``converted/{the asset's sha256}-{digest of its bucket and key}.jpg``.

    Jobs that read the same bytes of the same object share it, and no others: the rows with the asset's bucket and key
    are therefore all users of the copy.
    """
    place = hashlib.sha256(json.dumps([bucket, key]).encode()).hexdigest()
    return f"converted/{sha256}-{place[:32]}.jpg"


def is_upload_of(key: str, sha256: str) -> bool:
    """Tell whether a key is that of an upload with this hash; such a key never stands for other bytes."""
    return is_sha256(sha256) and key.startswith(raw_key(sha256))


# Only workers write under these prefixes.
WORKER_PREFIXES = ("artifacts/", "converted/")


def ocr_key(job_id: UUID) -> str:
    """Return the key of a job's full OCR result."""
    return f"artifacts/{job_id}/textract.json"


def manifest_key(job_id: UUID) -> str:
    """Return the key of a job's manifest."""
    return f"artifacts/{job_id}/manifest.json"
