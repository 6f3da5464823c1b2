"""Remote objects as files: the same bytes in order and at any place."""

from __future__ import annotations

import io
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from embedfleet.protocol.object_storage.streams import FIRST_BYTES, MOST_PAGES, PAGE_BYTES, RemoteFile, RemoteStream

CONTENT = random.Random(1).randbytes(5 * PAGE_BYTES + 12_345)


class Store:
    """Content by ranges; `asked` are those."""

    def __init__(self, content: bytes) -> None:
        self.content, self.asked = content, list[tuple[int, int]]()

    def fetch(self, start: int, end: int) -> bytes:
        self.asked.append((start, end))
        return self.content[start:end]


def test_a_stream_has_all_bytes_in_order_and_each_is_fetched_once() -> None:
    store = Store(CONTENT)
    with RemoteStream(store.fetch, len(CONTENT)) as stream:
        assert io.BufferedReader(stream).read() == CONTENT
    assert sum(end - start for start, end in store.asked) == len(CONTENT)
    assert store.asked[0] == (0, FIRST_BYTES)


def test_a_stream_may_begin_and_end_anywhere() -> None:
    with RemoteStream(Store(CONTENT).fetch, 9_000, start=77) as stream:
        assert stream.tell() == 77
        assert io.BufferedReader(stream).read() == CONTENT[77:9_000]
    with RemoteStream(Store(b"").fetch, 0) as empty:
        assert empty.read(10) == b""


def test_an_error_of_the_read_ahead_comes_where_its_bytes_are_needed() -> None:
    def fetch(start: int, end: int) -> bytes:
        if start:
            raise KeyError("gone")
        return CONTENT[start:end]

    with RemoteStream(fetch, len(CONTENT)) as stream:
        assert stream.read(FIRST_BYTES) == CONTENT[:FIRST_BYTES]
        with pytest.raises(KeyError, match="gone"):
            stream.read(1)


def test_a_file_is_read_at_any_place() -> None:
    file, draw = RemoteFile(Store(CONTENT).fetch, len(CONTENT)), random.Random(2)
    for _ in range(200):
        start = draw.randrange(len(CONTENT))
        size = draw.choice([0, 1, 100, PAGE_BYTES, 3 * PAGE_BYTES, 9 * PAGE_BYTES])
        assert file.seek(start) == start
        assert file.read(size) == CONTENT[start : start + size]
    assert file.seek(-8, io.SEEK_END) == len(CONTENT) - 8
    assert file.read() == CONTENT[-8:]
    assert file.size() == len(CONTENT)


def test_a_file_keeps_a_bounded_number_of_pages() -> None:
    large = bytes(PAGE_BYTES) * (MOST_PAGES + 40)
    store = Store(large)
    file = RemoteFile(store.fetch, len(large))
    while file.read(PAGE_BYTES):
        pass
    assert len(file._pages) == MOST_PAGES
    assert sum(end - start for start, end in store.asked) == len(large)


def test_parquet_is_read_through_it() -> None:
    table = pa.table({"id": [str(n) for n in range(20_000)], "text": [f"text {n}" * 20 for n in range(20_000)]})
    packed = io.BytesIO()
    pq.write_table(table, packed, row_group_size=5_000)
    store = Store(packed.getvalue())
    with pq.ParquetFile(RemoteFile(store.fetch, len(store.content)), buffer_size=1 << 20) as file:
        assert file.read().equals(table)
