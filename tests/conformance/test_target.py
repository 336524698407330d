"""A run against AWS: the variables it needs, and which rows it asserts, reports or skips."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conformance import target
from tests.conformance.service import Service

ROOT = Path(__file__).resolve().parents[2]


def run_as_aws(variables: dict[str, str], *rows: str) -> subprocess.CompletedProcess[str]:
    """Run some rows with AWS as the target."""
    names = [f"tests/conformance/test_conformance.py::test_expectation[{row}]" for row in rows]
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:randomly", *names],
        cwd=ROOT,
        env={**os.environ, target.TARGET: "aws", **variables},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


def test_is_aws_unknown_target_is_refused() -> None:
    assert target.is_aws({}) is False
    assert target.is_aws({target.TARGET: "aws"}) is True
    with pytest.raises(ValueError, match="emulator or aws"):
        target.is_aws({target.TARGET: "moon"})


@pytest.mark.skipif(target.is_aws(), reason="it is about runs against an emulator that passes for AWS")
@pytest.mark.stack
@pytest.mark.timeout(700)
def test_aws_run_fails_certain_and_xfails_uncertain_rows(service: Service, stack_env: dict[str, str]) -> None:
    channel = service.channel()
    variables = {name: value for name, value in stack_env.items() if name.startswith("AWS_")}
    variables |= {
        "AWS_ENDPOINT_URL_TEXTRACT": service.url,
        target.BUCKET: service.bucket,
        target.TOPIC: channel.member["SNSTopicArn"],
        target.ROLE: channel.member["RoleArn"],
        target.QUEUE: channel.queue,
    }
    done = run_as_aws(variables, "wire.headers", "job.told-once", "wire.no-authorization", "control.health")
    assert "3 passed, 1 skipped" in done.stdout, done.stdout[-3000:]

    # An emulator whose calls all fail without being throttled: certain rows fail, the others are reported.
    with service.emulator.faults({"kind": "internal-error", "operations": ["DetectDocumentText"]}):
        done = run_as_aws(variables, "wire.headers", "wire.no-body", "control.health")
    assert "1 failed, 1 skipped, 1 xfailed" in done.stdout, done.stdout[-3000:]

    del variables[target.QUEUE]
    done = run_as_aws(variables, "wire.headers")
    assert f"a run against AWS needs {target.QUEUE}" in done.stdout
