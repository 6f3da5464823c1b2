from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from embedfleet.client.options.signal_names import choose_signals
from embedfleet.client.run_directory import edge_shard
from embedfleet.client.search import query_child
from embedfleet.client.search.filter_keys import plain_filters
from embedfleet.client.search.hybrid import search, search_shard
from embedfleet.client.search.query_encoder import encode_queries
from embedfleet.protocol.errors import EmbedfleetError, ModelError, RunDirectoryError, UsageError
from embedfleet.protocol.finished_run.point_ids import point_id
from embedfleet.protocol.index.metadata_filter import MetadataFilter
from embedfleet.protocol.index.queries import SparseQuery
from embedfleet.protocol.spec.ensemble_spec import EnsembleSpec
from embedfleet.protocol.spec.run_spec import PassSpec, RunSpec

pytest.importorskip("qdrant_edge")

ANSWER = """
import json, sys
asked = json.loads(sys.stdin.readline())
assert asked["fingerprint"]["fingerprint"] and len(asked["texts"]) == 1
if asked["pass"]["kind"] == "bm25":
    print(json.dumps({"sparse": [{"indices": [5], "values": [1.0]}]}))
else:
    print(json.dumps({"vectors": [[1.0, 0.0, 0.0, 0.0]]}))
"""


@pytest.fixture
def files(run_files, tmp_path):
    files = run_files.RunFiles(tmp_path / "run", sizes=(30, 30), quarantined=(4,)).write()
    files.publish()
    return files


@pytest.fixture
def child(monkeypatch, tmp_path):
    """Run this script in place of the query encoder."""

    def use(script: str) -> None:
        (tmp_path / "query_script.py").write_text(script)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        monkeypatch.setattr(query_child, "MODULE", "query_script")

    return use


def ranks(scores: np.ndarray) -> list[int]:
    return np.argsort(-scores, kind="stable").tolist()


def test_one_dense_signal_is_the_exact_order(files, run_files):
    vectors = run_files.dense_of(60)
    hits = search_shard(files.layout, files.spec, {run_files.DENSE: vectors[7]}, 5)
    expected = vectors @ vectors[7]
    expected[4] = -2  # quarantined
    assert [hit.row for hit in hits] == ranks(expected)[:5]
    assert hits[0].id == "c7"
    assert hits[0].text == "text 7"
    assert hits[0].metadata == {"n": 7}
    for hit in hits:
        assert hit.score == pytest.approx(expected[hit.row], abs=1e-6)
        assert hit.scores == {run_files.DENSE: hit.score}


def test_one_sparse_signal(files, run_files):
    hits = search_shard(files.layout, files.spec, {run_files.SPARSE: SparseQuery([109], [1.0])}, 5)
    assert [(hit.row, hit.scores) for hit in hits] == [(9, {run_files.SPARSE: hits[0].score})]


def test_two_signals_are_fused_by_rank(files, run_files):
    vectors = run_files.dense_of(60)
    # row 9 has both terms, the others at most the common one, and row 1 none
    asked = {run_files.DENSE: vectors[9], run_files.SPARSE: SparseQuery([5, 109], [1.0, 1.0])}
    hits = search_shard(files.layout, files.spec, asked, 60)
    assert hits[0].row == 9
    assert hits[0].score == pytest.approx(1.0)  # first twice: 1 / (0 + k) each, k = 2
    assert set(hits[0].scores) == {run_files.DENSE, run_files.SPARSE}
    by_row = {hit.row: hit for hit in hits}
    assert set(by_row[1].scores) == {run_files.DENSE}
    assert set(by_row[4].scores) == {run_files.SPARSE}
    for hit in hits:
        if hit.row != 4:
            assert hit.scores[run_files.DENSE] == pytest.approx(float(vectors[hit.row] @ vectors[9]), abs=1e-6)
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


def test_a_query_of_stop_words_leaves_the_other_signal(files, run_files):
    vectors = run_files.dense_of(60)
    hits = search_shard(
        files.layout, files.spec, {run_files.DENSE: vectors[9], run_files.SPARSE: SparseQuery([], [])}, 3
    )
    assert hits[0].score == pytest.approx(1.0, abs=1e-6)
    assert search_shard(files.layout, files.spec, {run_files.SPARSE: SparseQuery([], [])}, 3) == []


def test_the_engines_refusal_is_an_error_of_ours(files, run_files):
    with pytest.raises(EmbedfleetError, match="expected dim: 4, got 3"):
        search_shard(files.layout, files.spec, {run_files.DENSE: np.ones(3, np.float32)}, 3)


