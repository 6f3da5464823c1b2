"""Figures that a run is built on, against the same by hand: BM25's mean length, and what int8 keeps of a vector."""

from __future__ import annotations

import json
import signal
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow.parquet as pq
import pytest
from embedfleet import open_run
from embedfleet.client.search.hybrid import search
from embedfleet.client.verify.recount import verify_run
from embedfleet.protocol.run_directory.layout import RunLayout
from embedfleet.protocol.spec.fingerprint import Fingerprint

pytest.importorskip("qdrant_edge")
K, B = 1.2, 0.75


def texts_of(lengths: Sequence[int], seed: int = 1) -> list[str]:
    """Words that no stemmer and no list of stop words touches; common ones and rare ones."""
    rng = np.random.default_rng(seed)
    words = [f"zq{number}x" for number in range(400)]
    weights = 1 / np.arange(1, 401)
    return [" ".join(rng.choice(words, length, p=weights / weights.sum())) for length in lengths]


def bm25(texts: Sequence[str], query: Sequence[str]) -> np.ndarray:
    """The score of every text, by the true mean of all lengths."""
    counts = [Counter(text.split()) for text in texts]
    lengths = np.array([sum(count.values()) for count in counts], np.float64)
    scores = np.zeros(len(texts))
    for term in query:
        tf = np.array([count[term] for count in counts], np.float64)
        found = (tf > 0).sum()
        idf = np.log((len(texts) - found + 0.5) / (found + 0.5) + 1)
        scores += idf * tf * (K + 1) / (tf + K * (1 - B + B * lengths / lengths.mean()))
    return scores


def fitted(out: Path) -> float:
    return json.loads(RunLayout(out).pass_file("sparse-bm25").read_bytes())["settings"]["average_length"]


@pytest.mark.parametrize(
    ("lengths", "mean"),
    [([3, 200] * 640, 101.5), ([10] * 999 + [20_710], 30.7)],
)
def test_hits_are_those_of_bm25_by_the_true_mean(
    cli: Any, corpus_of: Callable[..., Path], tmp_path: Path, lengths: list[int], mean: float
) -> None:
    texts = texts_of(lengths)
    source, out = corpus_of(tmp_path / "c.jsonl", texts), tmp_path / "run"
    cli("run", source, "--out", out, "--sparse", "bm25", "--devices", "cpu")
    assert fitted(out) == mean
    assert f"sparse-bm25: fitted to an average length of {mean:g} terms" in cli("info", out).out.decode()
    for query in (["zq30x", "zq7x"], ["zq3x", "zq250x", "zq90x"], ["zq11x"]):
        scores = bm25(texts, query)
        hits = search(out, " ".join(query), top_k=10)
        np.testing.assert_allclose([hit.score for hit in hits], np.sort(scores)[::-1][:10], rtol=1e-4)
        for hit in hits:
            assert hit.score == pytest.approx(scores[hit.row], rel=1e-4)


def test_a_killed_run_keeps_its_mean_and_one_of_the_first_release_too(
    cli: Any, start: Any, corpus_of: Callable[..., Path], tmp_path: Path, waiting: Any
) -> None:
    texts = texts_of([3, 9] * 12_000)
    source, out, whole = corpus_of(tmp_path / "c.jsonl", texts), tmp_path / "run", tmp_path / "whole"
    args = ("--sparse", "bm25", "--index", "none", "--devices", "cpu")
    cli("run", source, "--out", whole, *args)
    assert fitted(whole) == 6.0
    run = start("run", source, "--out", out, *args)
    layout = RunLayout(out)
    waiting.eventually(lambda: list(layout.vector_folder("sparse-bm25").glob("*.parquet")), what="a segment")
    run.signal(signal.SIGKILL)
    run.wait()
    run.all_gone(20)
    cli("run", source, "--out", out, *args)
    assert fitted(out) == 6.0
    for path in sorted(layout.vector_folder("sparse-bm25").glob("*.parquet")):
        assert path.read_bytes() == RunLayout(whole).vector_folder("sparse-bm25").joinpath(path.name).read_bytes()
    # As an older version left it, with the mean of a sample: what is missing is computed by the same one.
    path = layout.pass_file("sparse-bm25")
    record = json.loads(path.read_bytes())
    record["settings"]["average_length"] = 3.0
    record["fingerprint"] = msgspec.convert(record, Fingerprint).digest()
    path.write_text(json.dumps(record))
    layout.manifest.unlink()
    for path in layout.vector_folder("sparse-bm25").glob("*.parquet"):
        path.unlink()
    cli("run", source, "--out", out, *args)
    assert fitted(out) == 3.0
    table = pq.read_table(layout.vector_segment("sparse-bm25", 0))
    length = 3  # of row 0
    count = Counter(texts[0].split())
    expected = sorted(tf * (K + 1) / (tf + K * (1 - B + B * length / 3.0)) for tf in count.values())
    np.testing.assert_allclose(sorted(table.column("values")[0].as_py()), expected, rtol=1e-5)


def test_a_damaged_chunk_segment_ends_the_run_with_what_to_do(
    cli: Any, corpus_of: Callable[..., Path], tmp_path: Path
) -> None:
    source, out = corpus_of(tmp_path / "c.jsonl", texts_of([5] * 100)), tmp_path / "run"
    cli("run", source, "--out", out, "--dense", "fake:8", "--index", "none", "--devices", "cpu")
    path = RunLayout(out).chunk_segment(0)
    text = pq.read_metadata(path).row_group(0).column(2)
    data = bytearray(path.read_bytes())
    data[text.data_page_offset + text.total_compressed_size - 1] ^= 0x10
    path.write_bytes(data)
    args = ("run", source, "--out", out, "--dense", "fake:8", "--sparse", "bm25", "--index", "none", "--devices", "cpu")
    assert "run the same command again, which reads it from the source" in cli(*args, code=1).error
    cli(*args)
    assert fitted(out) == 5.0


def test_int8_behind_boilerplate(cli: Any, tmp_path: Path) -> None:
    """2,048 rows that are one text, then varied ones: with ranges of the first rows all vectors became one."""
    texts = [f"invoice {row}" for row in range(2047)] + [f"text {row}" for row in range(900)]
    source = tmp_path / "c.jsonl"
    lines = [{"id": f"b{row}", "text": "one and the same invoice"} for row in range(2048)]
    lines += [{"id": f"v{row}", "text": text} for row, text in enumerate(texts)]
    source.write_text("".join(json.dumps(line) + "\n" for line in lines))
    found: dict[str, Any] = {}
    for storage in ("float32", "int8"):
        out = tmp_path / storage
        cli("run", source, "--out", out, "--dense", "fake:64", "--store", storage, "--devices", "cpu")
        found[storage] = open_run(out).vectors().astype(np.float64)
    exact, kept = found["float32"], found["int8"]
    cosines = (exact * kept).sum(axis=1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(kept, axis=1)
    assert cosines.min() >= 0.9996
    assert len(np.unique(kept[2048:], axis=0)) == len(np.unique(exact[2048:], axis=0))
    report = verify_run(tmp_path / "int8")
    assert (report.problems, report.notes) == ([], [])
    (described,) = cli("info", tmp_path / "int8", "--json").json["vectors"]
    assert described["float16_segments"] == 0
    assert described["worst_cosine"] == pytest.approx(cosines.min(), abs=1e-5)
    (record,) = json.loads(RunLayout(tmp_path / "int8").manifest.read_bytes())["passes"]
    assert record["worst_cosine"] == described["worst_cosine"]
