"""The contract of every ``ObjectStore``.

A subclass provides the fixture ``store``, which lists ``PAGE`` keys at once, and ``bucket`` if it has to clean up.
"""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from threading import Barrier
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from photo_worker.adapters.memory.object_store import MemoryObjectStore
from photo_worker.adapters.s3.object_store import BotoObjectStore
from photo_worker.errors import BucketMissing, DocumentTooLarge, InvalidBucket, InvalidKey, ObjectMissing
from photo_worker.ports.object_store import ObjectStore

MIB = 1 << 20
# How many keys a store under test lists at once.
PAGE = 7
KEYS = [
    "photo.jpg",
    "photos/grandma's apple pie.jpg",
    "photos/50%+butter & flour=1.png",
    "фото/рецепт.jpg",
    "写真/レシピ 1.jpg",
    "cre\u0300me bru\u0302le\u0301e.jpg",
    "🥧/?#[]@!$'()*,;:~.jpg",
    "a/.hidden/..b",
    "100%25.jpg",
    " leading and trailing ",
    "x/" * 300 + "deep",
]


def hide(store: ObjectStore, bucket: str, key: str) -> None:
    """Delete an object as other programs do: a bucket with versions keeps it behind a delete marker."""
    if isinstance(store, MemoryObjectStore):
        store.hide(bucket, key)
    else:
        assert isinstance(store, BotoObjectStore)
        store._client.delete_object(Bucket=bucket, Key=key)


