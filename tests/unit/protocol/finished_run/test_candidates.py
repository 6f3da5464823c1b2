from __future__ import annotations

import json
import os
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from embedfleet.exporter.command_line import held
from embedfleet.exporter.index import shard
from embedfleet.exporter.index.edge_index import EdgeIndex
from embedfleet.exporter.ranking.candidates import find_candidates
from embedfleet.exporter.ranking.ranking import rank_candidates
from embedfleet.protocol.errors import EmbedfleetError, ModelError, RunDirectoryError, UsageError
from embedfleet.protocol.finished_run.candidates import pair_id, queries_in
from embedfleet.protocol.index import shard_ranking
from embedfleet.protocol.run_directory.layout import RunLayout
from embedfleet.protocol.run_directory.tables import vector_schema
from embedfleet.protocol.text.query_pairs import split_pair

qdrant_edge = pytest.importorskip("qdrant_edge")

RERANKER = "rerank-fake"


@pytest.fixture
def files(run_files, tmp_path):
    """60 chunks, row 4 without a dense vector, and 3 queries: their vectors are those of the first chunks."""
    files = run_files.RunFiles(tmp_path / "run", sizes=(30, 30), quarantined=(4,)).write()
    files.publish()
    run_files.RunFiles(files.layout.queries, sizes=(2, 1), index="none").write()
    return files


def rows_of(layout, *columns):
    return list(queries_in(layout.candidates, ["query", "id", "row", *columns]))


def test_candidates_are_the_first_of_each_signal_and_of_the_fusion(files, run_files):
    record = find_candidates(files.root, 10)
    assert (record.queries, record.without, record.candidates) == (3, 0, 10)
    dense = f"{run_files.DENSE}.rank"
    sparse = f"{run_files.SPARSE}.rank"
    scores = f"{run_files.DENSE}.score"
    groups = rows_of(files.layout, dense, scores, sparse, "fused.rank", "fused.score")
    assert [group[0]["query"] for group in groups] == ["c0", "c1", "c2"]
    vectors, asked = run_files.dense_of(60), run_files.dense_of(3)
    for number, group in enumerate(groups):
        cosines = vectors @ asked[number]
        cosines[4] = -2  # it has no dense vector
        expected = np.argsort(-cosines, kind="stable")[:10].tolist()
        by_rank = {row[dense]: row["row"] for row in group if row[dense] is not None}
        assert [by_rank[place] for place in range(1, 11)] == expected
        fused = [row["fused.rank"] for row in group if row["fused.rank"] is not None]
        assert fused == list(range(1, len(fused) + 1)), "the fused ones come first, by rank"
        assert len(fused) == 10
        for row in group:
            if row["row"] != 4:
                assert row[scores] == pytest.approx(cosines[row["row"]], abs=1e-5)
    # query 1 has no term: the dense signal is alone, and its order is the fused one
    assert all(row[sparse] is None and row[dense] == row["fused.rank"] for row in groups[1])


def test_only_the_signals_that_are_wanted_are_fused_and_all_are_ranked(files, run_files):
    """Query 1 has no term, and so no candidate by the sparse signal alone."""
    every = find_candidates(files.root, 10)
    record = find_candidates(files.root, 10, [run_files.SPARSE], [run_files.SPARSE])
    assert (record.fused, record.signals, record.without) == ((run_files.SPARSE,), every.signals, 1)
    groups = rows_of(files.layout, f"{run_files.DENSE}.rank", f"{run_files.SPARSE}.rank", "fused.rank")
    for number, group in enumerate(groups):
        assert all(row["fused.rank"] == row[f"{run_files.SPARSE}.rank"] for row in group)
        assert sum(row[f"{run_files.DENSE}.rank"] is not None for row in group) == 10
        assert any(row["fused.rank"] for row in group) == (number != 1)
    assert find_candidates(files.root, 10, [run_files.SPARSE], [run_files.SPARSE]) == record
    assert find_candidates(files.root, 10, [run_files.SPARSE]) == record, "named or not, nothing holds it"
    assert find_candidates(files.root, 10).made_of == every.made_of
    both = [run_files.SPARSE, run_files.DENSE]
    assert find_candidates(files.root, 10, both, both).made_of == every.made_of, "these are all"