class Panic(BaseException):
    """As PyO3's own, which is no Exception."""


@pytest.mark.parametrize(("raised", "told"), [(Panic, EmbedfleetError), (KeyboardInterrupt, KeyboardInterrupt)])
def test_a_panic_of_the_engine_is_an_error_of_ours(files, run_files, monkeypatch, raised, told):
    def damaged(*_arguments):
        raise raised("index out of bounds")

    monkeypatch.setattr("embedfleet.protocol.index.shard_ranking.signal_scores", damaged)
    with pytest.raises(told, match="index out of bounds") as caught:
        search_shard(files.layout, files.spec, {run_files.DENSE: run_files.dense_of(60)[7]}, 3)
    if told is EmbedfleetError:
        assert "delete the folder and published.json and run the same command again" in str(caught.value)


def test_search_asks_every_encoder(files, run_files, child):
    child(ANSWER)
    hits = search(files.root, " what is a box? ", top_k=3)
    assert len(hits) == 3
    assert any(set(hit.scores) == {run_files.DENSE, run_files.SPARSE} for hit in hits)


def test_a_query_of_which_a_model_knows_nothing_is_answered_by_the_others(files, run_files, child):
    child(ANSWER.replace("[[1.0, 0.0, 0.0, 0.0]]", "[[0.0, 0.0, -0.0, 0.0]]"))
    said: list[str] = []
    hits = search(files.root, "🦀", top_k=3, say=said.append)
    reason = "the query vector has only zeros: it knows no word of the query, or stop words alone"
    assert said == [f"dense-fake is left out: {reason}"]
    assert [hit.left_out for hit in hits] == [{run_files.DENSE: reason}] * 3
    assert {name for hit in hits for name in hit.scores} == {run_files.SPARSE}
    with pytest.raises(UsageError, match=f"no signal can answer this query; dense-fake is left out: {reason}"):
        search(files.root, "🦀", signals=["dense"])


def test_more_candidates_than_hits(files, child):
    child(ANSWER)
    with pytest.raises(UsageError, match="--candidates 2: give at least 3, which is --top-k"):
        search(files.root, "box", top_k=3, candidates=2)
    for hit in search(files.root, "box", top_k=3, candidates=3):
        assert hit.ranks
        assert max(hit.ranks.values()) <= 3
        assert hit.score == pytest.approx(sum(1 / (1 + rank) for rank in hit.ranks.values()), abs=1e-12)


@pytest.mark.parametrize("candidates", [3, 20, 50, None])
def test_a_reranker_changes_nothing_of_what_is_fused(files, child, monkeypatch, candidates):
    child(ANSWER)
    plain = {hit.row: hit for hit in search(files.root, "box", top_k=candidates or 50, candidates=candidates)}
    monkeypatch.setattr(
        "embedfleet.client.search.hybrid.score_pairs", lambda _one, texts, *_: [float(n) for n in range(len(texts))]
    )
    hits = search(files.root, "box", top_k=3, candidates=candidates, rerank="fake:4")
    assert hits
    for hit in hits:
        assert (hit.score, hit.ranks) == (plain[hit.row].score, plain[hit.row].ranks)


@pytest.mark.parametrize(("query", "top_k"), [("", 3), (" \n", 3), ("\x01", 3), ("box", 0)])
def test_a_query_that_asks_nothing(files, query, top_k):
    with pytest.raises(UsageError):
        search(files.root, query, top_k)


def test_a_key_that_no_chunk_has_is_told(files, run_files):
    vectors = {run_files.DENSE: run_files.dense_of(60)[7]}
    with pytest.raises(UsageError, match=r"--filter modul=…: no chunk has metadata.modul; keys: n"):
        search_shard(files.layout, files.spec, vectors, 3, plain_filters({"n": 7, "modul": "x"}))
    assert search_shard(files.layout, files.spec, vectors, 3, plain_filters({"n": "1000"})) == [], "the key is there"


def test_a_key_may_be_given_with_what_it_lies_in(files, child):
    child(ANSWER)
    for key in ("n", "metadata.n"):
        assert [hit.row for hit in search(files.root, "box", filters=[(key, "7")])] == [7]


def set_metadata(files, metadata):
    """Of row 0, in its chunk segment and in the shard."""
    import qdrant_edge as edge

    path = files.layout.chunk_segment(0)
    table = pq.read_table(path)
    texts = [json.dumps(metadata), *table.column("metadata").to_pylist()[1:]]
    pq.write_table(table.set_column(3, table.schema.field(3), [texts]), path)
    shard = edge.EdgeShard.load(str(files.layout.edge))
    shard.update(edge.UpdateOperation.set_payload([point_id("c0")], {"metadata": metadata}))
    shard.close()


