"""The wire format is what it was: recorded messages are decoded, and encoded to the same bytes."""

from __future__ import annotations

from typing import Any

import pytest
from embedfleet.protocol.wire.codec import Decoder, encode

from ....fuzz.messages import LINKS
from ....witness.messages import EACH, recorded


@pytest.mark.parametrize("link", LINKS)
def test_recorded_messages_are_encoded_to_the_same_bytes(link: str) -> None:
    decoder, seen = Decoder[Any](LINKS[link]), set[str]()
    messages = [message for of, message in recorded() if of == link]
    for message in messages:
        decoded = decoder.decode(message)
        seen.add(type(decoded).__name__)
        assert encode(decoded) == message, type(decoded).__name__
    assert len(messages) == EACH * len(seen) > 0
