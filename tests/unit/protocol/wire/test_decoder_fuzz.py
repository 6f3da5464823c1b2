"""The short form of `make fuzz`, that the fuzzer sees what it looks for, and what a small hostile message may cost."""

from __future__ import annotations

import struct
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path
from typing import Any

import msgpack
import msgspec
import pytest
from embedfleet.protocol.errors import ProtocolError
from embedfleet.protocol.wire import arrays, codec
from embedfleet.protocol.wire.arrays import ArrayHeader
from embedfleet.protocol.wire.codec import MAX_ERROR, MAX_HEADER_BYTES, Decoder

from ....fuzz import decoder_fuzz
from ....fuzz.messages import LINKS

SCRIPT = Path(decoder_fuzz.__file__)
LENGTHS = (1 << 16, 1 << 24, 1 << 31, (1 << 32) - 1)
SMALL = 64 << 10
"""Bytes that refusing a message of twenty may take."""


def test_a_hundred_thousand_inputs_raise_only_protocol_errors(request: pytest.FixtureRequest) -> None:
    seed = request.config.getoption("--seed")
    figures = decoder_fuzz.campaign(100_000, 1 if seed is None else seed)
    assert figures.findings == []
    assert figures.inputs == figures.accepted + figures.refused == 100_000
    assert set(figures.by_link) == set(LINKS)
    assert figures.accepted > 2_000, "most inputs are refused, but some have to get through to the arrays"
    assert 0 < figures.array_refusals < figures.array_checks


def test_the_script_prints_its_figures() -> None:
    done = subprocess.run([sys.executable, SCRIPT, "--inputs", "2000", "--seed", "5"], capture_output=True, check=True)
    assert b'"inputs": 2000' in done.stdout


@pytest.mark.parametrize("error", [RecursionError, msgspec.ValidationError])
def test_it_would_find_a_decoder_that_lets_errors_through(
    monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    class Leaky:
        def __init__(self, union: Any) -> None:
            self._inner: Decoder[Any] = Decoder(union)

        def decode(self, frame: Any) -> Any:
            try:
                return self._inner.decode(frame)
            except ProtocolError as refused:
                if isinstance(refused.__cause__, error):
                    raise refused.__cause__ from None
                raise

    monkeypatch.setattr(decoder_fuzz, "Decoder", Leaky)
    assert any(error.__name__ in one for one in decoder_fuzz.campaign(20_000, 1).findings)


@pytest.mark.parametrize("rule", ["MAX_ITEMS", "DTYPES"])
def test_it_would_find_a_missing_check_of_arrays(monkeypatch: pytest.MonkeyPatch, rule: str) -> None:
    wide = {"MAX_ITEMS": 1 << 200, "DTYPES": arrays.DTYPES | {"|O", "<f4" * 50}}
    monkeypatch.setattr(arrays, rule, wide[rule])
    assert any(one.startswith("arrays: ") for one in decoder_fuzz.campaign(20_000, 1).findings)


def test_it_would_find_an_error_that_repeats_what_the_peer_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec, "MAX_ERROR", 1 << 30)
    assert any("a message of" in one for one in decoder_fuzz.campaign(20_000, 1).findings)


@pytest.mark.parametrize(
    "kind", [b"\xdd", b"\xdf", b"\xdb", b"\xc6", b"\xc9"], ids=["array", "map", "str", "bin", "ext"]
)
@pytest.mark.parametrize("where", range(4))
def test_a_few_bytes_cannot_make_the_decoder_allocate_much(kind: bytes, where: int) -> None:
    """At the top, as a field, in a list of numbers, and where anything may stand."""
    begun = (
        b"",
        b"\x92" + msgpack.packb("source_read"),
        b"\x96" + b"".join(map(msgpack.packb, ["failed_rows", 0, 0, 1])),
        b"\x94" + b"".join(map(msgpack.packb, ["record", "x", 1.0])) + b"\x81\xa1a",
    )[where]
    decoders: list[Decoder[Any]] = [Decoder(union) for union in LINKS.values()]
    for length in LENGTHS:
        frame = begun + kind + struct.pack(">I", length)
        assert len(frame) <= 40
        for decoder in decoders:
            tracemalloc.start()
            try:
                with pytest.raises(ProtocolError):
                    decoder.decode(frame)
                assert tracemalloc.get_traced_memory()[1] < SMALL
            finally:
                tracemalloc.stop()


def test_the_largest_header_takes_bounded_memory() -> None:
    """4 MiB of empty maps where anything may stand: what a Python object takes for each byte, and no more."""
    begun = b"\x94" + b"".join(map(msgpack.packb, ["record", "x", 1.0])) + b"\x81\xa1a\xdd"
    count = MAX_HEADER_BYTES - len(begun) - 4
    frame = begun + struct.pack(">I", count) + b"\x80" * count
    decoder: Decoder[Any] = Decoder(LINKS["export, to the exporter"])
    tracemalloc.start()
    try:
        decoder.decode(frame)
        assert tracemalloc.get_traced_memory()[1] < 100 * MAX_HEADER_BYTES
    finally:
        tracemalloc.stop()


def test_an_error_does_not_repeat_megabytes() -> None:
    decoder: Decoder[Any] = Decoder(LINKS["work, to workers"])
    with pytest.raises(ProtocolError) as caught:
        decoder.decode(msgpack.packb(["x" * 1_000_000]))
    assert len(str(caught.value)) < MAX_ERROR + 100
    with pytest.raises(ProtocolError) as caught:
        arrays.check([ArrayHeader("n" * 1_000_000, "d" * 1_000_000, (1,) * 100_000)], [b""])
    assert len(str(caught.value)) < 1_000


def test_a_shape_of_very_many_dimensions_is_refused_at_once() -> None:
    header = ArrayHeader("x", "<f4", (2**63 - 1,) * 400_000)
    start = time.monotonic()
    with pytest.raises(ProtocolError, match="400000 dimensions"):
        arrays.check([header], [b""])
    assert time.monotonic() - start < 0.5  # multiplied out, it takes minutes


@pytest.mark.parametrize("shape", [(0, 2**31 - 1, 2**31 - 1, 2**31 - 1), (2**31 - 1, 0, 2**31 - 1, 2**31 - 1)])
def test_an_empty_array_of_a_shape_that_numpy_refuses(shape: tuple[int, ...]) -> None:
    with pytest.raises(ProtocolError, match="not allowed"):
        arrays.unpack([ArrayHeader("x", "<f4", shape)], [b""])
