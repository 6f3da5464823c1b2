"""The terms of a corpus as BM25 has them, counted over every chunk: against counts by hand."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from embedfleet.coordinator.runs.bm25_count import Outcome, TermCounter, count_terms
from embedfleet.protocol.errors import DamagedChunks, RunDirectoryError
from embedfleet.protocol.run_directory.layout import RunLayout

qdrant_edge = pytest.importorskip("qdrant_edge")


def write_segment(layout: RunLayout, segment: int, texts: Sequence[str]) -> None:
    layout.chunks.mkdir(parents=True, exist_ok=True)
    partial = layout.chunks / ".partial"
    pq.write_table(pa.table({"text": pa.array(texts, pa.string())}), partial, write_page_checksum=True)
    partial.rename(layout.chunk_segment(segment))


def finish(layout: RunLayout, segments: int) -> None:
    layout.intake_folder.mkdir(parents=True, exist_ok=True)
    counts = {"segments": segments, "rows": 0, "rejected": 0, "duplicates": 0, "complete": True}
    layout.intake.write_text(json.dumps(counts))


def with_segments(root: Path, *segments: Sequence[str]) -> RunLayout:
    layout = RunLayout(root)
    for segment, texts in enumerate(segments):
        write_segment(layout, segment, texts)
    finish(layout, len(segments))
    return layout


def nothing() -> None:
    pass


def test_the_terms_of_all_chunks_are_counted(tmp_path: Path) -> None:
    layout = with_segments(tmp_path, ["fox dog", "fox fox fox lease"], ["batch"])
    assert count_terms(layout, nothing) == Outcome(chunks=3, terms=2 + 4 + 1)


def test_stop_words_do_not_count_and_repetitions_do(tmp_path: Path) -> None:
    assert count_terms(with_segments(tmp_path, ["the fox and the fox"]), nothing) == Outcome(chunks=1, terms=2)
    assert count_terms(with_segments(tmp_path / "stop", ["the and of", ""]), nothing) == Outcome(chunks=2, terms=0)
    assert count_terms(with_segments(tmp_path / "empty"), nothing) == Outcome()


def test_titles_and_bodies_in_turn_and_a_heavy_tail(tmp_path: Path) -> None:
    """What a sample at a fixed stride sees half of, or not at all."""
    words = [f"w{n}q" for n in range(500)]
    turns = [" ".join(words[: 200 if row % 2 else 3]) for row in range(1280)]
    found = count_terms(with_segments(tmp_path / "turns", turns[:1000], turns[1000:]), nothing)
    assert found.terms / found.chunks == 101.5
    tail = [" ".join(words[:10]) for _ in range(1000)]
    tail[777] = " ".join(words[n % 500] for n in range(20_710))
    found = count_terms(with_segments(tmp_path / "tail", tail), nothing)
    assert found.terms / found.chunks == 30.7


@pytest.mark.parametrize("times", [1, 2, 3, 1_999, 2_499, 2_501, 65_537, 3_000_001])
def test_a_word_is_counted_exactly_however_often_it_stands(times: int) -> None:
    assert TermCounter().count("fox " * times + "the dog and a dog") == times + 2


def test_a_text_of_16_mib_is_counted_exactly() -> None:
    text = "z " * (8 << 20)
    assert TermCounter().count(text) == 8 << 20


def test_the_counts_are_the_lengths_that_the_engine_divides_by() -> None:
    """With b = 1 a weight tells the length of its text: tf·(k+1) / (tf + k·length/average)."""
    by_length = qdrant_edge.Bm25(qdrant_edge.Bm25Config(k=1.2, b=1.0, avg_len=10.0))
    rng = np.random.default_rng(5)
    words = [
        "run",
        "running",
        "the",
        "Fox",
        "naïve",
        "42",
        "e-mail",
        "it's",
        "日本語",
        "x" * 50,
        "a",
        "don't",
        "über",
        "y" * 20_000,
    ]
    for size in (1, 2, 7, 50, 400):
        text = " ".join(rng.choice(words, size)) + " onceonly"
        weights = np.asarray(by_length.embed_document(text.replace("y" * 20_000, "y" * 10_000)).values)
        length = TermCounter().count(text)
        least = 2.2 / (1 + 1.2 * length / 10)
        assert weights.min() == pytest.approx(least, rel=1e-5)


def test_segments_are_counted_as_they_come(tmp_path: Path) -> None:
    layout = RunLayout(tmp_path)
    beats = 0

    def beat() -> None:
        nonlocal beats
        beats += 1

    found: list[Outcome] = []
    thread = threading.Thread(target=lambda: found.append(count_terms(layout, beat)))
    thread.start()
    for segment in range(3):
        write_segment(layout, segment, ["fox dog"] * 10)
        time.sleep(0.1)
    assert not found
    finish(layout, 3)
    thread.join(10)
    assert found == [Outcome(chunks=30, terms=60)]
    assert beats >= 30


@pytest.mark.parametrize(
    ("damage", "error"),
    [
        (lambda path: path.write_bytes(b"PAR1 torn"), DamagedChunks),
        (lambda path: path.write_bytes(_flipped(path.read_bytes())), DamagedChunks),
        (lambda path: path.unlink(), RunDirectoryError),
        (lambda path: (path.parents[1] / "intake" / "counts.json").write_text("{"), RunDirectoryError),
    ],
)
def test_what_cannot_be_read_is_an_error(
    tmp_path: Path, damage: Callable[[Path], None], error: type[RunDirectoryError]
) -> None:
    layout = with_segments(tmp_path, ["fox"], ["dog " * 1000], ["fox"])
    damage(layout.chunk_segment(1))
    with pytest.raises(error):
        count_terms(layout, nothing)


def _flipped(data: bytes) -> bytes:
    at = data.index(b"dog")
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def test_one_endless_word_is_no_matter() -> None:
    start = time.monotonic()
    assert TermCounter().count("y" * 8_000_000) == 1
    assert time.monotonic() - start < 5
