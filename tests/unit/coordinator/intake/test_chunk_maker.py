"""Records made into chunks, block by block: what becomes of each, and what is kept of the first that becomes none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from embedfleet.coordinator.intake.chunk_maker import RIPE_ROWS, ChunkMaker, PendingChunks
from embedfleet.coordinator.intake.limits import MAX_NESTING, TOO_DEEP
from embedfleet.coordinator.reading.records import Noted, Reject
from embedfleet.protocol.source.intake_notes import BYTES_AS_BASE64
from embedfleet.protocol.source.source_file import SourceFile
from embedfleet.protocol.spec.run_spec import PassSpec, RunSpec
from embedfleet.protocol.text.preprocessing import LATEST

SPEC = RunSpec(source="/s", preprocessing=LATEST, passes=(PassSpec(vector="dense-a", kind="dense", model="fake:8"),))
FILE = SourceFile(Path("/s/c.jsonl"), "c.jsonl", "jsonl")


def made(*block: tuple[int, Any], file: SourceFile = FILE) -> tuple[PendingChunks, ChunkMaker]:
    maker, pending = ChunkMaker(SPEC), PendingChunks()
    maker.take(file, list(block), pending)
    return pending, maker


def test_a_record_is_a_chunk_with_its_id_or_a_made_up_one() -> None:
    pending, maker = made((3, {"id": "a", "text": "one", "n": 1}), (5, {"text": "ünö"}))
    batch = pending.batch
    assert (batch.numbers, batch.ids, batch.texts) == ([3, 5], ["a", "c.jsonl#5"], ["one", "ünö"])
    assert (batch.metadata, batch.n_bytes) == (['{"n":1}', None], [3, 5])
    assert (len(pending.digests), pending.held, pending.last) == (2, 3 + 7 + 5, 5)
    assert maker.refused is None


def test_what_its_reader_made_of_a_record_counts_too() -> None:
    refused = Reject("not JSON")
    pending, maker = made((1, refused), (2, Noted(None, ("skipped",))), (3, Noted({"text": "one"}, ("mended",))))
    assert pending.rejects == [(1, refused)]
    assert pending.notes == [(2, "skipped"), (3, "mended")]
    assert pending.batch.numbers == [3]
    assert maker.refused == (refused, ())


def test_the_first_record_without_a_text_is_kept_with_its_fields() -> None:
    deep: Any = {"text": "one", "deep": (nested := [])}
    for _ in range(MAX_NESTING + 1):
        nested.append(nested := [])
    pending, maker = made(
        (1, Reject("not JSON")), (2, {"body": "one", "doc": {"n": 1}}), (3, {"body": "two"}), (4, deep)
    )
    assert [(number, one.reason[:7]) for number, one in pending.rejects] == [
        (1, "not JSO"), (2, "no text"), (3, "no text"), (4, TOO_DEEP[:7]),
    ]  # fmt: skip
    assert maker.refused is not None
    assert maker.refused[1] == ("body", "doc.n")


def test_a_note_on_metadata_is_its_own_records() -> None:
    first, refused, last = {"text": "one", "raw": b"\xff"}, {"text": " ", "raw": b"\xff"}, {"text": "two", "n": 1}
    pending, _ = made((1, first), (2, refused), (3, last))
    assert pending.notes == [(1, BYTES_AS_BASE64)]
    assert pending.batch.numbers == [1, 3]


def test_the_folder_of_a_file_is_its_chunks_collection() -> None:
    pending, _ = made((1, {"text": "one"}), file=SourceFile(FILE.path, "c", "json", collection="books"))
    assert pending.batch.metadata == ['{"collection":"books"}']


@pytest.mark.parametrize("rows", [RIPE_ROWS - 1, RIPE_ROWS])
def test_ids_are_checked_once_there_are_enough(rows: int) -> None:
    pending, _ = made(*((number, {"text": "one"}) for number in range(rows)))
    assert pending.ripe is (rows == RIPE_ROWS)
