"""botocore's connections, each known to the ``ServiceCall`` that uses it from its first byte on."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import Any

from botocore.awsrequest import AWSHTTPConnection, AWSHTTPConnectionPool, AWSHTTPSConnection, AWSHTTPSConnectionPool

from photo_worker.devkit.textract.service_calls import watch


class _Connection(AWSHTTPConnection):
    def _new_conn(self) -> socket.socket:
        return _watched(super()._new_conn())

    def request(self, *given: Any, **named: Any) -> Any:
        if self.sock is not None:
            # It was kept from an earlier call.
            watch(self.sock)
        return super().request(*given, **named)


class _SecureConnection(AWSHTTPSConnection):
    def _new_conn(self) -> socket.socket:
        # Before TLS, whose greetings may come a byte at a time as well.
        return _watched(super()._new_conn())

    def request(self, *given: Any, **named: Any) -> Any:
        if self.sock is not None:
            watch(self.sock)
        return super().request(*given, **named)


class _Pool(AWSHTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(AWSHTTPSConnectionPool):
    ConnectionCls = _SecureConnection


_POOLS: Mapping[str, type] = {"http": _Pool, "https": _SecurePool}


def _watched(connection: socket.socket) -> socket.socket:
    try:
        watch(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def breakable(client: Any) -> None:
    """Have the connections of a boto3 client end with the ``ServiceCall`` that uses them."""
    # Shared by the managers of direct connections and of those through a proxy, before any is opened.
    client._endpoint.http_session._pool_classes_by_scheme.update(_POOLS)
