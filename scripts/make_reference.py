"""Write docs/reference from code and recorded histories. `nox -s docs` runs it; a test compares."""

from __future__ import annotations

import inspect
import json
from collections import Counter
from pathlib import Path
from typing import Any

from photo_worker import pipelines
from photo_worker.config import Settings
from photo_worker.services.consistency.finding import REPAIRS
from photo_worker.services.consistency.rules import PROMISES, all_rules
from scripts.error_classes import a_job_waits, error_classes, hint_of
from temporal_replay_gate.expected_outcome import activity_outcomes, failure_type
from temporal_replay_gate.histories import attributes, discover, exit_of, patch_ids
from tests.replay.scenarios.images import SCENARIOS
from tests.replay.scenarios.images_before_lifetime import ACROSS_RELEASES_SCENARIOS, BEFORE_LIFETIME_SCENARIOS

HISTORIES = Path(__file__).resolve().parents[1] / "tests" / "replay"
PAGES = Path(__file__).resolve().parents[1] / "docs" / "reference"


def pages() -> dict[str, str]:
    """Return the text of each generated page by its file name."""
    return {
        "check.md": _check(),
        "contracts.md": _contracts(),
        "errors.md": _errors(),
        "policies.md": _policies(),
        "replay-coverage.md": _replay_coverage(),
        "settings.md": _settings(),
    }


def _check() -> str:
    lines = [
        "# What `photo-worker check` looks at",
        "",
        "From `photo_worker/services/consistency/rules.py`. The code stands in the command's `-o json`. An error",
        "breaks a promise, a warning should be looked at, and a notice does not make a check fail. A repair is what",
        "`--repair` may do; a single finding may still offer none. The promises are those of the last table.",
        "",
        "| code | severity | what holds | promise | repair |",
        "| --- | --- | --- | --- | --- |",
    ]
    for rule in all_rules():
        repair = f"`{rule.repair}`" if rule.repair else ""
        lines.append(f"| `{rule.code}` | {rule.severity} | {_cell(rule.holds)} | {rule.invariant} | {repair} |")
    lines += ["", "| repair | does |", "| --- | --- |"]
    lines += [f"| `{repair}` | {_cell(does)} |" for repair, does in REPAIRS.items()]
    lines += ["", "| promise | |", "| --- | --- |"]
    lines += [f"| {number} | {_cell(promise)} |" for number, promise in PROMISES.items()]
    return "\n".join(lines) + "\n"


def _contracts() -> str:
    models = pipelines.contract_models()
    files = " and ".join(f"`{name.replace('.', '/')}.py`" for name in models)
    lines = [
        "# Contracts",
        "",
        f"What crosses a process boundary, from {files}, as JSON objects. Fields are added",
        "with a default and never renamed; unknown fields are ignored. Lengths are in characters.",
    ]
    for kind in (kind for kinds in models.values() for kind in kinds):
        lines += ["", f"## {kind.__name__}", "", inspect.cleandoc(kind.__doc__ or ""), ""]
        lines += ["| field | type | default |", "| --- | --- | --- |"]
        schema = kind.model_json_schema()
        for name, field in schema["properties"].items():
            default = "required" if name in schema.get("required", []) else f"`{json.dumps(field.get('default'))}`"
            lines.append(f"| `{name}` | {_type(field)} | {default} |")
    return "\n".join(lines) + "\n"


def _type(field: dict[str, Any]) -> str:
    if "anyOf" in field:
        return " or ".join(_type(choice) for choice in field["anyOf"])
    if "const" in field:
        return f"`{json.dumps(field['const'])}`"
    if "$ref" in field:
        return str(field["$ref"]).rpartition("/")[2]
    limit = f", at most {field['maxLength']}" if "maxLength" in field else ""
    return f"{field['type']}{limit}"


