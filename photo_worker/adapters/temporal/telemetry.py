"""Metrics of a worker process: Temporal's own and the worker's, for Prometheus to fetch."""

from __future__ import annotations

from temporalio.common import MetricMeter
from temporalio.runtime import PrometheusConfig, Runtime, TelemetryConfig

from photo_worker.errors import ConfigurationError


def metrics_runtime(address: str) -> Runtime:
    """Return a runtime that serves ``http://ADDRESS/metrics`` as long as the process lives.

    Durations are in seconds, and names end as OpenMetrics wants it (``_total``, ``_seconds``). Raises
    ``ConfigurationError`` if nothing can listen on ``address``, an IP address and a port.
    """
    metrics = PrometheusConfig(
        bind_address=address, counters_total_suffix=True, unit_suffix=True, durations_as_seconds=True
    )
    try:
        return Runtime(telemetry=TelemetryConfig(metrics=metrics))
    except ValueError as error:
        raise ConfigurationError(problems=f"METRICS_ADDRESS {address}: {error}") from error


class WaitMetric:
    """The metric ``photo_worker_waits``: 1 with the error code for which the worker takes no work, 0 afterwards."""

    def __init__(self, meter: MetricMeter) -> None:
        self._gauge = meter.create_gauge(
            "photo_worker_waits", "1 while the worker takes no work because of the error with this code, 0 afterwards"
        )
        self._code: str | None = None

    def tell(self, code: str | None) -> None:
        """Set the metric to what the worker waits for now, None if it takes work."""
        if self._code not in (None, code):
            self._gauge.set(0, {"code": str(self._code)})
        if code is not None:
            self._gauge.set(1, {"code": code})
        self._code = code
