"""`config show` lists every setting with its origin, and no secrets."""

from __future__ import annotations

import fcntl
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from photo_worker.cli import cli
from photo_worker.cli.config import HIDDEN, without_secrets
from photo_worker.config import Settings
from photo_worker.devkit.layout import StackPaths
from photo_worker.devkit.ports import derived_base
from photo_worker.devkit.state import StackRecord


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run in a directory without a .env file and without a stack."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PHOTO_WORKER_HOME", str(tmp_path / "stacks"))


def show(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["config", "show", *arguments])


def settings_of(result: Result) -> dict[str, dict[str, Any]]:
    envelope = json.loads(result.stdout)
    assert envelope["command"] == "config show"
    return {entry["name"]: entry for entry in envelope["data"]["settings"]}


def test_config_show_names_effective_origin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("# ours\n\nS3_BUCKET=from-file\n\n\nexport OCR_ENGINE='local'\nLOG_LEVEL=debug\n")
    monkeypatch.setenv("OCR_ENGINE", "recorded")
    monkeypatch.setenv("LOG_LEVEL", "")
    monkeypatch.setenv("TEMPORAL_ADDRESS", "temporal.example:7233")
    result = show("-o", "json")
    assert result.exit_code == 0, result.output
    found = settings_of(result)
    file = {"origin": "file", "file": ".env"}
    assert found["S3_BUCKET"] == {"name": "S3_BUCKET", "value": "from-file", **file, "line": 3}
    # An empty variable counts as not set, so the file's value applies; the level is shown as it is used.
    assert found["LOG_LEVEL"] == {"name": "LOG_LEVEL", "value": "DEBUG", **file, "line": 7}
    by_environment = {"origin": "environment", "file": None, "line": None}
    assert found["OCR_ENGINE"] == {"name": "OCR_ENGINE", "value": "recorded", **by_environment}
    assert found["TEMPORAL_TARGET"] == {"name": "TEMPORAL_TARGET", "value": "temporal.example:7233", **by_environment}
    assert found["MAX_ACTIVITIES"]["origin"] == "default"
    assert found["MAX_ACTIVITIES"]["value"] == "16"
    assert found["AWS_PROFILE"]["value"] is None
    assert list(found)[: len(Settings.model_fields)] == [field.alias for field in Settings.model_fields.values()]
    lines = show().stdout.splitlines()
    assert lines[0].split() == ["SETTING", "VALUE", "FROM"]
    assert [line.split(maxsplit=2) for line in lines if line.startswith("S3_BUCKET")] == [
        ["S3_BUCKET", "from-file", ".env, line 3"]
    ]


def test_config_show_names_temporal_profile_as_origin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    profile = tmp_path / "temporal.toml"
    profile.write_text('[profile.default]\naddress = "cloud.example:7233"\nnamespace = "kitchen"\n')
    monkeypatch.setenv("TEMPORAL_CONFIG_FILE", str(profile))
    found = settings_of(show("-o", "json"))
    assert (found["TEMPORAL_TARGET"]["value"], found["TEMPORAL_TARGET"]["origin"]) == ("cloud.example:7233", "profile")
    assert (found["TEMPORAL_NAMESPACE"]["value"], found["TEMPORAL_NAMESPACE"]["origin"]) == ("kitchen", "profile")


def test_config_show_names_running_stack_as_origin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TEMPORAL_CONFIG_FILE")
    paths = StackPaths(tmp_path / "stacks", "dev")
    paths.create()
    record = StackRecord.new("dev", 20_000, durable=True)
    record.save(paths)
    # A running supervisor holds this lock.
    with paths.supervisor_lock.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        result = show("-o", "json")
    found = settings_of(result)
    assert json.loads(result.stdout)["data"]["stack"] == "here"
    assert (found["TEMPORAL_TARGET"]["value"], found["TEMPORAL_TARGET"]["origin"]) == ("127.0.0.1:20000", "stack")
    assert (
        found["DATABASE_URL"]["value"] == "postgresql://photo_worker:***@127.0.0.1:20004/photo_worker?sslmode=disable"
    )
    assert record.password not in result.output


