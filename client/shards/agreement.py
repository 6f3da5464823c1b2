"""What all shards of a directory must agree on: their number, the spec, the files of the source."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path, PurePosixPath

import msgspec

from ...protocol.errors import RunDirectoryError, SourceError, SpecMismatch
from ...protocol.object_storage.objects import ObjectFolder
from ...protocol.object_storage.spool import Spool
from ...protocol.run_directory.atomic_files import commit_new, make_folder, replace_bytes
from ...protocol.run_directory.layout import FITTING, RunLayout
from ...protocol.run_directory.records.shards import ShardsRecord, read_shards
from ...protocol.source.check import fingerprint, shards_difference
from ...protocol.source.corpus import survey
from ...protocol.spec.differences import differences
from ...protocol.spec.run_spec import RunSpec
from ...protocol.spec.shard import Shard
from ...protocol.text.number_spans import spans
from ..options.query_prompts import with_query_prompts


def agree(layout: RunLayout, spec: RunSpec, count: int, restarted: Collection[int] = ()) -> ShardsRecord:
    """The record of the directory's shards, written now by the first of them, or again as long as none of them has begun but
    those that are `restarted`: the first command may have had a wrong flag.

    Models may be added to shards that were run before, and the prompts of queries changed. SpecMismatch or SourceError, with
    the remedy, where other shards began with another number of them, another spec or other files; RunDirectoryError where the
    folder holds something else.
    """
    files = tuple(fingerprint(survey(spec.source, layout.root, spec.text_field).files))
    ours = ShardsRecord(shards=count, spec=spec, files=files)
    standing = read_shards(layout) or _write_first(layout, ours)
    if standing is None or standing == ours:
        return ours
    ours = msgspec.structs.replace(ours, spec=with_query_prompts(spec, standing.spec))
    try:
        _compare(layout, standing, ours)
    except (SpecMismatch, SourceError) as error:
        if begun := sorted(_begun(layout) - set(restarted)):
            raise type(error)(f"{error}. {_remedy(layout, begun, count)}") from error
    else:
        if not differences(spec, standing.spec) and ours.spec.query_prompts == standing.spec.query_prompts:
            return standing
    replace_bytes(layout.shards_record, msgspec.json.encode(ours))  # several shards may add a model at once
    return ours


def shard_spec(record: ShardsRecord, index: int) -> RunSpec:
    """The spec of one shard. It has no collection of its own: the merge makes one of all shards."""
    return msgspec.structs.replace(record.spec, shard=Shard(index, record.shards), index="none")


def check_folder(layout: RunLayout) -> None:
    """RunDirectoryError where the folder holds something else than shards, a run of the whole source for example."""
    if layout.shards_record.exists():
        return
    if layout.spec.exists():
        raise RunDirectoryError(
            f"--out {layout.root} holds a run of the whole source; give another folder for its shards"
        )
    if layout.root.is_dir() and any(_is_foreign(layout, path.name) for path in layout.root.iterdir()):
        raise RunDirectoryError(
            f"--out {layout.root} is not empty and holds no shards (it has no {layout.shards_record.name}); "
            "give a new or empty folder"
        )


def _write_first(layout: RunLayout, ours: ShardsRecord) -> ShardsRecord | None:
    """Write the record if there is none; else return the one that another shard has just written."""
    check_folder(layout)
    make_folder(layout.root)
    try:  # several shards may begin at once, on several hosts
        commit_new(layout.shards_record, msgspec.json.encode(ours))
    except FileExistsError:
        return read_shards(layout)
    return None


def _is_foreign(layout: RunLayout, name: str) -> bool:
    ours = {layout.shards_record.name, layout.shards.name, layout.fit.name, layout.lock.name}
    return name not in ours and not name.startswith((f".{layout.shards_record.name}.", FITTING))


def _compare(layout: RunLayout, standing: ShardsRecord, ours: ShardsRecord) -> None:
    if standing.shards != ours.shards:
        raise SpecMismatch(
            f"--out {layout.root} holds {standing.shards:,} shards and not {ours.shards:,}; give the same number"
        )
    difference = shards_difference(standing.files, ours.files)
    if difference is not None:
        raise SourceError(
            f"{ours.spec.source}: the source changed since the first of its shards began: {difference}; put it back as it was"
        )
    found = differences(ours.spec, standing.spec)
    if any(not (one.startswith("passes: ") and one.endswith(" is new")) for one in found):
        raise SpecMismatch(
            f"--out {layout.root} holds shards of another spec: {'; '.join(found)}. Give the same flags to all of them"
        )


def _begun(layout: RunLayout) -> set[int]:
    """The numbers of the shards that have a spec. A spool may have the files of one shard alone, so the store is asked."""
    spool = Spool.around(layout.root)
    if spool is None:
        found = [str(path.relative_to(layout.root)) for path in layout.shards.glob(f"*/{layout.spec.name}")]
    else:
        found = [one.name for one in ObjectFolder(spool.address).list(layout.shards.name)]
    paths = [PurePosixPath(one) for one in found]
    names = [one.parent.name for one in paths if one.match(f"{layout.shards.name}/*/{layout.spec.name}")]
    return {int(name) for name in names if name.isdecimal()}


def _remedy(layout: RunLayout, begun: Sequence[int], count: int) -> str:
    """How to begin anew with these flags and `count` shards. `begun` are the shards that stand in the way, in their order."""
    deletion = f"delete {layout.shards} and {layout.shards_record} yourself"
    if begun[-1] >= count:  # no command with these flags can run it again
        first = deletion
    elif len(begun) == 1:
        first = f"run shard {begun[0]}, which alone stands in the way, with --restart first"
    else:
        first = f"shards {spans(begun)} have begun; run all with --shards N --restart, or {deletion}"
    return f"To begin anew with these: {first}; or give another --out"


def shards_of(out: Path) -> int | None:
    """The number of shards of a directory; None if it has none."""
    record = read_shards(RunLayout(out))
    return record.shards if record is not None else None