def _errors() -> str:
    lines = [
        "# Errors",
        "",
        "Each error has a stable code. It is the type of a failed activity in a workflow's history, the",
        "`error_code` of a failed job's row, and `error.code` in a command's `-o json`. Names in braces stand for",
        "what the message fills in. A job waits for what is wrong with a service or a worker, for as long as it lives.",
        "",
        "| code | message | what to do | a job waits |",
        "| --- | --- | --- | --- |",
    ]
    for kind in error_classes():
        message = _cell(inspect.cleandoc(kind.__doc__ or ""))
        waits = "yes" if a_job_waits(kind) else "no"
        lines.append(f"| `{kind.code}` | {message} | {_cell(hint_of(kind))} | {waits} |")
    return "\n".join(lines) + "\n"


def _settings() -> str:
    lines = [
        "# Settings",
        "",
        "Read from the environment, then from the file that `--env-file` names or `.env` in the current directory,",
        "then, where none of them says where a service is, from the local stack that runs here. An empty variable",
        "counts as not set. `photo-worker config show` prints each setting with its value and where that comes from,",
        "down to the line of the file, without secrets; it ends with 1 where a worker would not start with them, and",
        "warns of a misspelt name in the file.",
        "",
        "| variable | default |",
        "| --- | --- |",
    ]
    for field in Settings.model_fields.values():
        default = "" if field.default is None else f"`{field.default}`"
        lines.append(f"| `{field.alias}` | {default} |")
    lines += [
        "",
        "`TEXTRACT_API` chooses how the engine `textract` asks. `async` starts a job with a request token, a digest of",
        "bucket, key and content, and asks until it has ended: whatever dies or is submitted twice, a document is",
        "charged once in 7 days. `sync` calls DetectDocumentText, which responds in one call and has no such token: a",
        "crash between the response and its storing is charged again. A PDF or TIFF of several pages is refused before",
        "Textract is asked, either way.",
        "",
        "`JOB_LIFETIME_SECONDS` is how long a job that is submitted waits for services that are away and for workers",
        "that are set up rightly, counted from its first workflow task; then it ends as failed with `job_expired`.",
        "",
        "`TEMPORAL_DEPLOYMENT_NAME` and `TEMPORAL_WORKER_BUILD_ID`, both or neither, give the worker a version, as",
        "Temporal's Worker Versioning knows it; [production](../how-to/production.md) says how to use it.",
        "`TEMPORAL_VERSIONING_BEHAVIOR` says which version continues a workflow: `auto_upgrade` the current one,",
        "`pinned` the one that began it. `TEMPORAL_POLLERS=autoscaling` lets Temporal choose how many polls are open.",
        "",
        "`METRICS_ADDRESS`, an IP address and a port such as `127.0.0.1:9464`, serves the worker's metrics to",
        "Prometheus, at `/metrics` and without a password: name an address that only the monitoring reaches.",
        "",
        "`S3_SERVER_SIDE_ENCRYPTION` (`AES256`, `aws:kms`, `aws:kms:dsse`) and, for the last two, `S3_SSE_KMS_KEY_ID`",
        "go with all that the worker, `submit` and `migrate` write to S3: photos, OCR results, manifests and the",
        "bucket's marker. Without them the bucket's own default encryption holds, which is enough unless a bucket",
        "policy refuses writes that do not say so. With a KMS key the credentials need `kms:GenerateDataKey` and",
        "`kms:Decrypt` on it; Textract reads the photo with the same credentials.",
        "",
        "Services' own variables keep their names and are read by their own libraries:",
        "",
        "- Temporal (`temporalio.envconfig`): `TEMPORAL_NAMESPACE`, `TEMPORAL_PROFILE`, `TEMPORAL_CONFIG_FILE`,",
        "  `TEMPORAL_ADDRESS`, `TEMPORAL_API_KEY`, `TEMPORAL_TLS`, `TEMPORAL_TLS_CLIENT_CERT_PATH`,",
        "  `TEMPORAL_TLS_CLIENT_KEY_PATH`, `TEMPORAL_TLS_SERVER_CA_CERT_PATH`, `TEMPORAL_TLS_SERVER_NAME`.",
        "  `TEMPORAL_TARGET` goes before the address of a profile.",
        "- AWS (botocore): `AWS_REGION` (or `AWS_DEFAULT_REGION`; the first goes before), `AWS_PROFILE`,",
        "  `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`, `AWS_ENDPOINT_URL_S3`,",
        "  `AWS_ENDPOINT_URL_TEXTRACT`, `AWS_CA_BUNDLE` and the rest.",
    ]
    return "\n".join(lines) + "\n"


