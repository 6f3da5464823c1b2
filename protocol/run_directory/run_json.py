"""Read the spec of a run directory, and say where its quarantine is."""

from __future__ import annotations

from ..errors import RunDirectoryError
from ..spec.local_paths import check_local
from ..spec.run_spec import RunSpec
from .json_bytes import decode_json
from .layout import RunLayout
from .own_files import find_wrong_kind, wrong_kind_error
from .records.shards import read_shards


def read_spec(layout: RunLayout) -> RunSpec:
    """The spec of the run at `layout.root`. RunDirectoryError if there is no run, or a file of it is of the wrong kind."""
    try:
        if layout.spec.exists() and not layout.spec.is_file():
            raise wrong_kind_error(layout.spec)
        raw = layout.spec.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        check_local(layout.root, "DIR", RunDirectoryError)
        if (shards := read_shards(layout)) is not None:
            raise RunDirectoryError(
                f"{layout.root}: made of {shards.shards:,} shards that are not merged; `embedfleet info {layout.root}` shows "
                f"which are done, and `embedfleet merge {layout.root}` merges them"
            ) from None
        if layout.fit.is_file():
            raise RunDirectoryError(no_shards_yet(layout)) from None
        raise RunDirectoryError(
            f"{layout.root}: not a run directory (it has no spec.json); give the folder that `embedfleet run` wrote to"
        ) from None
    except OSError as error:
        raise RunDirectoryError(f"{layout.spec}: cannot be read ({error.strerror}); check the permissions") from error
    try:
        spec = decode_json(raw, RunSpec)
    except ValueError as error:  # msgspec raises a plain one where the bytes are no UTF-8
        raise RunDirectoryError(
            f"{layout.spec}: not a spec that this version reads ({error}); update embedfleet or restore the file"
        ) from error
    if (odd := find_wrong_kind(layout, [one.vector for one in spec.outputs], links=False)) is not None:
        raise wrong_kind_error(odd)
    return spec


def no_shards_yet(layout: RunLayout) -> str:
    """The reason why a directory with the figures of a fit, and without shards, cannot be read, and the next command."""
    return (
        f"{layout.root}: has the figures of `embedfleet fit`, and no shard has begun; run them next: `embedfleet run SOURCE "
        f"--out {layout.root} --shard I/N`, with the flags of the fit"
    )


def reasons_in(layout: RunLayout) -> str:
    """Where to find the reasons for quarantine, for a message."""
    if layout.quarantine.exists():
        return f"each with its reason in {layout.quarantine}"
    return f"their reasons were in {layout.quarantine}, which is gone; run the same command again to write it"