def test_pairs_are_the_fused_candidates_in_their_order(files):
    record = find_candidates(files.root, 5)
    pairs = [json.loads(line) for line in files.layout.pairs.read_text().splitlines()]
    assert len(pairs) == record.pairs == 15
    fused = [row for group in rows_of(files.layout, "fused.rank") for row in group if row["fused.rank"] is not None]
    assert [one["id"] for one in pairs] == [pair_id(row["query"], row["id"]) for row in fused]
    for one, row in zip(pairs, fused, strict=True):
        number = row["query"].removeprefix("c")
        assert split_pair(one["text"]) == (f"text {number}", f"text {row['row']}")


def test_ids_with_tabs_make_pairs_of_their_own(files, run_files):
    assert pair_id("a\tb", "c") != pair_id("a", "b\tc")
    assert pair_id("a", "2\ta\tb") != pair_id("1\ta", "a\tb")
    for layout, ids in ((files.layout, ["c", "b\tc"]), (RunLayout(files.layout.queries), ["a\tb", "a"])):
        other = run_files.RunFiles(layout.root, sizes=(30, 30) if layout is files.layout else (2, 1))
        span = other.span(0)
        other.chunk_segment(0, [*ids, *(f"c{row}" for row in span)][: len(span)])
        for name, table in ((run_files.DENSE, other.dense_table(0)), (run_files.SPARSE, other.sparse_table(0))):
            place = table.column_names.index("id")
            names = pa.array([*ids, *(f"c{row}" for row in span)][: len(span)], pa.string())
            other.vector_segment(name, 0, table.set_column(place, table.schema.field("id"), names))
    index = EdgeIndex(files.layout, files.spec)
    index.publish(0, {run_files.DENSE: 4, run_files.SPARSE: 0})
    index.close()
    find_candidates(files.root, 60)
    pairs = [json.loads(line)["id"] for line in files.layout.pairs.read_text().splitlines()]
    assert {"3\ta\tb\tc", "1\ta\tb\tc"} <= set(pairs)
    assert len(set(pairs)) == len(pairs)


def test_what_stands_is_kept_and_what_differs_is_found_again(files):
    first = find_candidates(files.root, 5)
    stamp = files.layout.candidates.stat().st_ino
    assert find_candidates(files.root, 5) == first
    assert files.layout.candidates.stat().st_ino == stamp
    assert find_candidates(files.root, 6).made_of != first.made_of
    files.layout.candidates_record.write_text("{")
    assert find_candidates(files.root, 6).pairs == 18


def test_a_query_in_other_words_makes_other_pairs_though_its_vectors_are_the_same(files, run_files):
    """BM25 knows neither order nor sentence marks."""
    first = find_candidates(files.root, 5)
    queries = run_files.RunFiles(files.layout.queries, sizes=(2, 1))
    queries.chunk_segment(1, text=["2 text!"])
    assert find_candidates(files.root, 5).made_of != first.made_of
    pairs = [json.loads(line) for line in files.layout.pairs.read_text().splitlines()]
    assert {split_pair(one["text"])[0] for one in pairs} == {"text 0", "text 1", "2 text!"}


@pytest.mark.parametrize("older", ["corpus", "queries"])
def test_weights_that_0_1_hashed_in_another_way_are_the_same(files, run_files, older):
    queries = RunLayout(files.layout.queries)
    for layout, is_older in ((files.layout, older == "corpus"), (queries, older == "queries")):
        path = layout.pass_file(run_files.DENSE)
        hashes = {"weights": "old"} if is_older else {"weights": "new", "weights_before": "old"}
        path.write_text(json.dumps(json.loads(path.read_text()) | hashes))
    assert find_candidates(files.root, 5).queries == 3


