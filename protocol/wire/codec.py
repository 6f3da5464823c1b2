"""Messages to bytes and back: MessagePack, decoded straight into the types of one link.

The decoder refuses a value of the wrong type at once, so a hostile header cannot make it build nested containers. The
header's size is checked before: MAXMSGSIZE limits each frame and must let arrays through. Nothing here decodes pickles.
"""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import msgspec

from ..errors import ProtocolError

MAX_HEADER_BYTES = 4 << 20
"""The longest header has a reason for each row of a batch in quarantine."""
MAX_ERROR = 300
"""Characters of a decoder's message that an error repeats."""

_encoder = msgspec.msgpack.Encoder()
T = TypeVar("T")


def encode(message: msgspec.Struct) -> bytes:
    """One message as MessagePack."""
    return _encoder.encode(message)


class Decoder(Generic[T]):
    """Decodes the messages of one link; `union` is the union of its message types."""

    def __init__(self, union: Any) -> None:
        self._decoder = msgspec.msgpack.Decoder(union)

    def decode(self, frame: bytes | memoryview) -> T:
        """The message in `frame`; raises ProtocolError for anything else."""
        if len(frame) > MAX_HEADER_BYTES:
            raise ProtocolError(f"a message header of {len(frame)} bytes; at most {MAX_HEADER_BYTES} are allowed")
        try:
            return self._decoder.decode(frame)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            # The decoder's message repeats what the peer sent: an unknown tag may have megabytes.
            raise ProtocolError(f"a message that is not of this link's types: {str(error)[:MAX_ERROR]}") from error


def check_version(peer: str, protocol: int, build: str, ours: int, our_build: str) -> None:
    """Refuse a peer of another protocol version, naming both builds."""
    if protocol != ours:
        raise ProtocolError(
            f"{peer} speaks protocol {protocol} (embedfleet {build}); this side speaks {ours} (embedfleet {our_build}). "
            "Install the same version on both."
        )