def test_numbers_are_those_of_the_source(files, run_files):
    """The engine gives back one in eight random doubles with another last bit."""
    metadata = {"u": 0.9126225929315033, "deep": [{"x": 6.399540943024564e-11}], "v": 0.1 + 0.2, "n": 2**63 + 1}
    set_metadata(files, metadata)
    vectors = {run_files.DENSE: run_files.dense_of(60)[0]}
    hits = search_shard(files.layout, files.spec, vectors, 3)
    assert hits[0].id == "c0"
    assert hits[0].metadata == metadata
    assert all(hit.metadata == {"n": hit.row} for hit in hits[1:])
    files.layout.chunk_segment(0).unlink()  # the collection alone is searched too
    (hit, *_) = search_shard(files.layout, files.spec, vectors, 3)
    assert hit.metadata["u"] == pytest.approx(metadata["u"], rel=1e-15)


def test_keys_with_other_signs_are_told_as_a_filter_takes_them(files, run_files):
    odd = {"a.b": "1", "my key": "2", "x:y": "3", "in": {"c d": "4", "e-f_0": "5"}, 'no"t': "6", "back\\slash": "7"}
    told = {'"a.b"': "1", '"my key"': "2", '"x:y"': "3", 'in."c d"': "4", "in.e-f_0": "5"}
    set_metadata(files, odd)
    vectors = {run_files.DENSE: run_files.dense_of(60)[0]}
    with pytest.raises(UsageError) as caught:
        search_shard(files.layout, files.spec, vectors, 3, plain_filters({"a.b": "1"}))
    known = ", ".join(sorted([*told, "n"]))
    assert str(caught.value).endswith(f"""no chunk has metadata.a.b; keys: {known}; did you mean "a.b"?""")
    for key, value in told.items():
        assert [hit.row for hit in search_shard(files.layout, files.spec, vectors, 3, plain_filters({key: value}))] == [
            0
        ]


@pytest.mark.parametrize(("key", "remedy"), [("my key", "my key"), ("metadata.x:y", "x:y"), ('no"t', "a key")])
def test_a_key_that_the_engine_cannot_read_is_refused_before_anything_is_loaded(files, child, key, remedy):
    child("raise SystemExit('not to be asked')")
    with pytest.raises(UsageError, match="the key is not a valid path; put a name with other characters") as caught:
        search(files.root, "box", filters=[(key, "2")])
    assert f"""--filter '"{remedy}"=VALUE'""" in str(caught.value)


def test_a_key_that_is_null_wherever_it_stands_is_said_to_be_and_not_listed(files, run_files):
    set_metadata(files, {"gone": None, "none": [], "there": 1})
    vectors = {run_files.DENSE: run_files.dense_of(60)[0]}
    for value in ("x", "1"):
        with pytest.raises(
            UsageError, match=r"metadata.gone is null in every chunk that has it; --filter gone=null finds"
        ):
            search_shard(files.layout, files.spec, vectors, 3, plain_filters({"gone": value}))
    assert [hit.row for hit in search_shard(files.layout, files.spec, vectors, 3, plain_filters({"gone": "null"}))] == [
        0
    ]
    with pytest.raises(UsageError, match=r"no chunk has metadata.none; keys: n, there$"):
        search_shard(files.layout, files.spec, vectors, 3, plain_filters({"none": "x"}))


def spelled(filters):
    found = plain_filters(filters)
    assert {one.relation for one in found} <= {"="}
    return [(one.key, *one.values) for one in found]


def test_values_from_python_are_spelled_as_the_command_line_has_them():
    given = [("a", 3), ("b", 3.5), ("c", True), ("d", None), ("metadata.e", "x"), ('"a=b"', "y=z|")]
    expected = [("a", "3"), ("b", "3.5"), ("c", "true"), ("d", "null"), ("e", "x"), ('"a=b"', "y=z|")]
    assert spelled(given) == expected
    given = [
        ("a", np.float32(0.1)),
        ("b", np.int64(3)),
        ("c", np.bool_(True)),
        ("d", Decimal("0.10")),
        ("e", np.str_("x")),
    ]
    assert spelled(given) == [("a", "0.1"), ("b", "3"), ("c", "true"), ("d", "0.10"), ("e", "x")]
    assert spelled({"a": [1, "x|y", None], "b": ("de",)}) == [("a", "1", "x|y", "null"), ("b", "de")]
    for value in ([[1]], {"x": 1}, b"x"):
        with pytest.raises(
            UsageError, match=r"the filter a: its value is a .*; give text, a number or a boolean, or a list"
        ):
            plain_filters([("a", value)])
    with pytest.raises(UsageError, match="the filter a: its list is empty; give at least one value"):
        plain_filters({"a": []})