def test_what_cannot_be_searched_is_said(files, run_files, tmp_path):
    about = json.loads((files.layout.pass_file(run_files.DENSE)).read_text())
    files.layout.pass_file(run_files.DENSE).write_text(json.dumps({**about, "weights": "abc"}))
    with pytest.raises(ModelError, match="encoded by other weights"):
        find_candidates(files.root, 5)
    bare = run_files.RunFiles(tmp_path / "bare").write()
    with pytest.raises(RunDirectoryError, match="not a run directory"):
        find_candidates(bare.root, 5)
    with pytest.raises(RunDirectoryError, match="has no candidates"):
        rank_candidates(bare.root, 5, None)


class Panic(BaseException):
    """As PyO3's own, which is no Exception."""


@pytest.mark.parametrize(("raised", "told"), [(Panic, EmbedfleetError), (KeyboardInterrupt, KeyboardInterrupt)])
def test_a_panic_of_the_engine_is_told_with_its_remedy(files, monkeypatch, raised, told):
    def damaged(*_arguments):
        raise raised("index out of bounds")

    monkeypatch.setattr(shard_ranking, "signal_scores", damaged)
    with pytest.raises(told, match="index out of bounds") as caught:
        find_candidates(files.root, 5)
    if told is EmbedfleetError:
        assert f"query 'c0': the Edge engine refused it (index out of bounds); delete {files.layout.edge}" in str(
            caught.value
        )
    assert not files.layout.candidates.exists()


def test_a_shard_that_cannot_be_opened_is_told_with_its_remedy(files, monkeypatch):
    (status,) = files.layout.edge.glob("segments/*/vector_storage-dense-fake/deleted/status.dat")
    os.truncate(status, 0)  # where the engine panics
    with pytest.raises(RunDirectoryError, match=r"is damaged .* run the same command again, which makes it anew"):
        find_candidates(files.root, 5)
    monkeypatch.setattr(shard, "LOCK_SECONDS", 0.0)
    monkeypatch.setattr(qdrant_edge, "EdgeShard", SimpleNamespace(load=locked))
    with pytest.raises(RunDirectoryError, match="in use by another process"):
        find_candidates(files.root, 5)


def locked(_path):
    raise RuntimeError("WouldBlock")


@pytest.mark.parametrize(("raised", "told"), [(Panic, EmbedfleetError), (KeyboardInterrupt, KeyboardInterrupt)])
def test_whatever_ends_the_work_of_a_process_is_one_message(tmp_path, raised, told):
    def work():
        raise raised("index out of bounds")

    with pytest.raises(told, match="index out of bounds"):
        held(tmp_path, work)


def test_a_run_without_an_index(run_files, tmp_path):
    files = run_files.RunFiles(tmp_path / "run", index="none").write()
    run_files.RunFiles(files.layout.queries, sizes=(1,), index="none").write()
    with pytest.raises(UsageError, match="--index none"):
        find_candidates(files.root, 5)


def score(files, run_files, scores):
    """The run of the pairs, as a reranker would have left it; None: the pair was quarantined, ...: refused at intake."""
    pairs = [json.loads(line) for line in files.layout.pairs.read_text().splitlines()]
    kept = [(one["id"], value) for one, value in zip(pairs, scores, strict=True) if value is not ...]
    target = run_files.RunFiles(files.layout.scores, sizes=(len(kept),))
    for folder in (target.layout.chunks, target.layout.intake_folder, target.layout.vector_folder(RERANKER)):
        folder.mkdir(parents=True)
    columns = {
        "row": range(len(kept)),
        "id": [name for name, _ in kept],
        "score": [value for _, value in kept],
        "n_tokens": [3] * len(kept),
        "truncated": [False] * len(kept),
        "error": [None if value is not None else "out of memory alone" for _, value in kept],
    }
    target.vector_segment(
        RERANKER, 0, pa.table({name: list(one) for name, one in columns.items()}, vector_schema("score", 0))
    )
    refused = [one["id"] for one, value in zip(pairs, scores, strict=True) if value is ...]
    lines = [json.dumps({"id": name, "reason": "text is too large"}) for name in refused]
    RunLayout(files.layout.scores).rejected_segment(0).write_text("".join(f"{line}\n" for line in lines))


