"""Merge the shards of a directory here, or in object storage."""

from __future__ import annotations

from pathlib import Path

from ...protocol.errors import RunDirectoryError
from ...protocol.object_storage.address import is_address, parse_address, stands_for
from ..arguments import expand_path
from ..output.messages import messages
from .merge import execute
from .remote_out import remote_out


def merge_anywhere(folder: Path, on_duplicate: str, *, as_json: bool) -> int:
    """Merge, and return the exit code. Shards in object storage are fetched into a spool, and the merged files put there."""
    if not is_address(folder):
        return execute(expand_path(folder, "DIR"), on_duplicate, as_json=as_json)
    address = parse_address(folder, "DIR", RunDirectoryError)
    with remote_out(address, None, keep=False, say=messages().say) as root:
        stands_for(root, address)
        return execute(root, on_duplicate, as_json=as_json)
