"""Check, before a run begins, that its directory in a store can be listed, written, read and cleaned up."""

from __future__ import annotations

import uuid

from ..errors import RunDirectoryError, UsageError
from .address import STORES, Address
from .failures import describe
from .objects import ObjectFolder
from .stores import PROBE_PATIENCE

_CONTENT = b"embedfleet looks whether it can write here\n"


def check_store(address: Address, what: str) -> None:
    """Raise RunDirectoryError if the scheme is none of a store that can hold a run directory, or no key is given."""
    if address.scheme not in STORES:
        raise RunDirectoryError(
            f"{what} {address}: can only be read; give a local folder, or an address of s3, gs or az"
        )
    if not address.key:
        raise RunDirectoryError(f"{what} {address}: is a whole bucket; give a key in it, as in {address}/NAME")


def is_object(address: Address, what: str) -> bool:
    """Whether there is an object at the address itself. RunDirectoryError, naming the flag or argument `what`, if that cannot
    be read."""
    try:
        return ObjectFolder(address, PROBE_PATIENCE).head() is not None
    except UsageError as error:
        raise RunDirectoryError(str(error)) from error
    except Exception as error:
        raise RunDirectoryError(f"{what} {address}: cannot be read: {describe(error, address)}") from error


def probe(address: Address) -> int:
    """Put an object, read and delete it. Return the server's time in ns, as it stamps objects.

    RunDirectoryError with the remedy if any of that is refused.
    """
    name = f".embedfleet.probe.{uuid.uuid4().hex[:8]}"
    try:
        folder = ObjectFolder(address, PROBE_PATIENCE)
        folder.put(name, _CONTENT)
        found = folder.get(name)
        folder.delete([name])
    except UsageError as error:
        raise RunDirectoryError(str(error)) from error
    except Exception as error:
        raise RunDirectoryError(f"--out {address}: {describe(error, address)}") from error
    if found is None or found[0] != _CONTENT:
        raise RunDirectoryError(
            f"--out {address}: what was put there cannot be read again; name a store with consistent reads"
        )
    return found[1].mtime_ns