def test_filters_from_python_may_be_a_dict_or_texts_and_what_is_neither_is_named():
    assert spelled({"a": 3, "metadata.b": None}) == [("a", "3"), ("b", "null")]
    assert plain_filters({}) == []
    texts = ["metadata.n>=3", "lang=de|en", ("a", "x")]
    ours = [MetadataFilter("n", ("3",), ">="), MetadataFilter("lang", ("de", "en")), MetadataFilter("a", ("x",))]
    assert plain_filters(texts) == plain_filters(ours) == ours
    assert plain_filters("n<4") == [MetadataFilter("n", ("4",), "<")]
    for wrong, said in (([("a", 1, 2)], r"\('a', 1, 2\)"), ([(1, 2)], r"\(1, 2\)"), ([3], "3")):
        with pytest.raises(
            UsageError, match=rf"filters: {said} is not a \(key, value\) pair; give pairs or a dict, .* or texts"
        ):
            plain_filters(wrong)
    with pytest.raises(UsageError, match="--filter 'ab': give KEY=VALUE"):
        plain_filters(["ab"])


def test_a_range_finds_what_python_finds_and_says_why_it_finds_nothing(files, run_files):
    set_metadata(files, {"n": 0, "day": "2024-05-17", "lang": "de"})
    vectors = {run_files.DENSE: run_files.dense_of(60)[0]}

    def rows(*texts):
        return {hit.row for hit in search_shard(files.layout, files.spec, vectors, 60, plain_filters(texts))}

    assert rows("n>=55") == {55, 56, 57, 58, 59}
    assert rows("n>2.5", "n<6", "n=3|5|7") == {3, 5}
    assert rows("day>=2024-05", "day<=2024-05-17") == {0}
    assert rows("n>59") == rows("day<2024-05") == set(), "numbers and dates are there"
    for text, why in (
        ("lang>5", "--filter lang>…: metadata.lang is not a number in any chunk; texts are compared by = alone"),
        (
            "n<=2024-05",
            "--filter n<=…: metadata.n is not a date such as 2024-01-31 or 2024-01-31T10:00:00Z in any chunk",
        ),
        ("lang<2024", "--filter lang<…: metadata.lang is not a number or a date such as 2024-01-31"),
        ("words>100", "--filter words>…: no chunk has metadata.words; keys: day, lang, n"),
    ):
        with pytest.raises(UsageError) as caught:
            rows(text)
        assert str(caught.value).startswith(why)


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), float("inf")])
def test_a_time_that_is_none_is_refused(files, seconds):
    with pytest.raises(UsageError, match=f"--timeout {seconds:g}: give seconds, more than 0"):
        search(files.root, "box", timeout=seconds)


def test_a_lone_signal_is_not_called_fused(files, run_files):
    both = {run_files.DENSE: run_files.dense_of(60)[9], run_files.SPARSE: SparseQuery([5, 109], [1.0, 1.0])}
    for asked, fused in ((both, True), ({run_files.DENSE: both[run_files.DENSE]}, False)):
        assert {hit.fused for hit in search_shard(files.layout, files.spec, asked, 3)} == {fused}


def dense_pass(vector, kind="dense"):
    return PassSpec(vector=vector, kind=kind, model="fake:4")


def test_signals_by_name_end_form_and_kind():
    passes = (dense_pass("dense-a-x"), dense_pass("dense-b-x"), dense_pass("sparse-bm25", "bm25"))
    members = ("dense-a-x", "dense-b-x")
    both = (EnsembleSpec(vector="ensemble-concat", method="concat", members=members, weights=(1.0, 1.0)),)
    spec = RunSpec(source="-", passes=passes, ensembles=both)

    def chosen(*signals):
        return choose_signals(spec, signals, Path("run"))

    assert chosen() == ([*members, "sparse-bm25", "ensemble-concat"], [])
    assert chosen("sparse-bm25", "dense-a-x") == (["dense-a-x", "sparse-bm25"], ["sparse-bm25", "dense-a-x"])
    assert chosen("bm25") == (["sparse-bm25"], [])
    assert chosen("ensemble") == chosen("concat")._replace(named=[]) == (["ensemble-concat"], [])
    assert chosen("a-x") == (["dense-a-x"], ["dense-a-x"])
    assert chosen("dense").wanted == [*members, "ensemble-concat"]
    with pytest.raises(UsageError, match="--signals x: may be dense-a-x or dense-b-x; give the whole name"):
        chosen("x")
    with pytest.raises(UsageError, match="--signals colbert: run has no such vector; it has dense-a-x, "):
        chosen("colbert")


