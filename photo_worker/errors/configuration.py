"""Errors of the settings: the process does not start, and a job waits for a worker with the right ones."""

from __future__ import annotations

from photo_worker.errors.base import ConfigurationError


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


class DatabaseForbidden(ServiceRefused):
    """The role lacks a privilege on the tables in {database}: {reason}."""

    code = "database_forbidden"
    hint = (
        "Grant the role in DATABASE_URL SELECT, INSERT, UPDATE and DELETE on the tables that `photo-worker migrate` "
        "made, or make it a member of their owner. `migrate` itself needs the owner. Jobs wait meanwhile."
    )


class WorkerBucketForbidden(ConfigurationError):
    """The worker may not read or write {key!r} in its own bucket {bucket!r}."""

    code = "worker_bucket_forbidden"
    hint = (
        "Give the worker's credentials s3:GetObject and s3:PutObject on the whole bucket. If its policy asks for "
        "encryption, set S3_SERVER_SIDE_ENCRYPTION. The job goes on by itself, there or at another worker."
    )
