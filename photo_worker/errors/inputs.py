"""Errors of a job's input: its id, its source, the document, the OCR backend that it names. Never retried."""

from __future__ import annotations

from photo_worker.errors.base import InputError


class InvalidJobId(InputError):
    """The job id {job_id!r} is not a UUID in its usual lower-case form."""

    code = "job_id_invalid"
    wrong_use = True
    hint = "Use a UUID such as 8c5b4f0e-7a51-4a52-9f3a-2f6f3c1d9b77, or leave the job id out to get a new one."


class JobConflict(InputError):
    """The job id {job_id} already belongs to another asset ({known}); it cannot be used for {asked}."""

    code = "job_conflict"
    hint = "Submit the asset under a new job id."


class JobErased(InputError):
    """Job {job_id} has been erased."""

    code = "job_erased"
    hint = "Its id cannot be used again. Submit the photo under a new job id."


class JobMissing(InputError):
    """There is no job {job_id}."""

    code = "job_missing"
    hint = "Check the id, and that you look at the stack or database the job was submitted to."


class InvalidContract(InputError):
    """The input does not have the form that {contract} asks for: {reason}."""

    code = "contract_invalid"
    hint = "Send the fields that the contract in docs/reference lists, with their types."


class InvalidKey(InputError):
    """The object key {key!r} cannot be used: {reason}."""

    code = "key_invalid"
    hint = (
        "Use a key of 1 to 1,024 bytes of UTF-8 without '.' or '..' as a path segment and without control characters."
    )


class InvalidBucket(InputError):
    """The bucket name {bucket!r} cannot be used: {reason}."""

    code = "bucket_invalid"
    hint = "Use 3 to 63 lower-case letters, digits, dots and hyphens, as S3 asks."


class SourceMissing(InputError):
    """There is nothing to submit at {path!r}: {reason}."""

    code = "source_missing"
    wrong_use = True
    hint = "Check the path; quote a glob so that the shell leaves it alone."


class SourceUnreadable(InputError):
    """The file {path!r} cannot be read: {reason}."""

    code = "source_unreadable"
    hint = "Check that it is a file and that you may read it."


class ObjectMissing(InputError):
    """There is no object {key!r} in bucket {bucket!r}."""

    code = "object_missing"
    hint = "Upload the object first, and check the key letter by letter: S3 keys are case-sensitive."


class BucketMissing(InputError):
    """There is no bucket {bucket!r}."""

    code = "bucket_missing"
    hint = "Create the bucket, or correct its name and region."


class BucketForbidden(InputError):
    """Access to bucket {bucket!r} is refused, or it belongs to another account."""

    code = "bucket_forbidden"
    fault = "worker"
    hint = "Give the worker's credentials s3:ListBucket on it, or choose another name: bucket names are global."


class ObjectForbidden(InputError):
    """Access to {key!r} in bucket {bucket!r} is refused."""

    code = "object_forbidden"
    fault = "worker"
    hint = "Give the worker's credentials s3:GetObject and s3:PutObject on the bucket."


class ObjectArchived(InputError):
    """The object {key!r} in bucket {bucket!r} is in an archive and cannot be read before it is restored: {reason}."""

    code = "object_archived"
    fault = "service"
    hint = (
        "Restore it, such as with `aws s3api restore-object`. The job goes on by itself when it is back, if that is "
        "within its lifetime. Keep lifecycle rules from archiving what is not yet read."
    )


class ObjectKeyUnusable(InputError):
    """The KMS key of {key!r} in bucket {bucket!r} cannot be used: {reason}."""

    code = "object_key_unusable"
    fault = "service"
    hint = "Enable the key, or cancel its deletion: nothing that it encrypts can be read or written until then."


class EmptyObject(InputError):
    """The object {key!r} in bucket {bucket!r} has zero bytes."""

    code = "object_empty"
    hint = "Upload the photo again; the first upload did not finish."


class SourceReplaced(InputError):
    """The object {key!r} in bucket {bucket!r} was replaced while the job read it."""

    code = "source_replaced"
    hint = "The job reads it again by itself. Where it ends with this, submit the object as a new job."


class UploadDamaged(InputError):
    """The object {key!r} in bucket {bucket!r} is not what was uploaded: its bytes hash to {sha256}."""

    code = "upload_damaged"
    hint = "Its name is the hash of what was uploaded. Delete the object and submit the photo as a new job."


class ContentTypeMismatch(InputError):
    """The object {key!r} is stored as {actual}, but {expected} was expected."""

    code = "content_type_mismatch"
    hint = "Upload it with the right Content-Type, or leave expected_content_type out."


class ContentMismatch(InputError):
    """The object {key!r} is stored as {declared}, but its content is {actual}."""

    code = "content_mismatch"
    hint = "Upload the object with the Content-Type of what it holds."


class UnsupportedDocument(InputError):
    """The document {name!r} is {actual}, which OCR does not read."""

    code = "document_unsupported"
    hint = "Convert it to PNG, JPEG, HEIC, WebP, single-page TIFF or single-page PDF."


class UnreadableDocument(InputError):
    """The document {name!r} is damaged or cut off: {reason}."""

    code = "document_unreadable"
    hint = "Open it in an image viewer, save it again, and submit the new file."


class DocumentProtected(InputError):
    """The document {name!r} is protected by {by}."""

    code = "document_protected"
    hint = "Save it without a password or other protection, and submit the new file."


class DocumentTooCostly(InputError):
    """The document {name!r} takes more {what} to be opened than it may."""

    code = "document_too_costly"
    hint = "Save it again with an ordinary program, smaller or with less in it, and submit the new file."


class DocumentTooLarge(InputError):
    """The document {name!r} has {size_bytes} bytes; OCR reads at most {limit_bytes}."""

    code = "document_too_large"
    hint = "Scale the photo down or save it with stronger JPEG compression."


class ImageTooLarge(InputError):
    """The image {name!r} is {width} x {height} pixels; {limit}."""

    code = "image_too_large"
    hint = "Scale the image down; 1,500 to 4,000 pixels on the longer side are enough for OCR."


class RecordingMissing(InputError):
    """There is no recorded OCR result for the document with sha256 {sha256}."""

    code = "recording_missing"
    hint = "Use a document from fixtures/, or choose another OCR backend with OCR_ENGINE."


class RecordingInvalid(InputError):
    """The recorded OCR result {path!r} cannot be played: {reason}."""

    code = "recording_invalid"
    hint = "Record it again, or delete it; each is the JSON response of DetectDocumentText for one document."


class UnknownEngine(InputError):
    """There is no OCR backend {engine!r}; known are {known}."""

    code = "engine_unknown"
    hint = "Name one of these, or install the package that provides it."


class BackendMissing(InputError):
    """This worker has no OCR backend {engine!r}, which the job names; it has {known}."""

    code = "backend_missing"
    fault = "worker"
    hint = (
        "Install the package that provides it where the workers run: the job goes on by itself. Where the name is "
        "wrong, erase the job and submit the photo with another one."
    )


class EngineUnavailable(InputError):
    """The OCR backend {engine!r} cannot be used here: {reason}."""

    code = "engine_unavailable"
    fault = "worker"
    hint = "Install the extra it needs: pip install 'photo-worker[local-ocr]'."


class InvalidEngine(InputError):
    """The engine {engine!r} cannot be used: {reason}."""

    code = "engine_invalid"
    wrong_use = True
    hint = "Name an OCR backend that the workers have, such as textract, or leave it out: then they take their own."