class ObjectStoreContract:
    @pytest.fixture
    def store(self) -> ObjectStore:
        raise NotImplementedError

    @pytest.fixture
    def bucket(self, store: ObjectStore) -> str:
        name = f"pw-test-{uuid4().hex}"
        store.ensure_bucket(name)
        return name

    @pytest.fixture
    def keeping(self) -> tuple[ObjectStore, str]:
        """A store, and a bucket of it that keeps overwritten versions."""
        raise NotImplementedError

    @pytest.mark.parametrize("key", KEYS)
    def test_put_then_read_returns_the_same_object(self, store: ObjectStore, bucket: str, key: str) -> None:
        body = f"recipe of {key}".encode()
        store.put(bucket, key, body, content_type="image/jpeg", metadata={"job": "1"})
        info = store.head(bucket, key)
        assert (info.bucket, info.key, info.size_bytes, info.content_type) == (bucket, key, len(body), "image/jpeg")
        assert dict(info.metadata) == {"job": "1"}
        with store.open(bucket, key) as (opened, pieces):
            assert opened == info
            assert b"".join(pieces) == body
        assert store.get(bucket, key, limit_bytes=len(body)) == body

    def test_put_similar_keys_are_different_objects(self, store: ObjectStore, bucket: str) -> None:
        alike = ["a b", "a+b", "a%20b", "a%2Bb", "A b", "é", "e\u0301"]
        for key in alike:
            store.put(bucket, key, key.encode(), content_type="text/plain")
        assert [store.get(bucket, key, limit_bytes=100).decode() for key in alike] == alike

    def test_put_empty_body_is_an_object(self, store: ObjectStore, bucket: str) -> None:
        store.put(bucket, "empty", b"", content_type="image/png")
        assert store.head(bucket, "empty").size_bytes == 0
        with store.open(bucket, "empty") as (info, pieces):
            assert info.size_bytes == 0
            assert list(pieces) == []

    def test_open_yields_pieces_of_at_most_one_mebibyte(self, store: ObjectStore, bucket: str) -> None:
        body = hashlib.shake_256(b"pieces").digest(3 * MIB + 17)
        store.put(bucket, "big", body, content_type="image/png")
        with store.open(bucket, "big") as (info, pieces):
            parts = list(pieces)
        assert info.size_bytes == len(body)
        assert max(map(len, parts)) <= MIB
        assert b"".join(parts) == body

    def test_open_left_early_does_not_disturb_the_next_call(self, store: ObjectStore, bucket: str) -> None:
        body = bytes(3 * MIB)
        store.put(bucket, "big", body, content_type="image/png")
        for _ in range(3):
            with store.open(bucket, "big") as (_, pieces):
                next(iter(pieces))
        assert store.get(bucket, "big", limit_bytes=len(body)) == body

    def test_open_readers_error_passes_unchanged(self, store: ObjectStore, bucket: str) -> None:
        store.put(bucket, "k", b"x", content_type="image/png")
        with pytest.raises(OSError, match="disk full"), store.open(bucket, "k"):
            raise OSError("disk full")

    def test_put_again_replaces_body_type_and_metadata(self, store: ObjectStore, bucket: str) -> None:
        store.put(bucket, "k", b"a long first body", content_type="image/png", metadata={"first": "1"})
        before = store.head(bucket, "k").etag
        store.put(bucket, "k", b"second", content_type="image/jpeg")
        after = store.head(bucket, "k")
        assert (after.size_bytes, after.content_type, dict(after.metadata)) == (6, "image/jpeg", {})
        assert after.etag != before

    def test_head_same_bytes_have_the_same_etag(self, store: ObjectStore, bucket: str) -> None:
        store.put(bucket, "k", b"same", content_type="image/png")
        first = store.head(bucket, "k").etag
        store.put(bucket, "k", b"same", content_type="image/png")
        assert store.head(bucket, "k").etag == first

    def test_head_overwritten_object_has_another_revision(self, store: ObjectStore, bucket: str) -> None:
        store.put(bucket, "k", b"first", content_type="image/png")
        first = store.head(bucket, "k").revision
        with store.open(bucket, "k") as (opened, _):
            assert opened.revision == first
        assert store.head(bucket, "k").revision == first
        store.put(bucket, "k", b"second", content_type="image/png")
        assert store.head(bucket, "k").revision != first
        assert first

    def test_replace_with_stale_etag_writes_nothing(self, store: ObjectStore, bucket: str) -> None:
        store.put(bucket, "k", b"first", content_type="image/png")
        etag = store.head(bucket, "k").etag
        assert store.replace(bucket, "k", b"second", etag=etag, content_type="image/jpeg", metadata={"job": "1"})
        assert not store.replace(bucket, "k", b"third", etag=etag, content_type="image/jpeg")
        assert store.get(bucket, "k", limit_bytes=10) == b"second"
        assert dict(store.head(bucket, "k").metadata) == {"job": "1"}

    def test_replace_missing_object_writes_nothing(self, store: ObjectStore, bucket: str) -> None:
        assert not store.replace(bucket, "missing", b"x", etag="0" * 32, content_type="image/png")
        assert list(store.list(bucket, "")) == []

    def test_get_by_version_id_reads_a_replaced_version(self, keeping: tuple[ObjectStore, str]) -> None:
        store, bucket = keeping
        store.put(bucket, "k", b"first", content_type="image/png")
        first = store.head(bucket, "k")
        store.put(bucket, "k", b"second", content_type="image/jpeg")
        second = store.head(bucket, "k")
        assert first.version_id
        assert second.version_id not in {"", first.version_id}
        assert store.get(bucket, "k", limit_bytes=10) == b"second"
        assert store.get(bucket, "k", limit_bytes=10, version_id=first.version_id) == b"first"
        assert store.head(bucket, "k", version_id=first.version_id) == first
        with store.open(bucket, "k", version_id=first.version_id) as (info, pieces):
            assert (info, b"".join(pieces)) == (first, b"first")
        store.delete(bucket, "k")
        for look in (store.head, partial(store.get, limit_bytes=10)):
            with pytest.raises(ObjectMissing):
                look(bucket, "k", version_id=first.version_id)

    def test_put_metadata_value_may_be_any_text(self, store: ObjectStore, bucket: str) -> None:
        @settings(max_examples=15, deadline=None)
        @given(value=st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
        def holds(value: str) -> None:
            store.put(bucket, "k", b"x", content_type="image/png", metadata={"original-name": value})
            assert store.head(bucket, "k").metadata["original-name"] == value

        holds()

    @pytest.mark.parametrize("name", ["Upper", "under_score", "", "a b", "é", "x:y", "a\r\nb"])
    def test_put_unsafe_metadata_name_is_refused(self, store: ObjectStore, bucket: str, name: str) -> None:
        with pytest.raises(ValueError, match="metadata names"):
            store.put(bucket, "k", b"x", content_type="image/png", metadata={name: "1"})
        with pytest.raises(ValueError, match="metadata names"):
            store.put_new(bucket, "k", b"x", content_type="image/png", metadata={name: "1"})

    def test_read_missing_object_and_bucket_raise_own_errors(self, store: ObjectStore, bucket: str) -> None:
        nowhere = f"pw-test-{uuid4().hex}"
        for where, kind in [(bucket, ObjectMissing), (nowhere, BucketMissing)]:
            with pytest.raises(kind):
                store.head(where, "missing.jpg")
            with pytest.raises(kind), store.open(where, "missing.jpg"):
                pass
            with pytest.raises(kind):
                store.get(where, "missing.jpg", limit_bytes=1)
        with pytest.raises(BucketMissing):
            store.put(nowhere, "k", b"x", content_type="image/png")

    def test_head_key_is_case_sensitive(self, store: ObjectStore, bucket: str) -> None:
        store.put(bucket, "Photo.JPG", b"x", content_type="image/jpeg")
        with pytest.raises(ObjectMissing):
            store.head(bucket, "photo.jpg")

    @pytest.mark.parametrize("key", ["", "../x", "a/../../b", "a/./b", "a\x00b", "a\nb", "x" * 1025])
    def test_key_with_two_readings_is_refused_by_all_methods(self, store: ObjectStore, bucket: str, key: str) -> None:
        with pytest.raises(InvalidKey):
            store.head(bucket, key)
        with pytest.raises(InvalidKey), store.open(bucket, key):
            pass
        with pytest.raises(InvalidKey):
            store.get(bucket, key, limit_bytes=1)
        with pytest.raises(InvalidKey):
            store.put(bucket, key, b"x", content_type="image/png")
        with pytest.raises(InvalidKey):
            store.put_new(bucket, key, b"x", content_type="image/png")
        with pytest.raises(InvalidKey):
            store.delete(bucket, key)

    def test_get_object_over_limit_is_refused(self, store: ObjectStore, bucket: str) -> None:
        store.put(bucket, "k", b"12345", content_type="image/png")
        assert store.get(bucket, "k", limit_bytes=5) == b"12345"
        with pytest.raises(DocumentTooLarge) as caught:
            store.get(bucket, "k", limit_bytes=4)
        assert caught.value.context == {"name": "k", "size_bytes": 5, "limit_bytes": 4}

    def test_ensure_bucket_twice_keeps_its_objects(self, store: ObjectStore, bucket: str) -> None:
        store.put(bucket, "k", b"x", content_type="image/png")
        store.ensure_bucket(bucket)
        assert store.get(bucket, "k", limit_bytes=1) == b"x"

    @pytest.mark.parametrize("name", ["", "a/b"])
    def test_ensure_bucket_invalid_name_is_refused(self, store: ObjectStore, name: str) -> None:
        with pytest.raises(InvalidBucket):
            store.ensure_bucket(name)

    def test_put_concurrently_leaves_one_whole_body(self, store: ObjectStore, bucket: str) -> None:
        bodies = [bytes([number]) * 200_000 for number in range(16)]

        def write(body: bytes) -> None:
            store.put(bucket, "k", body, content_type="image/png")

        with ThreadPoolExecutor(16) as pool:
            list(pool.map(write, bodies))
        assert store.get(bucket, "k", limit_bytes=MIB) in bodies

    @pytest.mark.parametrize("key", KEYS)
    def test_put_new_twice_writes_once(self, store: ObjectStore, bucket: str, key: str) -> None:
        assert store.put_new(bucket, key, b"first", content_type="image/png", metadata={"writer": "1"}) is True
        assert store.put_new(bucket, key, b"second", content_type="image/jpeg") is False
        info = store.head(bucket, key)
        assert (info.content_type, dict(info.metadata)) == ("image/png", {"writer": "1"})
        assert store.get(bucket, key, limit_bytes=10) == b"first"

    def test_put_new_concurrently_one_writer_wins(self, store: ObjectStore, bucket: str) -> None:
        bodies = [bytes([number]) * 100_000 for number in range(20)]
        barrier = Barrier(len(bodies))

        def write(body: bytes) -> bool:
            barrier.wait(timeout=10)
            return store.put_new(bucket, "k", body, content_type="image/png")

        with ThreadPoolExecutor(len(bodies)) as pool:
            won = list(pool.map(write, bodies))
        assert won.count(True) == 1
        assert store.get(bucket, "k", limit_bytes=MIB) == bodies[won.index(True)]

    def test_put_new_after_delete_writes(self, store: ObjectStore, bucket: str) -> None:
        store.put(bucket, "k", b"first", content_type="image/png")
        assert store.delete(bucket, "k") == 1
        assert store.put_new(bucket, "k", b"second", content_type="image/png") is True
        assert store.get(bucket, "k", limit_bytes=10) == b"second"

    def test_list_returns_keys_sizes_and_times_in_order(self, store: ObjectStore, bucket: str) -> None:
        assert list(store.list(bucket, "")) == []
        for number, key in enumerate(KEYS):
            store.put(bucket, key, bytes(number), content_type="image/png")
        entries = list(store.list(bucket, ""))
        assert [entry.key for entry in entries] == sorted(KEYS, key=str.encode)
        assert {entry.key: entry.size_bytes for entry in entries} == {key: n for n, key in enumerate(KEYS)}
        assert {entry.bucket for entry in entries} == {bucket}
        now = datetime.now(UTC)
        assert all(abs(now - entry.modified_at) < timedelta(minutes=5) for entry in entries)

    @pytest.mark.parametrize(
        ("prefix", "found"),
        [
            ("artifacts/1/", ["artifacts/1/a", "artifacts/1/b/c"]),
            ("artifacts/1", ["artifacts/1/a", "artifacts/1/b/c", "artifacts/10/a"]),
            ("artifacts/1/a", ["artifacts/1/a"]),
            ("Artifacts/", []),
            ("фото/1+1 %", ["фото/1+1 %.jpg"]),
            ("no such", []),
        ],
    )
    def test_list_prefix_is_matched_literally(
        self, store: ObjectStore, bucket: str, prefix: str, found: list[str]
    ) -> None:
        for key in ["artifacts/1/a", "artifacts/1/b/c", "artifacts/10/a", "artifact", "фото/1+1 %.jpg", "фото/1 1.jpg"]:
            store.put(bucket, key, b"x", content_type="image/png")
        assert [entry.key for entry in store.list(bucket, prefix)] == found

    def test_list_continues_after_the_first_page(self, store: ObjectStore, bucket: str) -> None:
        keys = [f"many/{number:02} é+&.json" for number in range(3 * PAGE)]
        for key in keys:
            store.put(bucket, key, b"", content_type="application/json")
        assert [entry.key for entry in store.list(bucket, "many/")] == keys

    def test_list_while_deleting_yields_all_keys(self, store: ObjectStore, bucket: str) -> None:
        keys = [f"k/{number}" for number in range(9)]
        for key in keys:
            store.put(bucket, key, b"x", content_type="image/png")
        assert [store.delete(bucket, entry.key) for entry in store.list(bucket, "k/")] == [1] * 9
        assert list(store.list(bucket, "k/")) == []

    def test_list_hidden_yields_what_delete_markers_hide(self, keeping: tuple[ObjectStore, str]) -> None:
        store, bucket = keeping
        hidden = [f"a/{number:02}" for number in range(0, 20, 2)]
        for key in [*(f"a/{number:02}" for number in range(20)), "b/00"]:
            # One key has more than a page of versions.
            for body in [b"first", b"second"] + [b"third"] * (PAGE if key == hidden[3] else 1):
                store.put(bucket, key, body, content_type="image/png", metadata={"key": key[2:]})
        newest = {key: store.head(bucket, key) for key in hidden}
        for key in [*hidden, "a/01", "b/00", "a/was never there"]:
            hide(store, bucket, key)
        hide(store, bucket, hidden[4])
        assert store.put_new(bucket, "a/01", b"again", content_type="image/png")
        found = list(store.list_hidden(bucket, "a/"))
        assert [entry.key for entry in found] == hidden
        assert {entry.key: entry.version_id for entry in found} == {key: newest[key].version_id for key in hidden}
        assert {entry.size_bytes for entry in found} == {len(b"third")}
        for entry in found:
            assert store.head(bucket, entry.key, version_id=entry.version_id).metadata == {"key": entry.key[2:]}
        assert not {entry.key for entry in store.list(bucket, "a/")} & set(hidden)
        for key in hidden:
            assert store.delete(bucket, key) >= 4
        assert list(store.list_hidden(bucket, "a/")) == []
        assert [entry.key for entry in store.list_hidden(bucket, "")] == ["b/00"]

    def test_list_hidden_missing_bucket_raises(self, store: ObjectStore) -> None:
        with pytest.raises(BucketMissing):
            list(store.list_hidden(f"pw-none-{uuid4().hex}", ""))

    @pytest.mark.parametrize("key", KEYS)
    def test_delete_removes_only_the_given_key(self, store: ObjectStore, bucket: str, key: str) -> None:
        neighbours = [key + "x", "0" + key]
        for one in (key, *neighbours):
            store.put(bucket, one, b"x", content_type="image/png")
        assert store.delete(bucket, key) == 1
        with pytest.raises(ObjectMissing):
            store.head(bucket, key)
        assert store.delete(bucket, key) == 0
        assert sorted(entry.key for entry in store.list(bucket, "")) == sorted(neighbours)

    def test_list_delete_and_put_new_missing_bucket_raise(self, store: ObjectStore) -> None:
        nowhere = f"pw-test-{uuid4().hex}"
        with pytest.raises(BucketMissing):
            list(store.list(nowhere, ""))
        with pytest.raises(BucketMissing):
            store.delete(nowhere, "k")
        with pytest.raises(BucketMissing):
            store.put_new(nowhere, "k", b"x", content_type="image/png")

    def test_describe_is_not_empty(self, store: ObjectStore) -> None:
        assert store.describe()
