"""Arrays as frames: they come back equal, and a frame that is not exactly what its header says is refused."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from embedfleet.protocol.errors import ProtocolError
from embedfleet.protocol.wire.arrays import DTYPES, ArrayHeader, check, pack, unpack
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

arrays = st.sampled_from(sorted(DTYPES)).flatmap(
    lambda dtype: hnp.arrays(np.dtype(dtype), hnp.array_shapes(max_dims=3, min_side=0, max_side=5))
)


@given(st.dictionaries(st.sampled_from(["vector", "positions", "n_tokens"]), arrays, max_size=3))
@settings(deadline=None)
def test_arrays_come_back_equal(given_arrays: dict[str, npt.NDArray[np.generic]]) -> None:
    headers, frames = pack(given_arrays)
    found = unpack(headers, [bytes(frame) for frame in frames])
    assert list(found) == list(given_arrays)
    for name, array in given_arrays.items():
        assert found[name].dtype == array.dtype
        assert found[name].shape == array.shape
        assert found[name].tobytes() == array.tobytes()


def test_contiguous_arrays_are_not_copied() -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    _, frames = pack({"vector": array})
    array[0, 0] = 7
    assert np.frombuffer(frames[0], np.float32)[0] == 7


def test_a_strided_array_is_sent_as_it_reads() -> None:
    array = np.arange(12, dtype=np.int32).reshape(3, 4)[:, ::2]
    headers, frames = pack({"a": array})
    assert unpack(headers, frames)["a"].tolist() == [[0, 2], [4, 6], [8, 10]]


def test_what_comes_from_bytes_is_read_only() -> None:
    headers, frames = pack({"a": np.zeros(2, np.float32)})
    assert not unpack(headers, [bytes(frames[0])])["a"].flags.writeable


def test_the_header_knows_the_bytes() -> None:
    assert ArrayHeader("a", "<f2", (3, 4)).n_bytes == 24
    assert ArrayHeader("a", "<i8", ()).n_bytes == 8


@pytest.mark.parametrize("size", [0, 7, 9, 16])
def test_a_frame_of_another_length_is_refused(size: int) -> None:
    with pytest.raises(ProtocolError, match=f"has {size} bytes; 8 were announced"):
        unpack([ArrayHeader("a", "<f4", (2,))], [bytes(size)])


@pytest.mark.parametrize("dtype", ["|O", ">f4", "<f8", "<U4", "<M8[s]", "V8", "", "not a dtype"])
def test_other_dtypes_are_refused(dtype: str) -> None:
    with pytest.raises(ProtocolError, match="is not allowed"):
        check([ArrayHeader("a", dtype, (1,))], [bytes(8)])


@pytest.mark.parametrize("shape", [(-1,), (-2, -2), (2, -1)])
def test_negative_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ProtocolError, match="is not allowed"):
        check([ArrayHeader("a", "<f4", shape)], [bytes(16)])


def test_a_shape_of_many_bytes_is_refused_without_making_them() -> None:
    with pytest.raises(ProtocolError, match="were announced"):
        unpack([ArrayHeader("a", "<f4", (2**40, 2**40))], [bytes(4)])


@pytest.mark.parametrize("frames", [[], [b"", b""]])
def test_each_header_needs_its_frame(frames: list[bytes]) -> None:
    with pytest.raises(ProtocolError, match=f"1 arrays announced, {len(frames)} frames came"):
        check([ArrayHeader("a", "<f4", (0,))], frames)


@pytest.mark.parametrize("shape", [(0, 2**62, 2**62), (0, 2**70), (1,) * 70], ids=["product", "size", "dimensions"])
def test_shapes_that_numpy_cannot_have_are_refused(shape: tuple[int, ...]) -> None:
    header = ArrayHeader("a", "|u1", shape)
    with pytest.raises(ProtocolError):
        unpack([header], [bytes(header.n_bytes)])


lengths = st.integers(-2, 2**62).filter(bool)


@given(st.lists(lengths, max_size=40), st.sampled_from([*sorted(DTYPES), "|O"]), st.binary(max_size=16))
@settings(deadline=None)
def test_hostile_headers_raise_only_protocol_errors(shape: list[int], dtype: str, frame: bytes) -> None:
    header = ArrayHeader("a", dtype, tuple(shape))
    try:
        found = unpack([header], [frame])
    except ProtocolError:
        return
    assert found["a"].nbytes == len(frame)
