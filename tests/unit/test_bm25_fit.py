"""The average length that BM25 is fitted with, counted by the weighting itself."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from embedfleet.coordinator import bm25_fit
from embedfleet.coordinator.bm25_fit import ROWS, SEGMENTS, _evenly, fit_average_length
from embedfleet.protocol.layout import RunLayout

pytest.importorskip("qdrant_edge")


def spooled(root: Path, *segments: Sequence[str]) -> RunLayout:
    layout = RunLayout(root)
    layout.chunks.mkdir(parents=True)
    for number, texts in enumerate(segments):
        pq.write_table(pa.table({"text": pa.array(texts, pa.string())}), layout.chunk_segment(number))
    return layout


def test_the_mean_is_over_the_terms_of_all_segments(tmp_path: Path) -> None:
    layout = spooled(tmp_path, ["fox dog", "fox fox fox lease"], ["batch"])
    assert fit_average_length(layout) == pytest.approx((2 + 4 + 1) / 3, abs=0.01)


def test_stop_words_do_not_count_and_repetitions_do(tmp_path: Path) -> None:
    assert fit_average_length(spooled(tmp_path, ["the fox and the fox"])) == 2


def test_an_average_is_never_below_one(tmp_path: Path) -> None:
    assert fit_average_length(spooled(tmp_path / "empty")) == 1
    assert fit_average_length(spooled(tmp_path / "stop", ["the and of", ""])) == 1


def test_the_sample_is_even_and_bounded() -> None:
    assert _evenly([3, 1], 2) == [3, 1]
    found = _evenly(list(range(1000)), 64)
    assert (len(found), found[0]) == (64, 0)
    assert {b - a for a, b in itertools.pairwise(found)} == {15, 16}
    assert SEGMENTS * ROWS == 4096


def test_long_texts_are_counted_by_their_beginning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["fox " * 500, "fox lease " * 250, "fox"]
    whole = fit_average_length(spooled(tmp_path, texts))
    assert whole == pytest.approx((500 + 500 + 1) / 3, abs=0.01)
    monkeypatch.setattr(bm25_fit, "CHARS", 3 * 400)
    assert fit_average_length(RunLayout(tmp_path)) == pytest.approx(whole, rel=0.02)


def test_one_endless_word_does_not_hold_up_the_coordinator(tmp_path: Path) -> None:
    layout = spooled(tmp_path, ["y" * 8_000_000, "fox"])
    start = time.monotonic()
    assert fit_average_length(layout) == 1
    assert time.monotonic() - start < 2