def test_the_final_order_is_by_score_and_then_as_fused(files, run_files):
    find_candidates(files.root, 4)
    #       c0: all scored, a tie     c1: one quarantined, one refused   c2: none
    score(files, run_files, [0.1, 0.9, 0.5, 0.9, None, 0.2, ..., 0.3, None, None, None, None])
    rank_candidates(files.root, 3, RERANKER)
    fused = [
        row["id"] for group in rows_of(files.layout, "fused.rank") for row in group if row["fused.rank"] is not None
    ]
    order = [fused[place] for place in (1, 3, 2, 7, 5, 4, 8, 9, 10)]
    lines = [json.loads(line) for line in files.layout.reranked.read_text().splitlines()]
    assert [line["id"] for line in lines] == order
    assert [line["rank"] for line in lines] == [1, 2, 3] * 3
    assert [line["fallback"] for line in lines] == [False] * 5 + [True] * 4
    assert lines[5]["reason"] == "out of memory alone"
    assert lines[0]["scores"]["rerank"] == pytest.approx(0.9)
    assert lines[0]["ranks"]["rerank"] == 1
    assert lines[5]["scores"]["rerank"] is None
    assert set(lines[0]["scores"]) == {run_files.DENSE, run_files.SPARSE, "fused", "rerank"}
    section = json.loads(files.layout.manifest.read_text())["rerank_run"]
    assert (section["pairs"], section["scored"], section["fallbacks"]) == (12, 6, 6)
    assert section["reasons"] == {"out of memory alone": 5, "the pair was refused: text is too large": 1}
    assert section["coverage"] == 0.5


def test_reasons_of_refused_pairs_are_taken_along_with_the_scores(files, run_files):
    find_candidates(files.root, 4)
    score(files, run_files, [..., 0.5, ..., 0.5, ..., 0.5, ..., 0.5, 0.5, 0.5, 0.5, ...])
    rejects = RunLayout(files.layout.scores).rejected_segment(0)
    first, second, third, fourth, _fifth = (json.loads(line) for line in rejects.read_text().splitlines())
    del second["id"]  # its line was no JSON
    kept = (first | {"reason": "a"}, second | {"reason": "b"}, third | {"reason": "c"}, fourth | {"reason": "d"})
    rejects.write_text("".join(f"{json.dumps(one)}\n" for one in kept))
    rank_candidates(files.root, 4, RERANKER)
    section = json.loads(files.layout.manifest.read_text())["rerank_run"]
    assert section["reasons"] == {
        f"the pair was refused: {reason}": 1 for reason in ("a", "b", "c", "d", "no reason is on file")
    }


def test_scores_are_written_whole(files, run_files):
    """A cross-encoder's sigmoid gives most pairs next to nothing: rounded, they would be ties."""
    find_candidates(files.root, 4)
    small = [float(np.float32(value)) for value in (3.1e-9, 2.2e-8, 1.7e-9, 0.1)]
    score(files, run_files, small * 3)
    rank_candidates(files.root, 4, RERANKER)
    lines = files.layout.reranked.read_text().splitlines()
    assert [json.loads(line)["scores"]["rerank"] for line in lines[:4]] == [0.1, 2.2e-8, 3.1e-9, 1.7e-9]
    assert '"rerank":0.1}' in lines[0], "as float32 has it, not its expansion to float64"


def test_without_a_reranker_the_fused_order_is_final(files, run_files):
    find_candidates(files.root, 4)
    score(files, run_files, [1.0] * 12)
    rank_candidates(files.root, 4, RERANKER)
    rank_candidates(files.root, 2, None)
    lines = [json.loads(line) for line in files.layout.reranked.read_text().splitlines()]
    assert [line["ranks"]["fused"] for line in lines] == [1, 2] * 3
    assert not any(line["fallback"] or line["scores"]["rerank"] is not None for line in lines)
    manifest = json.loads(files.layout.manifest.read_text())
    assert "rerank_run" not in manifest
    (sparse,) = manifest["sparse_run"]
    assert (sparse["vector"], sparse["live"], sparse["from_metadata"], sparse["without"]) == (
        run_files.SPARSE,
        60,
        0,
        0,
    )
