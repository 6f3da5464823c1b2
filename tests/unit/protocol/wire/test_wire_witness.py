"""The wire format is what it was: recorded messages are decoded, and encoded to the same bytes."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from embedfleet.protocol.wire.codec import Decoder, encode

from ....fuzz.messages import LINKS
from ....witness.messages import EACH, recorded

LATER: dict[str, list[Any]] = {"Ready": [[], False]}
"""The defaults of the fields that a message got since: they come last."""
INNER: dict[str, tuple[int, list[Any]]] = {"Result": (5, [0.0]), "Alive": (4, [None])}
"""Likewise of the struct in a field of the message, by the place of that field."""
DROPPED = {"Released": 1, "RunEnded": "traceparent"}
"""Fields that a message had: how many at its end, or its name."""


@pytest.mark.parametrize("link", LINKS)
def test_recorded_messages_are_encoded_to_the_same_bytes(link: str) -> None:
    decoder, seen = Decoder[Any](LINKS[link]), set[str]()
    messages = [message for of, message in recorded() if of == link]
    for message in messages:
        decoded = decoder.decode(message)
        seen.add(type(decoded).__name__)
        name = type(decoded).__name__
        again, before = msgspec.msgpack.decode(encode(decoded)), msgspec.msgpack.decode(message)
        if name in LATER:
            assert again == [*before, *LATER[name]], name
        elif name in INNER:
            at, added = INNER[name]
            if before[at] is not None:
                before[at] = [*before[at], *added]
            assert again == before, name
        elif isinstance(dropped := DROPPED.get(name), int):
            assert again == before[:-dropped], name
        elif dropped is not None:
            assert again == {key: value for key, value in before.items() if key != dropped}, name
        else:
            assert encode(decoded) == message, name
    assert len(messages) == EACH * len(seen) > 0