def test_config_show_reports_stack_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = settings_of(show("-o", "json"))
    default = {"origin": "default", "file": None, "line": None}
    assert found["PHOTO_WORKER_STACK_KIND"] == {"name": "PHOTO_WORKER_STACK_KIND", "value": "native", **default}
    assert found["PHOTO_WORKER_S3"]["value"] == "ministack"
    assert found["PHOTO_WORKER_MINIO"]["value"] is None
    assert found["PHOTO_WORKER_HOME"]["value"] == str(tmp_path / "stacks")
    assert found["PHOTO_WORKER_HOME"]["origin"] == "environment"
    assert found["--base-port"]["value"] == str(derived_base(tmp_path / "stacks", "dev"))

    paths = StackPaths(tmp_path / "stacks", "dev")
    paths.create()
    endpoints = {"postgres": "postgresql://cook:hunter2@127.0.0.1:5432/photos", "temporal": "127.0.0.1:7233"}
    StackRecord.new("dev", 20_000, durable=True).with_(s3="seaweedfs", external=endpoints).save(paths)
    monkeypatch.setenv("PHOTO_WORKER_OFFLINE", "1")
    result = show("-o", "json")
    found = settings_of(result)
    assert (found["PHOTO_WORKER_S3"]["value"], found["PHOTO_WORKER_S3"]["origin"]) == ("seaweedfs", "stack")
    assert (found["--base-port"]["value"], found["--base-port"]["origin"]) == ("20000", "stack")
    assert found["--external temporal"]["value"] == "127.0.0.1:7233"
    assert found["--external postgres"]["value"] == "postgresql://cook:***@127.0.0.1:5432/photos"
    assert found["PHOTO_WORKER_OFFLINE"]["value"] == "1"
    assert "hunter2" not in result.output

    # The record is of another kind of stack, so it does not apply.
    monkeypatch.setenv("PHOTO_WORKER_STACK_KIND", "compose")
    found = settings_of(show("-o", "json"))
    assert (found["PHOTO_WORKER_S3"]["value"], found["PHOTO_WORKER_S3"]["origin"]) == ("localstack", "default")
    assert found["PHOTO_WORKER_STACK_KIND"]["origin"] == "environment"


def test_config_show_error_names_command() -> None:
    result = show("-o", "json", "--name", "absent")
    assert result.exit_code == 1
    response = json.loads(result.stdout)
    assert (response["command"], response["error"]["code"]) == ("config show", "stack_not_running")


def test_config_show_ignored_stack_variable_in_file_warns(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("PHOTO_WORKER_S3=minio\n")
    result = show("-o", "json")
    assert json.loads(result.stdout)["warnings"] == [
        "PHOTO_WORKER_S3 in .env, line 1 is ignored: the stack's commands read it from the environment alone"
    ]
    assert settings_of(result)["PHOTO_WORKER_S3"]["value"] == "ministack"


def test_config_show_hides_secrets_in_each_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "TEMPORAL_API_KEY", "TEMPORAL_TLS_CLIENT_KEY_DATA"):
        monkeypatch.setenv(name, "hunter2")
    monkeypatch.setenv(
        "DATABASE_URL", "postgresql://cook:hunter2@db.example:5432/photos?sslpassword=hunter2&sslmode=require"
    )
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "https://cook:hunter2@s3.example")
    monkeypatch.setenv("TEMPORAL_TARGET", "127.0.0.1:1")
    for arguments in ((), ("-o", "json")):
        result = show(*arguments)
        assert "hunter2" not in result.output
        assert "postgresql://cook:***@db.example:5432/photos?sslpassword=***&sslmode=require" in result.output
        assert "https://cook:***@s3.example" in result.output


def test_config_show_invalid_settings_exit_1_without_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("MAX_ACTIVITIES=hunter2\nS3_BUCKET=kept-too\n")
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    result = show("-o", "json")
    assert result.exit_code == 1
    found = settings_of(result)
    assert json.loads(result.stdout)["error"]["code"] == "config_invalid"
    assert found["MAX_ACTIVITIES"] | {"value": None} == {
        "name": "MAX_ACTIVITIES", "value": None, "origin": "file", "file": ".env", "line": 1
    }  # fmt: skip
    assert found["AWS_REGION"]["value"] == "eu-central-1"
    assert "hunter2" not in result.output
    text = show()
    assert text.exit_code == 1
    assert "MAX_ACTIVITIES in .env, line 1" in text.stderr
    assert "hunter2" not in text.output


def test_config_show_misspelt_name_in_file_warns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("MAX_ACTIVITES=3\nSOMETHING_ELSE=1\n")
    monkeypatch.setenv("MAX_ACTIVITYS", "the environment is everybody's")
    result = show("-o", "json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["warnings"] == [
        "MAX_ACTIVITES in .env, line 1 is read by nothing; is MAX_ACTIVITIES meant?"
    ]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("postgresql://h/d", "postgresql://h/d"),
        ("postgresql://u@h/d", "postgresql://u@h/d"),
        ("postgresql://u:p%40:x@[::1]:5/d", "postgresql://u:***@[::1]:5/d"),
        ("postgresql:///d?host=/run&password=p", "postgresql:///d?host=/run&password=***"),
        ("postgresql://u:p@h1:1,h2:2/d", HIDDEN),
        ("plain", "plain"),
    ],
)
def test_without_secrets_keeps_rest_of_url(value: str, shown: str) -> None:
    assert without_secrets("ANY_URL", value) == shown
