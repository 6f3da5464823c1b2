"""The intake over any records: what an oracle of twenty lines says of them, whole or resumed at every cut point."""

from __future__ import annotations

import gzip
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pyarrow.parquet as pq
import pytest
from embedfleet.coordinator.intake.loader import ChunkLoader, IntakeCounts, SegmentLimits, SpooledSegment
from embedfleet.protocol.errors import SourceError
from embedfleet.protocol.run_directory.layout import RunLayout
from embedfleet.protocol.run_directory.segment_info import ChunkSegmentInfo
from embedfleet.protocol.run_directory.tables import read_info
from embedfleet.protocol.spec.run_spec import PREPROCESSING, PassSpec, RunSpec
from embedfleet.protocol.text.preprocessing import preprocess
from hypothesis import given, settings
from hypothesis import strategies as st

PASSES = (PassSpec(vector="dense-fake-8", kind="dense", model="fake:8"),)
IDS = st.sampled_from(["a", "b", "c", "d", "e", "../f", "\u00fc", "0"])
TEXTS = st.sampled_from(["one", "two", "one \0", "  ", "", "caf\u0065\u0301", "x" * 50, "[CLS]"]) | st.text(max_size=8)
BAD = st.sampled_from(
    [
        b"{",
        b"\xff",
        b"[]",
        b"null",
        b'{"id":"a"}',
        b'{"id":[],"text":"t"}',
        b"\0",
        b'{"id":"z","text":NaN}',
        b'{"text":1}',
    ]
)
BLANK = st.sampled_from([b"", b"  ", b"\t\r"])


@dataclass(frozen=True)
class Good:
    """A record with a text, and an id or none."""

    id: str | None
    text: str

    @property
    def line(self) -> bytes:
        return orjson.dumps({"text": self.text} | ({} if self.id is None else {"id": self.id}))


@dataclass
class Expected:
    """What has to stand after the intake."""

    rows: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    rejected: list[tuple[str, int]] = field(default_factory=list[tuple[str, int]])
    duplicates: int = 0
    read: int = 0


def writable(text: str) -> bool:
    try:
        return bool(text.encode())
    except UnicodeEncodeError:
        return False


TEXT = TEXTS.filter(lambda text: not text or writable(text))
RECORD = st.builds(Good, st.none() | IDS, TEXT) | BAD | BLANK
CORPUS = st.lists(st.lists(RECORD, max_size=14), min_size=1, max_size=3)


def expected_of(corpus: Sequence[Sequence[Good | bytes]], names: Sequence[str]) -> Expected:
    """One record after the other, with a dict for the ids."""
    found, texts = Expected(), dict[str, str]()
    for name, records in zip(names, corpus, strict=True):
        for number, record in enumerate(records, 1):
            if isinstance(record, bytes):
                if record.strip():
                    found.read += 1
                    found.rejected.append((name, number))
                continue
            found.read += 1
            id_ = f"{name}#{number}" if record.id is None else record.id
            text = preprocess(record.text)
            if not text or texts.get(id_, text) != text:
                found.rejected.append((name, number))
            elif id_ in texts:
                found.duplicates += 1
            else:
                texts[id_] = text
                found.rows.append((id_, text))
    return found


def write(corpus: Sequence[Sequence[Good | bytes]], folder: Path) -> list[str]:
    """A file each, every other one packed."""
    names: list[str] = []
    folder.mkdir()
    for number, records in enumerate(corpus):
        data = b"\n".join(one if isinstance(one, bytes) else one.line for one in records) + b"\n"
        names.append(f"{number}.jsonl{'.gz' if number % 2 else ''}")
        (folder / names[-1]).write_bytes(gzip.compress(data, 1) if number % 2 else data)
    return names


class Intake:
    """One run directory; `load` may be broken off after so many segments."""

    def __init__(self, source: Path, root: Path, rows: int) -> None:
        self.layout, self._rows = RunLayout(root), rows
        self._spec = RunSpec(source=str(source), passes=PASSES, preprocessing=PREPROCESSING)

    def load(self, break_after: int | None = None) -> IntakeCounts | None:
        def on_segment(segment: SpooledSegment) -> None:
            if segment.segment == break_after:
                raise KeyboardInterrupt

        limits = SegmentLimits(self._rows, 40)
        try:
            return ChunkLoader(self._spec, self.layout, limits, on_segment, lambda: False).load()
        except KeyboardInterrupt:
            return None

    def files(self) -> dict[str, bytes]:
        folders = (self.layout.chunks, self.layout.intake_folder)
        return {path.name: path.read_bytes() for folder in folders for path in sorted(folder.iterdir())}

    def rows(self) -> list[dict[str, Any]]:
        paths = sorted(self.layout.chunks.glob("*.parquet"))
        return [row for path in paths for row in pq.read_table(path).to_pylist()]

    def rejected(self) -> list[tuple[str, int]]:
        paths = sorted(self.layout.intake_folder.glob("*.rejected.jsonl"))
        lines = [orjson.loads(line) for path in paths for line in path.read_bytes().splitlines()]
        return [(one["file"], one["record"]) for one in lines]


@given(CORPUS, st.integers(1, 6))
@settings(max_examples=60)
def test_every_record_is_a_row_a_reject_or_a_duplicate_and_a_cut_anywhere_changes_nothing(
    corpus: list[list[Good | bytes]], rows: int
) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        names = write(corpus, Path(scratch) / "corpus")
        expected = expected_of(corpus, names)
        if not expected.read:
            return
        whole = Intake(Path(scratch) / "corpus", Path(scratch) / "whole", rows)
        if (
            not expected.rows
        ):  # it looked for the wrong fields, most often: that is an error, and what was refused is on file
            with pytest.raises(SourceError, match="not one record in it can be used"):
                whole.load()
            assert whole.rejected() == expected.rejected
            return
        counts = whole.load()
        assert counts is not None
        assert [(row["id"], row["text"]) for row in whole.rows()] == expected.rows
        assert [row["row"] for row in whole.rows()] == list(range(len(expected.rows)))
        assert whole.rejected() == expected.rejected
        assert (counts.rows, counts.rejected, counts.duplicates) == (
            len(expected.rows),
            len(expected.rejected),
            expected.duplicates,
        )
        assert counts.rows + counts.rejected + counts.duplicates == expected.read
        infos = [read_info(whole.layout.chunk_segment(number), ChunkSegmentInfo) for number in range(counts.segments)]
        assert all(0 < info.rows <= rows for info in infos)
        for cut in range(counts.segments):
            resumed = Intake(Path(scratch) / "corpus", Path(scratch) / f"cut{cut}", rows)
            assert resumed.load(break_after=cut) is None
            assert resumed.load() == counts
            assert resumed.files() == whole.files()


@given(CORPUS.filter(lambda corpus: any(isinstance(one, Good) and one.text.strip() for part in corpus for one in part)))
@settings(max_examples=15)
def test_an_intake_that_is_cut_again_and_again_still_gets_there(corpus: list[list[Good | bytes]]) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        write(corpus, Path(scratch) / "corpus")
        whole = Intake(Path(scratch) / "corpus", Path(scratch) / "whole", 2)
        counts = whole.load()
        assert counts is not None
        resumed = Intake(Path(scratch) / "corpus", Path(scratch) / "cut", 2)
        for cut in range(counts.segments):
            assert resumed.load(break_after=cut) is None
        assert resumed.load() == counts
        assert resumed.files() == whole.files()
