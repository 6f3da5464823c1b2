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


@pytest.mark.parametrize("link", LINKS)
def test_recorded_messages_are_encoded_to_the_same_bytes(link: str) -> None:
    decoder, seen = Decoder[Any](LINKS[link]), set[str]()
    messages = [message for of, message in recorded() if of == link]
    for message in messages:
        decoded = decoder.decode(message)
        seen.add(type(decoded).__name__)
        name = type(decoded).__name__
        if name in LATER:
            again, before = msgspec.msgpack.decode(encode(decoded)), msgspec.msgpack.decode(message)
            assert again == [*before, *LATER[name]], name
        else:
            assert encode(decoded) == message, name
    assert len(messages) == EACH * len(seen) > 0
