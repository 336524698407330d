"""Every error that is shown to users, in one class hierarchy.

The docstring of a class is the message that the user reads: a format string for the keyword arguments with which the
error is raised. ``code`` is stable, and programs may match it; ``hint`` says what to do; ``retryable`` says whether the
same call may succeed later by itself. ``fault`` says what is at fault: this job, a service, this worker (its settings,
credentials or permissions), or the program. Only a fault of the job itself ends the job.

    PhotoWorkerError
    ├── InputError            the caller's input is wrong; never retried
    ├── DependencyError       something the worker needs is away; retried
    ├── ConfigurationError    the settings are wrong; the process does not start, a job waits for a right worker
    └── StackError            the local development stack; its kinds are in ``stack_errors``

Errors of commands alone are in ``command_errors``, of Temporal in
``temporal_errors``, of a submission's options in ``submission_errors``, and of missing permissions in
``permission_errors``.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import ClassVar, Literal, Self

from photo_worker.printable import without_full_stops

Fault = Literal["job", "service", "worker", "defect"]


class PhotoWorkerError(Exception):
    """Something went wrong in photo-worker."""

    code: ClassVar[str] = "error"
    retryable: ClassVar[bool] = False
    fault: ClassVar[Fault] = "defect"
    hint: ClassVar[str] = "Run the command again with --debug to see the details."

    in_histories: ClassVar[bool] = False
    """Whether workflow code raises it: histories then contain the message, which must not change by a full stop."""

    wrong_use: bool = False
    """Whether an option or an argument of the command is wrong: the command then exits with 2, otherwise with 1."""

    retry_after_seconds: float | None = None
    """Seconds to wait before the next attempt: the service's Retry-After, or a minimum; None for the usual backoff."""

    @property
    def passes(self) -> bool:
        """Tell whether jobs wait for the error to pass: a service or a worker is at fault, not the job."""
        return self.fault in {"service", "worker"}

    def __init__(self, **context: object) -> None:
        self.context = context
        template = inspect.cleandoc(type(self).__doc__ or self.code).replace("\n", " ")
        self.message = template.format(**(context if self.in_histories else without_full_stops(template, context)))
        super().__init__(self.message)

    def from_option(self) -> Self:
        """Mark the error as caused by an option or an argument, and return it; it may have other causes elsewhere."""
        self.wrong_use = True
        return self

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.context)


def _rebuild(kind: type[PhotoWorkerError], context: dict[str, object]) -> PhotoWorkerError:
    return kind(**context)


class InputError(PhotoWorkerError):
    """The input cannot be processed."""

    code = "input_invalid"
    fault: ClassVar[Fault] = "job"
    hint = "Correct the input and submit it as a new job."


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
    """Access to bucket {bucket!r} is refused, or it belongs to somebody else."""

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
    hint = "Record it again, or delete it; each is the JSON answer of DetectDocumentText for one document."


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


class JobCancelled(PhotoWorkerError):
    """The job was cancelled."""

    code = "job_cancelled"
    fault = "job"
    hint = "Submit the asset as a new job if it is still wanted."


class JobFailed(PhotoWorkerError):
    """The job {job_id} failed [{reason_code}]: {reason}"""

    code = "job_failed"
    hint = "Correct what the reason names and submit the asset as a new job."


class JobExpired(PhotoWorkerError):
    """The job did not end within its lifetime; {step} was tried {last}."""

    code = "job_expired"
    in_histories = True
    fault = "service"
    hint = (
        "Mend what the reason names, then submit the asset as a new job. JOB_LIFETIME_SECONDS says how long a new job "
        "waits for a service that is away."
    )


class StepTimeout(PhotoWorkerError):
    """The step {step} did not end in its time: {reason}."""

    code = "step_timeout"
    in_histories = True
    hint = "Look at the worker's log for the step; if the document is ordinary, raise the timeout in policies."


class StepFailed(PhotoWorkerError):
    """The step {step} failed unexpectedly: {reason}."""

    code = "step_failed"
    in_histories = True
    hint = "This is a defect: report it with the job's history from the Temporal UI."


class WorkerFailed(PhotoWorkerError):
    """The worker ended {starts} times in a row; its log is {log}."""

    code = "worker_failed"
    hint = "Read the end of the log; the jobs are kept and go on when a worker runs again."


class DependencyError(PhotoWorkerError):
    """Something that the worker needs does not answer."""

    code = "dependency_unavailable"
    retryable = True
    fault: ClassVar[Fault] = "service"
    hint = "Look at `photo-worker status`; the job goes on by itself when the service is back."


class StorageUnavailable(DependencyError):
    """The object store does not answer ({store}): {reason}."""

    code = "storage_unavailable"


class DatabaseUnavailable(DependencyError):
    """Postgres does not answer ({database}): {reason}."""

    code = "database_unavailable"


class DatabaseReadOnly(DatabaseUnavailable):
    """Postgres takes no writes ({database}): {reason}."""

    code = "database_read_only"
    hint = (
        "It is a standby, or default_transaction_read_only is set, as some services do before a disk is full. Look "
        "where DATABASE_URL leads; the job goes on by itself when it takes writes again."
    )


class OcrUnavailable(DependencyError):
    """The OCR service does not answer ({engine}): {reason}."""

    code = "ocr_unavailable"


class OcrThrottled(DependencyError):
    """The OCR service asks to slow down ({engine}): {reason}."""

    code = "ocr_throttled"
    hint = "The job is retried by itself; lower MAX_ACTIVITIES or raise the service's quota if it lasts."


class OcrRefused(DependencyError):
    """The OCR service may not read {key!r} in bucket {bucket!r} ({engine}): {reason}."""

    code = "ocr_refused"
    hint = (
        "Give the worker's role s3:GetObject and s3:GetObjectVersion on the bucket, and kms:Decrypt on its key: the OCR"
        " service reads with them. The job goes on by itself when it may."
    )


