"""The values of a JSON array, cut at any byte: what `json` makes of the whole, in memory that does not grow."""

from __future__ import annotations

import io
import json
import tracemalloc
from pathlib import Path
from typing import Any

import orjson
import pytest
from embedfleet.coordinator.reading import readers
from embedfleet.coordinator.reading.json_values import JsonValues
from embedfleet.coordinator.reading.line_reader import HEAD_BYTES, OversizedLine
from embedfleet.coordinator.reading.readers import read_records
from embedfleet.coordinator.reading.records import Reject
from embedfleet.coordinator.reading.running_digest import RunningDigest
from embedfleet.protocol.source.corpus import resolve
from embedfleet.protocol.source.unpacked import new_digest
from hypothesis import given, settings
from hypothesis import strategies as st

JSON: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text('ab"\\{}[],:é\n'),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text('k"\\]}', max_size=3), inner, max_size=4),
    max_leaves=12,
)


def values_of(data: bytes, block: int, *, array: bool = True, skip: int = 0, most: int = 1 << 20) -> Any:
    digest = RunningDigest()
    read = JsonValues(
        io.BytesIO(data).read, array=array, digest=digest, skip=skip, block_bytes=block, max_value_bytes=most
    )
    found = [
        (number, json.dumps(one).encode() if isinstance(one, dict) else one) for given in read for number, one in given
    ]
    return found, read.fault, read.number


def plain(found: Any) -> Any:
    """However a value was found."""
    values, *rest = found

    def parsed(value: Any) -> Any:
        try:
            return orjson.loads(value)
        except (TypeError, ValueError):
            return value

    return [(number, parsed(value)) for number, value in values], *rest


@settings(max_examples=200, deadline=None)
@given(st.lists(JSON, max_size=6), st.integers(1, 40), st.sampled_from([None, 0, 2]), st.booleans(), st.integers(0, 7))
def test_every_value_is_found_wherever_the_blocks_end(
    values: list[Any], block: int, indent: int | None, ascii_only: bool, skip: int
) -> None:
    data = json.dumps(values, indent=indent, ensure_ascii=ascii_only).encode()
    found, fault, number = values_of(data, block, skip=skip)
    assert (fault, number) == ("", len(values))
    assert [at for at, _ in found] == list(range(skip + 1, len(values) + 1))
    assert [json.loads(one) for _, one in found] == values[skip:]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.dictionaries(st.text(max_size=3), JSON, max_size=3), min_size=1, max_size=5), st.integers(1, 40))
def test_objects_that_follow_one_another(values: list[Any], block: int) -> None:
    for between, indent in (("", None), ("\n", 2), (" \r\n\t", None)):
        data = between.join(json.dumps(one, indent=indent) for one in values).encode()
        found, fault, _ = values_of(data, block, array=False)
        assert fault == ""
        assert [json.loads(one) for _, one in found] == values


@settings(max_examples=150, deadline=None)
@given(st.lists(JSON, min_size=1, max_size=5), st.data())
def test_what_is_cut_short_gives_what_stood_before(values: list[Any], data: Any) -> None:
    whole = json.dumps(values).encode()
    cut = data.draw(st.integers(1, len(whole) - 1))
    found, fault, _ = values_of(whole[:cut], data.draw(st.integers(1, 40)))
    assert fault
    assert [json.loads(one) for _, one in found] == values[: len(found)]


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60) | st.text('[]{}",:\\ 1a\n', max_size=60).map(str.encode), st.booleans())
def test_anything_ends_and_is_the_same_in_blocks_of_any_size(data: bytes, array: bool) -> None:
    expected = values_of(data, 1 << 20, array=array)
    for block in (1, 3, 8):
        assert plain(values_of(data, block, array=array)) == plain(expected)
    try:
        whole = json.loads(data)
    except ValueError:
        return
    if array and isinstance(whole, list):
        assert expected[1:] == ("", len(whole))


