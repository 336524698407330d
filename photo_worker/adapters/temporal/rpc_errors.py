"""Translates the errors of Temporal's client into ``photo_worker.errors``.

Statuses are gRPC's. A fault that may pass by itself becomes ``TemporalUnavailable`` or ``TemporalThrottled``; a wrong
namespace, wrong credentials or a wrong request become a ``ConfigurationError``: the same call would be refused again.
"""

from __future__ import annotations

import re

from temporalio.api.errordetails.v1 import NamespaceNotFoundFailure
from temporalio.service import RPCError, RPCStatusCode

from photo_worker.errors import (
    PhotoWorkerError,
    TemporalForbidden,
    TemporalNamespaceMissing,
    TemporalRequestInvalid,
    TemporalThrottled,
    TemporalUnauthenticated,
    TemporalUnavailable,
)

_REASON_LENGTH = 300

# The SDK's bridge reports errors of a new connection or worker as RuntimeError, with the status in its text.
_CODE = re.compile(r"Status \{ code: '?([A-Z][A-Za-z ]+?)'?, message: \"((?:[^\"\\]|\\.)*)\"")
_STATUSES = {status.name.replace("_", "").lower(): status for status in RPCStatusCode}
_NAMESPACE = re.compile(r"[Nn]amespace \S+ (?:is|was) not found")


def is_namespace_missing(error: RPCError) -> bool:
    """Tell whether NOT_FOUND is about the namespace, and not about the object requested in it."""
    if error.status is not RPCStatusCode.NOT_FOUND:
        return False
    details = error.grpc_status.details
    return any(detail.Is(NamespaceNotFoundFailure.DESCRIPTOR) for detail in details)


def is_not_there(error: RPCError) -> bool:
    """Tell whether the namespace exists and the object requested in it does not."""
    return error.status is RPCStatusCode.NOT_FOUND and not is_namespace_missing(error)


def translate(error: RPCError, *, target: str, namespace: str) -> PhotoWorkerError:
    """Return the error to raise in place of ``error``."""
    if is_namespace_missing(error):
        return TemporalNamespaceMissing(target=target, namespace=namespace)
    return _of_status(error.status, error.message, target, namespace)


def translate_bridge(error: RuntimeError, *, target: str, namespace: str) -> PhotoWorkerError:
    """Return the error to raise in place of the bridge's error at the start of a connection or a worker."""
    text = str(error)
    reason = (text.splitlines() or [type(error).__name__])[0]
    if _NAMESPACE.search(text):
        return TemporalNamespaceMissing(target=target, namespace=namespace)
    found = _CODE.search(text)
    status = None if found is None else _STATUSES.get(found[1].replace(" ", "").lower())
    if found is None or status is None:
        return TemporalUnavailable(target=target, reason=reason[:_REASON_LENGTH])
    return _of_status(status, found[2], target, namespace)


def _of_status(status: RPCStatusCode, message: str, target: str, namespace: str) -> PhotoWorkerError:
    reason = " ".join(message.split())[:_REASON_LENGTH] or status.name
    if status is RPCStatusCode.UNAUTHENTICATED:
        return TemporalUnauthenticated(target=target, reason=reason)
    if status is RPCStatusCode.PERMISSION_DENIED:
        return TemporalForbidden(target=target, namespace=namespace, reason=reason)
    if status is RPCStatusCode.INVALID_ARGUMENT:
        return TemporalRequestInvalid(target=target, namespace=namespace, reason=reason)
    if status is RPCStatusCode.RESOURCE_EXHAUSTED:
        return TemporalThrottled(target=target, reason=reason)
    return TemporalUnavailable(target=target, reason=reason)
