"""What native libraries say where they get no memory, as Python's own error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

# Of C++'s exception and of ONNX Runtime's own allocator, which the engine and the recogniser pass on as their errors.
_SAID = ("bad_alloc", "failed to allocate memory", "out of memory")


@contextmanager
def memory_errors() -> Iterator[None]:
    """Raise what tells of an allocation that failed as ``MemoryError``."""
    try:
        yield
    except Exception as error:
        said = str(error)
        if any(each in said.lower() for each in _SAID):
            raise MemoryError(said) from error
        raise
