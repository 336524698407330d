"""Settings from the environment, a .env file, and Temporal's own profiles.

AWS settings are botocore's and keep their names (AWS_REGION, AWS_PROFILE, AWS_ENDPOINT_URL_S3 ...);
Temporal's connection is read by ``temporalio.envconfig`` (TEMPORAL_PROFILE, TEMPORAL_CONFIG_FILE,
TEMPORAL_API_KEY, TEMPORAL_TLS_* ...), so that going from a laptop to Temporal Cloud changes
configuration alone.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Literal
from urllib.parse import urlsplit

from dotenv.parser import parse_stream
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_core import ErrorDetails

from photo_worker.errors import ConfigurationError

DEFAULT_TASK_QUEUE = "recipe-process"
DEFAULT_TEMPORAL_TARGET = "localhost:7233"


# The form of an OCR backend's name, as a pattern and in words.
ENGINE_NAME = r"^[a-z][a-z0-9_-]{0,63}$"
ENGINE_FORM = "a-z, then at most 63 of a-z, 0-9, '-' and '_'"

# The form of values that must match a pattern, in words for users who do not read patterns.
_FORMS = {
    "TEMPORAL_TARGET": "must be HOST:PORT, such as localhost:7233",
    "S3_BUCKET": "must be a bucket's name: 3 to 63 of a-z, 0-9, '.' and '-', such as photo-worker",
    "S3_SSE_KMS_KEY_ID": "must be a KMS key's id, alias or ARN without spaces, such as alias/photos",
    "METRICS_ADDRESS": "must be IP:PORT, such as 127.0.0.1:9464",
    "TEMPORAL_DEPLOYMENT_NAME": "must be a name without '.' and spaces, such as photo-worker",
    "TEMPORAL_WORKER_BUILD_ID": "must be an id without spaces, such as 0.1.0",
    "OCR_ENGINE": f"must be an engine's name: {ENGINE_FORM}, such as textract",
}


class Settings(BaseModel):
    """The application's settings. Each field's alias is the name of its environment variable.

    ``variables`` has everything else that the libraries of the services read, such as AWS_* and TEMPORAL_*.
    """

    model_config = ConfigDict(frozen=True, populate_by_name=True, extra="ignore", str_strip_whitespace=True)

    temporal_target: Annotated[str | None, Field(alias="TEMPORAL_TARGET", pattern=r"^[^\s/]+:\d{1,5}$")] = None
    temporal_task_queue: Annotated[str, Field(alias="TEMPORAL_TASK_QUEUE", min_length=1, max_length=200)] = (
        DEFAULT_TASK_QUEUE
    )
    database_url: Annotated[SecretStr | None, Field(alias="DATABASE_URL")] = None
    s3_bucket: Annotated[str, Field(alias="S3_BUCKET", pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")] = "photo-worker"
    s3_server_side_encryption: Annotated[
        Literal["AES256", "aws:kms", "aws:kms:dsse"] | None, Field(alias="S3_SERVER_SIDE_ENCRYPTION")
    ] = None
    s3_sse_kms_key_id: Annotated[
        str | None, Field(alias="S3_SSE_KMS_KEY_ID", pattern=r"^[\x21-\x7e]+$", max_length=2048)
    ] = None
    ocr_engine: Annotated[str, Field(alias="OCR_ENGINE", pattern=ENGINE_NAME)] = "textract"
    textract_api: Annotated[Literal["async", "sync"], Field(alias="TEXTRACT_API")] = "async"
    ocr_recorded_dir: Annotated[Path | None, Field(alias="OCR_RECORDED_DIR")] = None
    temporal_deployment_name: Annotated[
        str | None, Field(alias="TEMPORAL_DEPLOYMENT_NAME", pattern=r"^[^\s.]+$", max_length=200)
    ] = None
    temporal_worker_build_id: Annotated[
        str | None, Field(alias="TEMPORAL_WORKER_BUILD_ID", pattern=r"^\S+$", max_length=200, validate_default=True)
    ] = None
    temporal_versioning_behavior: Annotated[
        Literal["auto_upgrade", "pinned"], Field(alias="TEMPORAL_VERSIONING_BEHAVIOR")
    ] = "auto_upgrade"
    temporal_pollers: Annotated[Literal["fixed", "autoscaling"], Field(alias="TEMPORAL_POLLERS")] = "fixed"
    metrics_address: Annotated[
        str | None, Field(alias="METRICS_ADDRESS", pattern=r"^(\[[0-9a-fA-F:]+\]|[0-9.]+):\d{1,5}$")
    ] = None
    max_activities: Annotated[int, Field(alias="MAX_ACTIVITIES", ge=1, le=1000)] = 16
    max_workflow_tasks: Annotated[int, Field(alias="MAX_WF_TASKS", ge=2, le=1000)] = 100
    job_lifetime_seconds: Annotated[int, Field(alias="JOB_LIFETIME_SECONDS", ge=60, le=31_536_000)] = 86_400
    log_level: Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], Field(alias="LOG_LEVEL")] = "INFO"
    log_format: Annotated[Literal["json", "console"], Field(alias="LOG_FORMAT")] = "json"
    graceful_shutdown_seconds: Annotated[float, Field(alias="GRACEFUL_SHUTDOWN_SECONDS", ge=0, le=3600)] = 25.0

    _variables: Mapping[str, str] = PrivateAttr(default_factory=dict)

    @property
    def variables(self) -> Mapping[str, str]:
        """The variables that the settings were loaded from, without empty ones; they may hold secrets."""
        return self._variables

    @field_validator("log_level", mode="before")
    @classmethod
    def _upper(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value

    @field_validator("s3_sse_kms_key_id")
    @classmethod
    def _is_for_kms(cls, value: str | None, others: ValidationInfo) -> str | None:
        # S3 refuses a key with AES256 or without encryption; the bucket's own default key needs no setting.
        if value is not None and not str(others.data.get("s3_server_side_encryption")).startswith("aws:kms"):
            raise ValueError("goes with S3_SERVER_SIDE_ENCRYPTION=aws:kms or aws:kms:dsse")
        return value

    @field_validator("temporal_worker_build_id")
    @classmethod
    def _is_of_a_deployment(cls, value: str | None, others: ValidationInfo) -> str | None:
        # One without the other would be a worker without a version, which Temporal gives other tasks.
        if (value is None) != (others.data.get("temporal_deployment_name") is None):
            raise ValueError("goes with TEMPORAL_DEPLOYMENT_NAME: set both or neither")
        return value

    @field_validator("database_url")
    @classmethod
    def _is_postgres(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None:
            return None
        url = urlsplit(value.get_secret_value())
        if url.scheme not in {"postgresql", "postgres"} or not url.path.strip("/"):
            raise ValueError("must look like postgresql://user:password@host:5432/database")
        return value

    def require_database_url(self) -> str:
        """Return the database URL. Raises ``ConfigurationError`` if none is set."""
        if self.database_url is None:
            raise ConfigurationError(problems="DATABASE_URL is not set")
        return self.database_url.get_secret_value()


@dataclass(frozen=True)
class Origin:
    """The source of a value. ``file`` and ``line`` (from 1) are set if it is a file."""

    kind: Literal["environment", "file", "stack", "profile", "default"]
    file: str | None = None
    line: int | None = None

    def __str__(self) -> str:
        if self.kind == "file":
            return f"{self.file}, line {self.line}"
        return {
            "environment": "the environment",
            "stack": "the local stack",
            "profile": "Temporal's profile",
            "default": "the defaults",
        }[self.kind]


@dataclass(frozen=True)
class Environment:
    """Variables and the origin of each; the environment takes precedence over the file."""

    variables: Mapping[str, str]
    origins: Mapping[str, Origin]


def read_environment(environ: Mapping[str, str], env_file: Path | None, *, required: bool = False) -> Environment:
    """Merge the process environment over a .env file.

    An empty variable counts as not set. ``required`` means that the user named the file, so it must exist. Raises
    ``ConfigurationError`` if the file cannot be read or has a line that is not an assignment; the error names the line.
    """
    variables: dict[str, str] = {}
    origins: dict[str, Origin] = {}
    if env_file is not None and (required or env_file.exists()):
        for name, (value, line) in _parse(env_file).items():
            variables[name] = value
            origins[name] = Origin("file", str(env_file), line)
    for name, value in environ.items():
        if value.strip() or name not in variables:
            variables[name] = value
            origins[name] = Origin("environment")
    return Environment(variables, origins)


def _parse(path: Path) -> dict[str, tuple[str, int]]:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(problems=f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(problems=f"{path} is not UTF-8 text (byte {error.start})") from error
    values: dict[str, tuple[str, int]] = {}
    for binding in parse_stream(io.StringIO(text)):
        # python-dotenv counts the empty lines before an assignment as part of it.
        text = binding.original.string
        line = binding.original.line + text[: len(text) - len(text.lstrip())].count("\n")
        if binding.error or (binding.key is not None and binding.value is None):
            raise ConfigurationError(problems=f"{path}, line {line}: expected NAME=value")
        if binding.key is not None and binding.value is not None:
            values[binding.key] = (binding.value, line)
    return values


def _said(name: str, fault: ErrorDetails) -> str:
    """Return what is wrong with a value: in our words for patterns, otherwise in pydantic's."""
    if fault["type"] == "string_pattern_mismatch" and name in _FORMS:
        return _FORMS[name]
    return fault["msg"].removeprefix("Value error, ")


def load_settings(environment: Environment) -> Settings:
    """Validate the settings. Raises a ``ConfigurationError`` that names each invalid variable and its origin.

    The message contains no values, since an invalid value may be a misplaced secret. An empty variable counts as not
    set.
    """
    given = {name: value for name, value in environment.variables.items() if value.strip()}
    try:
        settings = Settings.model_validate(given)
    except ValidationError as error:
        problems = []
        for fault in error.errors(include_url=False, include_input=False, include_context=False):
            name = str(fault["loc"][0]) if fault["loc"] else "settings"
            if name in Settings.model_fields:
                # The value is a default; pydantic then names the field.
                name = str(Settings.model_fields[name].alias)
            origin = environment.origins.get(name, Origin("default"))
            problems.append(f"{name} in {origin}: {_said(name, fault)}")
        raise ConfigurationError(problems="; ".join(problems)) from None
    settings._variables = MappingProxyType(given)
    return settings