@settings(max_examples=200, deadline=None)
@given(st.lists(JSON, min_size=1, max_size=6), st.integers(1, 40), st.booleans())
def test_the_digest_at_a_value_is_that_of_the_bytes_through_its_end(
    values: list[Any], block: int, spread: bool
) -> None:
    """Through the comma after it, wherever the blocks end."""
    data = b"\xef\xbb\xbf" + json.dumps(values, indent=1 if spread else None).encode() + b"\n\n"
    marks: list[list[tuple[int, str]]] = []
    for size in (block + 2, 1 << 20):
        digest = RunningDigest()
        read = JsonValues(io.BytesIO(data).read, array=True, digest=digest, block_bytes=size, max_value_bytes=1 << 20)
        for _ in read:
            pass
        marks.append([])
        for number in range(1, len(values) + 1):
            mark = digest.mark(number)
            marks[-1].append((mark.n_bytes, mark.digest))
            state = new_digest()
            state.update(data[: mark.n_bytes])
            assert state.hexdigest() == mark.digest
            assert data[mark.n_bytes - 1 : mark.n_bytes] in (b",", b"]")
    assert marks[0] == marks[1]


def test_a_value_that_is_too_long_is_let_go_of() -> None:
    long = b'{"a":"' + b"x" * 5000 + b'"}'
    found, fault, number = values_of(b'[{"b":1},' + long + b',{"b":2}]', 64, most=1000)
    assert (fault, number) == ("", 3)
    assert plain((found,))[0] == [(1, {"b": 1}), (2, OversizedLine(long[:HEAD_BYTES], len(long))), (3, {"b": 2})]


def test_numbers_are_as_in_lines(tmp_path: Path) -> None:
    texts = ["9223372036854775807", "18446744073709551615", "-1.5e300", "0.1", "true"]
    array, lines = tmp_path / "x.json", tmp_path / "x.jsonl"
    objects = [f'{{"a":{one}}}' for one in texts]
    array.write_text(f"[{','.join(objects)}]")
    lines.write_text("\n".join(objects))
    found = [[one for block in read_records(resolve(str(path))[0]) for one in block] for path in (array, lines)]
    assert found[0] == found[1]
    assert found[0][0] == (1, {"a": 2**63 - 1})


def test_one_bad_value_stays_alone(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(b'[{"a":1},{"a":\xff},{"a":"\xff"},{a:1},{"a":1} {"a":2},{"a":2}]')
    found = [one for block in read_records(resolve(str(path))[0]) for one in block]
    assert [number for number, _ in found] == [1, 2, 3, 4, 5, 6]
    assert [isinstance(one, Reject) for _, one in found] == [False, True, True, True, True, False]


def test_memory_does_not_grow_with_the_array(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of empty objects took thirty times its bytes."""
    monkeypatch.setattr(readers, "VALUES_BLOCK", 16 << 10)
    peaks: list[int] = []
    for size in (20_000, 60_000):
        path = tmp_path / f"{size}.json"
        path.write_bytes(b"[" + b"{}," * size + b"{}]")
        digest, count = RunningDigest(), 0
        tracemalloc.start()
        try:
            for block in read_records(resolve(str(path))[0], 0, digest):
                count += len(block)
                digest.hold(count)
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
        assert count == size + 1
    assert peaks[1] < peaks[0] + 500_000
    assert peaks[1] < 8_000_000


@pytest.mark.parametrize("name", ["x.json", "x_chunks.json"])
@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b'{"data":[{"text":"a"}],"version":1}', "holds an object around the array of records 'data'; write them"),
        (b'{\n "version": 1,\n "rows": [\n {"text":"a"}]}', "holds an object around the array of records 'rows'"),
        (b'"text"', "not JSON records: it begins with '\"text\"'"),
        (b"plain words", "not JSON records: it begins with 'plain words'"),
    ],
)
def test_a_json_without_records_is_one_reject(tmp_path: Path, name: str, data: bytes, reason: str) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    ((number, reject),) = [one for block in read_records(resolve(str(path))[0]) for one in block]
    assert number == 1
    assert isinstance(reject, Reject)
    assert reject.reason.startswith((f"{path} {reason}", f"{path}: {reason}"))


def test_lines_in_a_json_are_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbered as lines, and a bad one among them takes no other with it."""
    path = tmp_path / "x.json"
    path.write_bytes(b'\xef\xbb\xbf\n{"a":1}\n{"a":\n{"a":3,"spans":[{"b":1}]}\n')
    found = [one for block in read_records(resolve(str(path))[0]) for one in block]
    assert [(number, isinstance(one, Reject)) for number, one in found] == [(2, False), (3, True), (4, False)]
    monkeypatch.setattr(readers, "VALUES_BLOCK", 5)
    path.write_bytes(b"\n".join(orjson.dumps({"a": n}, option=orjson.OPT_INDENT_2) for n in range(3)))
    found = [one for block in read_records(resolve(str(path))[0]) for one in block]
    assert found == [(n + 1, {"a": n}) for n in range(3)]