def test_no_index_nothing_published_no_engine(run_files, tmp_path, monkeypatch):
    unindexed = run_files.RunFiles(tmp_path / "unindexed", index="none").write()
    with pytest.raises(UsageError, match="--index none"):
        search(unindexed.root, "box")
    unpublished = run_files.RunFiles(tmp_path / "unpublished").write()
    unpublished.layout.edge.mkdir()
    with pytest.raises(RunDirectoryError, match="nothing is published yet"):
        search(unpublished.root, "box")
    with pytest.raises(RunDirectoryError, match="not a run directory"):
        search(tmp_path, "box")
    monkeypatch.setattr(edge_shard, "engine_installed", lambda: False)
    with pytest.raises(UsageError, match=r"pip install 'embedfleet\[qdrant\]'"):
        search(unpublished.root, "box")


def test_a_shard_in_use_is_an_error(files, run_files, monkeypatch):
    monkeypatch.setattr(edge_shard, "PATIENCE", 0.1)
    load = f"shard = qdrant_edge.EdgeShard.load({str(files.layout.edge)!r})"
    holder = f"import qdrant_edge, sys; {load}; print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", holder], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(RunDirectoryError, match="in use by another process"):
            search_shard(files.layout, files.spec, {run_files.DENSE: run_files.dense_of(60)[0]}, 3)


def test_a_full_disk_is_an_error_and_not_the_end_of_the_process(files, run_files, monkeypatch):
    query = {run_files.DENSE: run_files.dense_of(60)[0]}
    monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result([4096, 4096, 10_000, *[0] * 6, 255]))
    with pytest.raises(RunDirectoryError, match="the disk is full, and opening the collection writes to it; make room"):
        search_shard(files.layout, files.spec, query, 3)
    monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result([4096, 4096, *[0] * 7, 255]))
    assert search_shard(files.layout, files.spec, query, 3)


def test_a_broken_shard_is_an_error(files, run_files):
    (files.layout.edge / "edge_config.json").write_text("{")
    with pytest.raises(RunDirectoryError, match="cannot be opened"):
        search_shard(files.layout, files.spec, {run_files.DENSE: run_files.dense_of(60)[0]}, 3)


def test_an_encoders_error_is_revived(files, child):
    child("""print('{"error": {"kind": "ModelError", "message": "no such model"}}')""")
    with pytest.raises(ModelError, match="no such model"):
        search(files.root, "box")


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("import sys; sys.exit('the weights are gone')", "ended with status 1; its last words:\nthe weights are gone"),
        ("print('hello')", "answered what is no query vector"),
        ("print('{}')", "answered 0 vectors for 1 texts"),
        ("""print('{"vectors": [[null]]}')""", "dense-fake: NaN or infinity in the query vector"),
        ("""print('{"vectors": [[1e999]]}')""", "answered what is no query vector"),
    ],
)
def test_an_encoder_that_fails_is_quoted(files, child, script, message):
    child(script)
    with pytest.raises(EmbedfleetError) as caught:
        search(files.root, "box")
    assert message in str(caught.value)


def test_a_pass_that_has_not_begun(files, run_files):
    files.layout.pass_file(run_files.SPARSE).unlink()
    with pytest.raises(RunDirectoryError, match="the pass sparse-bm25 has not begun"):
        search(files.root, "box")


def test_encoders_have_a_deadline_and_are_killed(files, child, tmp_path):
    pids = tmp_path / "pids"
    child(f"import os, time; open({str(pids)!r}, 'a').write(f'{{os.getpid()}} '); time.sleep(600)")
    began = time.monotonic()
    with pytest.raises(
        EmbedfleetError, match="no answer after 1 s; where the model needs longer, give --timeout SECONDS"
    ):
        encode_queries(files.layout, files.spec, ["box"], timeout=1.0)
    assert time.monotonic() - began < 10
    started = pids.read_text().split()
    assert len(started) == 2  # side by side
    assert not [pid for pid in started if Path("/proc", pid).exists()]