class DecoderUnavailable(DependencyError):
    """The worker cannot open documents at this moment: {reason}."""

    code = "decoder_unavailable"
    fault = "worker"
    hint = (
        "The machine has no processor time, memory or processes to spare: lower MAX_ACTIVITIES if it lasts. Where it "
        "has, what opens documents is broken: install pi-heif, pillow and pypdfium2 again, and see the worker's log."
    )


class WorkerExhausted(DependencyError):
    """The worker's machine or process has no more of what an attempt needs: {reason}."""

    code = "worker_exhausted"
    fault = "worker"
    hint = (
        "Free memory, disk space, open files or processes on the worker's machine, raise its limits (ulimit -n, "
        "ulimit -u, the container's), or lower MAX_ACTIVITIES. The job goes on by itself, there or at another worker."
    )


class WorkerIncomplete(DependencyError):
    """A part of the worker's program cannot be loaded: {reason}."""

    code = "worker_incomplete"
    fault = "worker"
    hint = "Install the release again and start the worker anew; files were removed or replaced while it ran."


class StepHeldBack(DependencyError):
    """The worker holds {step} back, which fails again and again, last with [{code}] {reason}"""

    code = "step_held_back"
    hint = "The job goes on by itself. What is wrong stands in the message, be it from another job's attempt."


class LookFailed(DependencyError):
    """A look at what the worker needs ended unexpectedly: {reason}."""

    code = "look_failed"
    hint = "The worker's log has the whole error; the worker looks again by itself."


class ConfigurationError(PhotoWorkerError):
    """The settings are not valid: {problems}."""

    code = "config_invalid"
    fault = "worker"
    hint = "Correct the variable in the environment or in the .env file that the message names."


class RequestTokenTaken(ConfigurationError):
    """{service} knows the request token of {name!r} from another request: {reason}."""

    code = "request_token_taken"
    hint = (
        "The token is a digest of bucket, key and content. Another program in this account and region uses the same "
        "tokens for other input; end that, or wait the 7 days that Textract keeps them."
    )


class ServiceRefused(ConfigurationError):
    """{service} refuses the worker's credentials or request: {reason}."""

    code = "service_refused"
    hint = "Check the credentials, the region and the permissions; they are read from the standard variables."


class WorkerBucketMissing(ConfigurationError):
    """The worker's own bucket {bucket!r} does not exist."""

    code = "worker_bucket_missing"
    hint = "Create the bucket, or correct S3_BUCKET, the region and the endpoint."


class ListingForbidden(ConfigurationError):
    """The bucket {bucket!r} may not be listed, so that nothing tells whether {key!r} is refused or is not there."""

    code = "bucket_listing_forbidden"
    hint = (
        "Give the worker's credentials s3:ListBucket on the bucket: without it S3 calls an object that is not there "
        "forbidden. Where s3:GetObject is missing as well, the worker says so then."
    )


class DecoderMissing(ConfigurationError):
    """The worker cannot load what it opens documents with: {reason}."""

    code = "decoder_missing"
    hint = "Install what the worker needs: pip install pi-heif pillow pypdfium2."


class DatabaseMissing(ConfigurationError):
    """The Postgres server has no database {database}."""

    code = "database_missing"
    hint = "Create the database, or correct the last part of DATABASE_URL."


class SchemaMissing(ConfigurationError):
    """The database {database} lacks tables or columns that this release needs: {reason}."""

    code = "schema_missing"
    hint = "Run `photo-worker migrate`."


class SchemaUnknown(ConfigurationError):
    """The database {database} has a schema that this release does not know: {reason}."""

    code = "schema_unknown"
    hint = "A newer release was here before; use that one, or another database."


class BucketBoundElsewhere(ConfigurationError):
    """The bucket {bucket!r} belongs to another database ({known}) and not to {database}."""

    code = "bucket_bound_elsewhere"
    hint = (
        "Correct S3_BUCKET or DATABASE_URL: each database needs a bucket of its own. Where this database has really "
        "taken the other's place, run `photo-worker migrate --rebind`."
    )


class BucketNotBound(ConfigurationError):
    """Nothing says that the bucket {bucket!r} belongs to the database {database}, which has been bound: {reason}."""

    code = "bucket_not_bound"
    hint = (
        "Correct S3_BUCKET or DATABASE_URL. Where both are right, as after a restore of the bucket without that object "
        "or a change of S3_BUCKET, run `photo-worker migrate --bind`."
    )


class BindingUnreadable(ConfigurationError):
    """Nothing can be learnt of which database the bucket {bucket!r} belongs to: {reason}."""

    code = "bucket_binding_unreadable"
    hint = (
        "Restore the object from the bucket's versions, use the release that wrote it, or write it anew with "
        "`photo-worker migrate --rebind`."
    )


class StackError(PhotoWorkerError):
    """The local stack has a problem: {reason}."""

    code = "stack_error"
    hint = "Look at `photo-worker status` and `photo-worker logs`."


def fault_of(code: str) -> Fault:
    """Return the fault that belongs to an error code; an unknown code counts as a defect."""
    return next((kind.fault for kind in _tree(PhotoWorkerError) if kind.code == code), "defect")


# The code of a workflow that an operator terminated; it has no error class.
TERMINATED = "terminated"


def ends_job(code: str) -> bool:
    """Tell whether a failure with this code is final: the job or an operator is its cause, so it is not restarted."""
    return code == TERMINATED or fault_of(code) == "job"


def _tree(kind: type[PhotoWorkerError]) -> Iterator[type[PhotoWorkerError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from _tree(child)
