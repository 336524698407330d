"""Ports behind the gate: each public method of an object is one port call."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.crash.simulation.gate import Gate
from tests.crash.simulation.port_errors import PortErrors


class Gated:
    """A wrapper that makes each public method of an object one port call."""

    def __init__(
        self,
        gate: Gate,
        name: str,
        inner: object,
        errors: PortErrors,
        unrepeatable: frozenset[str] = frozenset(),
    ) -> None:
        self._gate, self._name, self._unrepeatable = gate, name, unrepeatable
        self._errors = errors
        self._inner: Any = inner

    def __getattr__(self, method: str) -> Any:
        found = getattr(self._inner, method)
        if not callable(found) or method == "describe":
            return found

        def call(*args: Any, **named: Any) -> Any:
            repeatable = method not in self._unrepeatable
            return self._gate.call(
                f"{self._name}.{method}",
                lambda: found(*args, **named),
                repeatable=repeatable,
                errors=self._errors,
            )

        return call


class GatedStore(Gated):
    """An object store; streams and listings are one call each, made when they are requested."""

    def open(self, bucket: str, key: str, *, version_id: str = "") -> Any:
        return self._gate.call("store.open", lambda: self._opened(bucket, key, version_id), errors=self._errors)

    @contextmanager
    def _held(self, found: Any) -> Iterator[Any]:
        yield found

    def _opened(self, bucket: str, key: str, version_id: str) -> Any:
        # The request is the call: it streams the object of that time.
        with self._inner.open(bucket, key, version_id=version_id) as (info, chunks):
            return self._held((info, iter([*chunks])))

    def list(self, bucket: str, prefix: str) -> Iterator[Any]:
        found = self._gate.call("store.list", lambda: [*self._inner.list(bucket, prefix)], errors=self._errors)
        return iter(found)

    def list_hidden(self, bucket: str, prefix: str) -> Iterator[Any]:
        found = self._gate.call(
            "store.list_hidden", lambda: [*self._inner.list_hidden(bucket, prefix)], errors=self._errors
        )
        return iter(found)


class GatedRepository(Gated):
    """A repository; acquiring and releasing the lock of ``sole_user`` are one call each."""

    def all(self, *, page: int = 1000) -> Iterator[Any]:
        return iter(self._gate.call("rows.all", lambda: [*self._inner.all(page=page)], errors=self._errors))

    @contextmanager
    def sole_user(self, job_id: Any, *, bucket: str, key: str, sha256: str = "") -> Iterator[bool]:
        manager = self._inner.sole_user(job_id, bucket=bucket, key=key, sha256=sha256)
        entered: list[bool] = []
        try:
            self._gate.call(
                "rows.sole_user",
                lambda: entered.append(manager.__enter__()),
                repeatable=False,
                errors=self._errors,
            )
            yield entered[0]
        finally:
            # A process that dies, or whose connection is silent, has lost its lock.
            if entered:
                manager.__exit__(None, None, None)
