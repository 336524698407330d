"""Translate out-of-memory errors of native libraries into ``MemoryError``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

# Messages of C++'s exception and of ONNX Runtime's allocator, which the engine and the recogniser wrap in their errors.
_SAID = ("bad_alloc", "failed to allocate memory", "out of memory")


@contextmanager
def memory_errors() -> Iterator[None]:
    """Raise ``MemoryError`` in place of any error whose message reports a failed allocation."""
    try:
        yield
    except Exception as error:
        said = str(error)
        if any(each in said.lower() for each in _SAID):
            raise MemoryError(said) from error
        raise
