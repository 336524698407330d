"""Errors of Temporal itself."""

from __future__ import annotations

from photo_worker.errors.base import ConfigurationError, DependencyError


class TemporalUnavailable(DependencyError):
    """Temporal does not respond at {target}: {reason}."""

    code = "temporal_unavailable"
    hint = (
        "Start the stack with `photo-worker up`, or correct TEMPORAL_TARGET, its TLS settings and TEMPORAL_NAMESPACE."
    )


class TemporalThrottled(DependencyError):
    """Temporal asks to slow down ({target}): {reason}."""

    code = "temporal_throttled"
    hint = "Run the command again, a submission under the same --job-id; raise the namespace's limits if it lasts."


class TemporalNamespaceMissing(ConfigurationError):
    """Temporal at {target} has no namespace {namespace!r}."""

    code = "temporal_namespace_missing"
    hint = "Correct TEMPORAL_NAMESPACE, or make the namespace: temporal operator namespace create --namespace NAME."


class TemporalUnauthenticated(ConfigurationError):
    """Temporal at {target} does not accept the credentials: {reason}."""

    code = "temporal_unauthenticated"
    hint = "Check TEMPORAL_API_KEY, or the certificate and key that TEMPORAL_TLS_CLIENT_* name, and when they expire."


class TemporalForbidden(ConfigurationError):
    """Temporal at {target} does not allow this with these credentials in namespace {namespace!r}: {reason}."""

    code = "temporal_forbidden"
    hint = "Check TEMPORAL_NAMESPACE, and give the credentials write access to it."


class TemporalRequestInvalid(ConfigurationError):
    """Temporal at {target} does not accept the request in namespace {namespace!r}: {reason}."""

    code = "temporal_request_invalid"
    hint = "Check TEMPORAL_NAMESPACE and TEMPORAL_TASK_QUEUE, and the server's own limits, such as the length of names."