def _policies() -> str:
    lines = [
        "# Policies",
        "",
        "Timeouts and retries of each step, from `photo_worker/policies.py`. What is wrong with a service or a worker",
        "is tried again for as long as the job lives (`JOB_LIFETIME_SECONDS`, a day by default); `attempts` bounds",
        "those that end with an unexpected error alone, and 0 is no bound. A throttled call waits as the service asks.",
        "",
        "| step | one attempt | heartbeat | first wait | longest wait | attempts |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, policy in pipelines.steps().items():
        beat = f"{policy.heartbeat_timeout.total_seconds():g} s" if policy.heartbeat_timeout else "none"
        lines.append(
            f"| `{name}` | {policy.start_to_close_timeout.total_seconds():g} s | {beat}"
            f" | {policy.initial_interval.total_seconds():g} s | {policy.maximum_interval.total_seconds():g} s"
            f" | {policy.maximum_attempts} |"
        )
    return "\n".join(lines) + "\n"


def _replay_coverage() -> str:
    lines = [
        "# What the recorded histories cover",
        "",
        "Read from the histories themselves. `photo-worker replay check` replays all of them, and",
        "`photo-worker replay record` makes new ones.",
    ]
    about = {
        scenario.name: scenario.about
        for scenario in (*BEFORE_LIFETIME_SCENARIOS, *ACROSS_RELEASES_SCENARIOS, *SCENARIOS)
    }
    for title, directory in (
        ("The product's workflows", HISTORIES / "histories"),
        ("Workflows for what the product does not use yet", HISTORIES / "features" / "histories"),
    ):
        lines += ["", f"## {title}"]
        for workflow in sorted(path for path in directory.iterdir() if path.is_dir()):
            documents = [
                (path, json.loads(path.read_text(encoding="utf-8"))["events"]) for path in discover([workflow])
            ]
            lines += ["", f"### {workflow.name}", "", _exits([events for _, events in documents]), ""]
            lines += ["| release | history | exit | activities (attempts) |", "| --- | --- | --- | --- |"]
            for path, events in documents:
                name = f"`{path.stem}`" + (f": {_cell(about[path.stem])}" if path.stem in about else "")
                lines.append(f"| {path.parent.name} | {name} | {_end(events)} | {_activities(events)} |")
    return "\n".join(lines) + "\n"


def _exits(histories: list[list[dict[str, Any]]]) -> str:
    counted = Counter(exit_of(events) for events in histories)
    parts = [f"{number} {name}" for name, number in sorted(counted.items())]
    for patch in sorted({patch for events in histories for patch in patch_ids(events)}):
        sides = Counter(patch in patch_ids(events) for events in histories)
        parts.append(f"patch `{patch}`: {sides[True]} with, {sides[False]} without")
    chains = {attributes(events[0])["firstExecutionRunId"] for events in histories if exit_of(events) == "continued"}
    if chains:
        parts.append(f"{len(chains)} chains")
    return f"{len(histories)} histories: {', '.join(parts)}."


def _end(events: list[dict[str, Any]]) -> str:
    failure = failure_type(events)
    return exit_of(events) + (f" (`{failure}`)" if failure else "")


def _activities(events: list[dict[str, Any]]) -> str:
    outcomes = activity_outcomes(events)
    return (
        ", ".join(
            f"`{ran.activity}` {ran.outcome.replace('_', ' ')}" + (f" ({ran.attempts})" if ran.attempts else "")
            for ran in outcomes
        )
        or "none"
    )


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
