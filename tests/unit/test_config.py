from __future__ import annotations

from pathlib import Path

import pytest

from photo_worker.config import load_settings, read_environment
from photo_worker.errors import ConfigurationError


def test_read_environment_overrides_file(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("TEMPORAL_TASK_QUEUE=from-file\nS3_BUCKET='quoted-bucket'\n")
    settings = load_settings(read_environment({"TEMPORAL_TASK_QUEUE": "from-environment"}, file))
    assert settings.temporal_task_queue == "from-environment"
    assert settings.s3_bucket == "quoted-bucket"


def test_read_environment_empty_variable_counts_as_unset(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("MAX_WF_TASKS=7\n")
    given = {"MAX_ACTIVITIES": "", "MAX_WF_TASKS": "", "LOG_LEVEL": "debug"}
    settings = load_settings(read_environment(given, file))
    assert (settings.max_activities, settings.max_workflow_tasks) == (16, 7)
    assert settings.log_level == "DEBUG"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MAX_ACTIVITIES", "lots"),
        ("MAX_ACTIVITIES", "0"),
        ("LOG_LEVEL", "chatty"),
        ("DATABASE_URL", "mysql://user:hunter2@db/photos"),
        ("DATABASE_URL", "postgresql://user:hunter2@db"),
        ("TEMPORAL_TARGET", "not a target"),
        ("S3_BUCKET", "No_Such_Form"),
        ("GRACEFUL_SHUTDOWN_SECONDS", "-1"),
        ("S3_SERVER_SIDE_ENCRYPTION", "rot13"),
        ("S3_SSE_KMS_KEY_ID", "alias/photos"),
        ("METRICS_ADDRESS", "localhost:9464"),
        ("METRICS_ADDRESS", "7000"),
        ("TEMPORAL_POLLERS", "many"),
        ("TEMPORAL_WORKER_BUILD_ID", "only-the-build"),
    ],
)
def test_load_settings_bad_value_names_variable_not_value(tmp_path: Path, name: str, value: str) -> None:
    file = tmp_path / ".env"
    file.write_text(f"{name}={value!r}\n")
    with pytest.raises(ConfigurationError) as caught:
        load_settings(read_environment({}, file))
    assert caught.value.code == "config_invalid"
    assert name in caught.value.message
    assert str(file) in caught.value.message
    assert value not in caught.value.message.replace(str(file), "") or len(value) < 3
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "build_id", "wrong"),
    [
        ("photos", "", "TEMPORAL_WORKER_BUILD_ID"),
        ("", "7", "TEMPORAL_WORKER_BUILD_ID"),
        ("photos.eu", "7", "TEMPORAL_DEPLOYMENT_NAME"),
        ("photos", "build 7", "TEMPORAL_WORKER_BUILD_ID"),
    ],
)
def test_load_settings_half_a_version_is_refused(name: str, build_id: str, wrong: str) -> None:
    given = {"TEMPORAL_DEPLOYMENT_NAME": name, "TEMPORAL_WORKER_BUILD_ID": build_id}
    with pytest.raises(ConfigurationError, match=wrong):
        load_settings(read_environment(given, None))


def test_read_environment_bad_line_is_named(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("GOOD=1\nthis is no assignment\n")
    with pytest.raises(ConfigurationError, match="line 2"):
        read_environment({}, file)


def test_read_environment_non_utf8_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_bytes(b"NAME=\xff\xfe")
    with pytest.raises(ConfigurationError, match="UTF-8"):
        read_environment({}, file)


def test_read_environment_required_file_must_exist(tmp_path: Path) -> None:
    assert read_environment({}, tmp_path / "absent").variables == {}
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_environment({}, tmp_path / "absent", required=True)


def test_settings_repr_hides_database_url() -> None:
    settings = load_settings(read_environment({"DATABASE_URL": "postgresql://u:hunter2@h/d"}, None))
    assert "hunter2" not in repr(settings)
    assert settings.require_database_url() == "postgresql://u:hunter2@h/d"


def test_require_database_url_missing_is_named() -> None:
    with pytest.raises(ConfigurationError, match="DATABASE_URL"):
        load_settings(read_environment({}, None)).require_database_url()


@pytest.mark.parametrize(("encryption", "fits"), [("AES256", False), ("aws:kms", True), ("aws:kms:dsse", True)])
def test_load_settings_kms_key_requires_kms_encryption(encryption: str, fits: bool) -> None:
    variables = {"S3_SERVER_SIDE_ENCRYPTION": encryption, "S3_SSE_KMS_KEY_ID": "alias/photos"}
    if fits:
        settings = load_settings(read_environment(variables, None))
        assert (settings.s3_server_side_encryption, settings.s3_sse_kms_key_id) == (encryption, "alias/photos")
    else:
        with pytest.raises(ConfigurationError, match="S3_SSE_KMS_KEY_ID in the environment"):
            load_settings(read_environment(variables, None))


@pytest.mark.parametrize(
    ("name", "example"),
    [
        ("TEMPORAL_TARGET", "such as localhost:7233"),
        ("S3_BUCKET", "such as photo-worker"),
        ("OCR_ENGINE", "such as textract"),
        ("DATABASE_URL", "must look like postgresql://user:password@host:5432/database"),
        ("S3_SSE_KMS_KEY_ID", "such as alias/photos"),
        ("LOG_LEVEL", "'INFO'"),
        ("MAX_ACTIVITIES", "integer"),
    ],
)
def test_load_settings_bad_value_shows_expected_form(name: str, example: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_settings(read_environment({name: "not / this!"}, None))
    assert example in caught.value.message
    assert "Value error" not in caught.value.message
    assert "[a-z" not in caught.value.message
    assert "^" not in caught.value.message
