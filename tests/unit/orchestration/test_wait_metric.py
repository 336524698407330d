"""The metric of what a worker waits for, as Temporal's SDK records it."""

from __future__ import annotations

from temporalio.runtime import MetricBuffer, Runtime, TelemetryConfig

from photo_worker.adapters.temporal.telemetry import WaitMetric


def test_wait_metric_another_code_ends_the_first() -> None:
    buffer = MetricBuffer(100)
    metric = WaitMetric(Runtime(telemetry=TelemetryConfig(metrics=buffer)).metric_meter)
    for code in ("database_unavailable", "database_unavailable", "ocr_unavailable", None):
        metric.tell(code)
    values: dict[str, int | float] = {}
    for update in buffer.retrieve_updates():
        assert update.metric.name == "photo_worker_waits"
        values[str(update.attributes["code"])] = update.value
    assert values == {"database_unavailable": 0, "ocr_unavailable": 0}
