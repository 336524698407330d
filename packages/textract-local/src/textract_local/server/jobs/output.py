"""OutputConfig: writes a job's responses as objects to the client's bucket.

``<prefix>/<JobId>/1``, ``/2`` and so on (O) hold a Get response each, of up to 1,000 blocks (?) and without a
NextToken (?). The prefix is not normalised: one that ends in a slash gives two of them (O). A failed job
writes nothing (?).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from textract_local.server.failures import INTERNAL_ERROR, INVALID_KMS_KEY, INVALID_S3_OBJECT, ServiceError
from textract_local.server.jobs.aws import AwsClients
from textract_local.server.service_calls import BrokenOff, is_final, no_response_errors

DEFAULT_PREFIX = "textract_output"
ACCESS_CHECK = ".s3_access_check"


class Output:
    """Writes to the bucket of a job's OutputConfig, encrypted with its KMSKeyId if it has one."""

    def __init__(self, clients: AwsClients) -> None:
        self._clients = clients

    async def check(self, job_id: str, given: Mapping[str, Any]) -> None:
        """Write an empty object to check that the bucket is writable; does nothing without an OutputConfig.

        Raises ``ServiceError``: InvalidS3ObjectException if it is not (?), InvalidKMSKeyException,
        InternalServerError if S3 does not respond.
        """
        if "OutputConfig" in given:
            await self._write(job_id, given, ACCESS_CHECK, b"")

    async def write(self, job_id: str, given: Mapping[str, Any], number: int, response: Mapping[str, Any]) -> None:
        """Write the response with this ``number``, from 1. Raises like ``check``."""
        body = json.dumps(response, ensure_ascii=False, separators=(",", ":")).encode()
        await self._write(job_id, given, str(number), body)

    async def _write(self, job_id: str, given: Mapping[str, Any], name: str, body: bytes) -> None:
        config = given["OutputConfig"]
        prefix = config.get("S3Prefix", DEFAULT_PREFIX)
        encryption: dict[str, Any] = {}
        if "KMSKeyId" in given:
            encryption = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": given["KMSKeyId"]}
        try:
            await self._clients.call(
                lambda: self._put(config["S3Bucket"], f"{prefix}/{job_id}/{name}", body, encryption)
            )
        except BrokenOff as error:
            raise ServiceError(INTERNAL_ERROR, str(error), problem="S3 is too slow") from error

    def _put(self, bucket: str, key: str, body: bytes, encryption: Mapping[str, Any]) -> None:
        from botocore.exceptions import ClientError, NoCredentialsError, ParamValidationError

        try:
            self._clients.s3().put_object(Bucket=bucket, Key=key, Body=body, **encryption)
        except ClientError as error:
            if error.response["Error"]["Code"].startswith("KMS."):
                raise ServiceError(INVALID_KMS_KEY, str(error), problem=error.response["Error"]["Code"]) from error
            if is_final(error):
                raise ServiceError(INVALID_S3_OBJECT, f"the output cannot be written: {error}") from error
            raise ServiceError(INTERNAL_ERROR, str(error), problem="S3 failed") from error
        except (ParamValidationError, NoCredentialsError) as error:
            raise ServiceError(INVALID_S3_OBJECT, f"the output cannot be written: {error}") from error
        except RecursionError as error:
            # botocore follows a redirect without a region to the same place again and again.
            raise ServiceError(
                INVALID_S3_OBJECT, "the output's bucket is elsewhere, and S3 does not say where"
            ) from error
        except no_response_errors() as error:
            raise ServiceError(INTERNAL_ERROR, str(error), problem="S3 does not respond") from error
