"""LineReader: every line once, under its number, however the blocks fall."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest
from embedfleet.coordinator.reading.line_reader import HEAD_BYTES, Line, LineReader, OversizedLine
from hypothesis import given
from hypothesis import strategies as st


def lines_of(data: bytes, *, skip: int = 0, block: int = 1 << 20, most: int = 64 << 20) -> list[Line]:
    reader = LineReader(io.BytesIO(data).read, skip=skip, block_bytes=block, max_line_bytes=most)
    return [line for lines in reader for line in lines]


@pytest.mark.parametrize("block", [1, 2, 3, 5, 100])
def test_numbers_count_blank_lines_but_do_not_give_them(block: int) -> None:
    data = b"one\n\n  \t\r\nfour\r\nfive"
    assert lines_of(data, block=block) == [(1, b"one"), (4, b"four\r"), (5, b"five")]


@pytest.mark.parametrize("block", [1, 2, 4, 100])
def test_byte_order_mark_is_dropped_only_at_the_start(block: int) -> None:
    mark = b"\xef\xbb\xbf"
    assert lines_of(mark + b"a\n" + mark + b"b\n", block=block) == [(1, b"a"), (2, mark + b"b")]


@pytest.mark.parametrize("data", [b"", b"\xef\xbb\xbf", b"\n\n \n"])
def test_nothing_to_give(data: bytes) -> None:
    assert lines_of(data) == []


def test_an_oversized_line_is_reported_and_the_next_one_read() -> None:
    data = b"a\n" + b"x" * 5000 + b"\nb\n" + b"y" * 1000 + b"\n" + b"z" * 1001
    assert lines_of(data, block=100, most=1000) == [
        (1, b"a"),
        (2, OversizedLine(b"x" * HEAD_BYTES, 5000)),
        (3, b"b"),
        (4, b"y" * 1000),
        (5, OversizedLine(b"z" * HEAD_BYTES, 1001)),
    ]


def test_an_oversized_line_is_not_kept_in_memory() -> None:
    held: list[int] = []

    def endless() -> Callable[[int], bytes]:
        left = [3000]

        def read(n: int) -> bytes:
            left[0] -= 1
            held.append(sum(len(part) for part in reader._partial._parts))
            return b"x" * n if left[0] else b""

        return read

    reader = LineReader(endless(), block_bytes=1000, max_line_bytes=10_000)
    assert [line for lines in reader for line in lines] == [(1, OversizedLine(b"x" * HEAD_BYTES, 2_999_000))]
    assert max(held) == 10_000


@given(
    st.lists(st.sampled_from([b"", b" ", b"a", b"bb", b"x" * 12, b"\xef\xbb\xbf"])),
    st.integers(0, 12),
    st.integers(1, 9),
    st.booleans(),
)
def test_blocks_and_skips_change_nothing(lines: list[bytes], skip: int, block: int, ended: bool) -> None:
    data = b"\n".join(lines) + (b"\n" if ended else b"")
    whole = data.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    expected = [(number, line) for number, line in enumerate(whole, 1) if line.strip() and number > skip]
    given_ = lines_of(data, skip=skip, block=block, most=10)
    assert [number for number, _ in given_] == [number for number, _ in expected]
    for (_, line), (_, wanted) in zip(given_, expected, strict=True):
        assert line == (wanted if len(wanted) <= 10 else OversizedLine(wanted, len(wanted)))


def test_a_failing_read_passes_through_and_number_says_what_was_whole() -> None:
    parts = [b"one\ntwo\nthr"]

    def read(_: int) -> bytes:
        if parts:
            return parts.pop()
        raise EOFError("cut")

    reader = LineReader(read)
    blocks = iter(reader)
    assert next(blocks) == [(1, b"one"), (2, b"two")]
    with pytest.raises(EOFError, match="cut"):
        next(blocks)
    assert reader.number == 2
