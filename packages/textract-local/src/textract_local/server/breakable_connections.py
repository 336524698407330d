"""botocore's connections, registered with the ``ServiceCall`` that uses them from the first byte on."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import Any

from botocore.awsrequest import AWSHTTPConnection, AWSHTTPConnectionPool, AWSHTTPSConnection, AWSHTTPSConnectionPool

from textract_local.server.service_calls import watch


class _Connection(AWSHTTPConnection):
    def _new_conn(self) -> socket.socket:
        return _watched(super()._new_conn())

    def request(self, *given: Any, **named: Any) -> Any:
        if self.sock is not None:
            # The connection was kept from an earlier call.
            watch(self.sock)
        return super().request(*given, **named)


class _SecureConnection(AWSHTTPSConnection):
    def _new_conn(self) -> socket.socket:
        # Before TLS: its handshake may arrive a byte at a time as well.
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
    """Make a ``ServiceCall`` that is broken off close the connection of this boto3 client that it uses."""
    # The managers of direct and of proxy connections share this dict; no connection is open yet.
    client._endpoint.http_session._pool_classes_by_scheme.update(_POOLS)
