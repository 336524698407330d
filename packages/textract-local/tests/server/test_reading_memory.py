"""The cache of responses: what it keeps, and what it evicts."""

from __future__ import annotations

from textract_local.server.reading_memory import SizedCache


def test_sized_cache_above_limit_evicts_least_recently_used() -> None:
    cache = SizedCache(4)
    cache.put("a", b"12")
    cache.put("b", b"12")
    assert cache.get("a") == b"12"
    cache.put("c", b"1")
    assert (cache.get("a"), cache.get("b"), cache.get("c")) == (b"12", None, b"1")


def test_sized_cache_put_larger_than_limit_keeps_the_others() -> None:
    cache = SizedCache(2)
    cache.put("a", b"12")
    cache.put("b", b"123")
    assert (cache.get("a"), cache.get("b")) == (b"12", None)
