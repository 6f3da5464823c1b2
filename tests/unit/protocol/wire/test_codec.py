"""The codec: what goes out comes back, and nothing that comes in raises anything but ProtocolError."""

from __future__ import annotations

import types
import typing
from typing import Any, Literal, get_args, get_origin

import msgpack
import msgspec
import pytest
from embedfleet.protocol.errors import ProtocolError
from embedfleet.protocol.wire import control, export, hosts, work
from embedfleet.protocol.wire.codec import MAX_HEADER_BYTES, Decoder, check_version, encode
from hypothesis import given, settings
from hypothesis import strategies as st

LINKS = {
    "control, requests": control.ToCoordinator,
    "control, answers": control.ToClient,
    "hosts, from agents": hosts.ToCoordinator,
    "hosts, to agents": hosts.ToHost,
    "work, from workers": work.ToCoordinator,
    "work, to workers": work.ToWorker,
    "export, from the exporter": export.ToCoordinator,
    "export, to the exporter": export.ToExporter,
}
each_link = pytest.mark.parametrize("union", LINKS.values(), ids=LINKS.keys())

_PLAIN: dict[Any, st.SearchStrategy[Any]] = {
    int: st.integers(-(2**63), 2**63 - 1),
    float: st.floats(allow_nan=False),
    str: st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    bool: st.booleans(),
    Any: st.none() | st.booleans() | st.integers(0, 100) | st.lists(st.text("ab"), max_size=2),
    type(None): st.none(),
    msgspec.UnsetType: st.just(msgspec.UNSET),
}


def values(kind: Any) -> st.SearchStrategy[Any]:
    """Values of a type of the messages."""
    if kind in _PLAIN:
        return _PLAIN[kind]
    origin, args = get_origin(kind), get_args(kind)
    if origin is Literal:
        return st.sampled_from(args)
    if origin in (typing.Union, types.UnionType):
        return st.one_of([values(one) for one in args])
    if origin is dict:
        return st.dictionaries(values(args[0]), values(args[1]), max_size=3)
    if origin is tuple and args[-1] is Ellipsis:
        return st.lists(values(args[0]), max_size=3).map(tuple)
    if origin is tuple:
        return st.tuples(*(values(one) for one in args))
    hints = typing.get_type_hints(kind)
    return st.builds(kind, **{name: values(hints[name]) for name in kind.__struct_fields__})


EACH_TYPE = [
    pytest.param(union, kind, id=f"{name}: {kind.__name__}")
    for name, union in LINKS.items()
    for kind in get_args(union)
]


@pytest.mark.parametrize(("union", "kind"), EACH_TYPE)
@given(data=st.data())
@settings(max_examples=20)
def test_every_message_comes_back_equal(union: Any, kind: Any, data: st.DataObject) -> None:
    message = data.draw(values(kind))
    again: Any = Decoder(union).decode(encode(message))
    assert again == message
    assert type(again) is kind
    assert encode(again) == encode(message)


@each_link
@given(frame=st.binary(max_size=64))
@settings(max_examples=200, deadline=None)
def test_random_bytes_raise_only_protocol_errors(union: Any, frame: bytes) -> None:
    _decode_or_refuse(union, frame)


@each_link
@given(data=st.data())
@settings(max_examples=100, deadline=None)
def test_damaged_messages_raise_only_protocol_errors(union: Any, data: st.DataObject) -> None:
    frame = bytearray(encode(data.draw(values(union))))
    for _ in range(data.draw(st.integers(1, 3))):
        frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))
    _decode_or_refuse(union, bytes(frame[: data.draw(st.integers(0, len(frame)))]))


def _decode_or_refuse(union: Any, frame: bytes) -> None:
    decoder: Decoder[Any] = Decoder(union)
    try:
        message = decoder.decode(frame)
    except ProtocolError:
        return
    assert isinstance(message, get_args(union))


@pytest.mark.parametrize(
    "frame",
    [b"", b"\xc1", b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff", b"\x91" * 100_000],
    ids=["empty", "no type", "four billion elements", "four billion keys", "four billion bytes", "deeply nested"],
)
def test_hostile_headers_are_refused(frame: bytes) -> None:
    for union in LINKS.values():
        with pytest.raises(ProtocolError):
            Decoder(union).decode(frame)


def test_a_list_inside_a_message_cannot_claim_four_billion_elements() -> None:
    frame = msgpack.packb(["failed_rows", 0, 0, 1]) + b"\xdd\xff\xff\xff\xff"
    with pytest.raises(ProtocolError):
        Decoder(export.ToExporter).decode(b"\x96" + frame[1:])


def test_nesting_where_anything_goes_is_bounded() -> None:
    frame = b"\x94" + b"".join(map(msgpack.packb, ["record", "x", 1.0])) + b"\x81\xa1a" + b"\x91" * 100_000
    with pytest.raises(ProtocolError):
        Decoder(export.ToExporter).decode(frame)


def test_a_long_header_is_refused_before_it_is_read() -> None:
    with pytest.raises(ProtocolError, match=f"at most {MAX_HEADER_BYTES}"):
        Decoder(work.ToCoordinator).decode(bytes(MAX_HEADER_BYTES + 1))


def test_a_memoryview_is_read_as_bytes_are() -> None:
    frame = encode(hosts.HostAlive("here"))
    decoder: Decoder[Any] = Decoder(hosts.ToCoordinator)
    assert decoder.decode(memoryview(frame)) == hosts.HostAlive("here")


def test_a_message_of_another_link_is_refused() -> None:
    with pytest.raises(ProtocolError, match="not of this link's types"):
        Decoder(work.ToWorker).decode(encode(hosts.HostAlive("here")))


def test_control_messages_are_maps_that_any_library_reads() -> None:
    hello = control.ClientHello(1, 1, "0.1.0")
    assert msgpack.unpackb(encode(hello)) == {"type": "hello", "request": 1, "protocol": 1, "build": "0.1.0"}
    asked = msgpack.packb({"type": "get_status", "request": 7})
    assert Decoder(control.ToCoordinator).decode(asked) == control.GetStatus(7)


def test_a_field_that_is_new_to_us_is_ignored_in_a_map() -> None:
    asked = msgpack.packb({"type": "get_status", "request": 7, "colour": "blue"})
    assert Decoder(control.ToCoordinator).decode(asked) == control.GetStatus(7)


def test_an_integer_beyond_64_bits_is_not_encoded() -> None:
    with pytest.raises(OverflowError):
        encode(control.GetStatus(2**64))


def test_versions_must_be_equal() -> None:
    check_version("worker w0", 1, "0.1.0", 1, "0.2.0")
    with pytest.raises(ProtocolError, match=r"worker w0 speaks protocol 2 \(embedfleet 0\.9\); this side speaks 1"):
        check_version("worker w0", 2, "0.9", 1, "0.1.0")


def test_tags_are_unique_on_each_link() -> None:
    for union in LINKS.values():
        tags = [msgspec.inspect.type_info(one).tag for one in get_args(union)]  # type: ignore[attr-defined]
        assert len(set(tags)) == len(tags)
