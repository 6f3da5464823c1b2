from __future__ import annotations

import json
import math
import re

import msgspec
import numpy as np
import pytest
from embedfleet.client.evaluation.evaluation import Evaluation, Figures, Ranked, evaluate, measure, measure_names
from embedfleet.client.evaluation.query_results import JudgedChunk, most_different
from embedfleet.client.evaluation.ranking_costs import Cost, ranking_costs
from embedfleet.client.evaluation.report import render, write_report
from embedfleet.client.output.formatting import human_bytes
from embedfleet.exporter.ranking.candidates import find_candidates
from embedfleet.exporter.ranking.ranking import rank_candidates
from embedfleet.protocol.errors import EmbedfleetError, UsageError
from embedfleet.protocol.run_directory.layout import RunLayout
from embedfleet.protocol.run_directory.records.exports import ReportRecord
from embedfleet.protocol.spec.run_spec import RunSpec
from embedfleet.protocol.statistics.pass_stats import PassStats
from embedfleet.protocol.statistics.run_stats import as_values
from embedfleet.protocol.version import __version__

MEASURES = measure_names(9)
COST = Cost(seconds=2.0, per_second=100.0, device="cpu:0")


def one_ranking(ids, judged):
    pytest.importorskip("ir_measures")
    (found,) = measure(["s"], [{"s": Ranked("q", ids)}], {"q": judged})
    return found


def test_measures_are_those_computed_by_hand():
    # relevant: a (2), b (1), and z (1), which is not found; ranks 2 and 4
    found = one_ranking(["x", "a", "y", "b"], {"a": 2, "b": 1, "z": 1, "x": 0})
    gain = 2 / math.log2(3) + 1 / math.log2(5)
    ideal = 2 / math.log2(2) + 1 / math.log2(3) + 1 / math.log2(4)
    np.testing.assert_allclose(found.measures[0], [gain / ideal, 2 / 3, 1 / 2], atol=1e-9)


def test_the_measures_are_cut_at_ten_and_at_a_hundred():
    ids = [f"n{place}" for place in range(10)] + ["a"] + [f"m{place}" for place in range(89)] + ["b"]
    found = one_ranking(ids, {"a": 1, "b": 1})  # ranks 11 and 101
    np.testing.assert_allclose(found.measures[0], [0.0, 0.5, 0.0], atol=1e-9)


def test_a_query_that_a_ranking_lacks_scores_nothing():
    pytest.importorskip("ir_measures")
    judged = {"q1": {"a": 1}, "q2": {"b": 1}, "q3": {"b": 1}}
    rankings = [{"s": Ranked("q1", ["a"]), "t": Ranked("q1", ["c"])}, {"s": Ranked("q2", []), "t": Ranked("q2", ["b"])}]
    s, t = measure(["s", "t"], rankings, judged)
    assert s.ndcg.tolist() == [1.0, 0.0, 0.0]
    assert t.ndcg.tolist() == [0.0, 1.0, 0.0]


def test_many_queries_are_measured_in_parts():
    pytest.importorskip("ir_measures")
    judged = {f"q{number}": {"a": 1} for number in range(600)}
    rankings = ({"s": Ranked(query, ["a"] if int(query[1:]) % 3 else ["b", "a"])} for query in judged)
    (found,) = measure(["s"], rankings, judged)
    assert found.measures[:, 2].tolist() == [1.0 if number % 3 else 0.5 for number in range(600)]


def ranked(run_files, root, **queries):
    """60 chunks, c4 without a dense vector; three queries with the vectors of c0, c1, c2; candidates and a ranking."""
    pytest.importorskip("qdrant_edge")
    pytest.importorskip("ir_measures")
    files = run_files.RunFiles(root, sizes=(30, 30), quarantined=(4,)).write()
    files.publish()
    run_files.RunFiles(files.layout.queries, sizes=(2, 1), index="none", **queries).write()
    passes = [
        as_values(PassStats.none(run_files.DENSE)) | {"seconds": 9.5, "chunks_per_second": 6.3, "device": "cuda:0"},
        as_values(PassStats.none(run_files.SPARSE)) | {"seconds": 0.5, "chunks_per_second": 120.0, "device": "cpu:0"},
    ]
    files.layout.stats.write_text(json.dumps({"passes": passes}))
    find_candidates(files.root, 10)
    rank_candidates(files.root, 5, None)
    return files.layout


@pytest.fixture
def layout(run_files, tmp_path):
    return ranked(run_files, tmp_path / "run")


def judge(tmp_path, *lines):
    path = tmp_path / "qrels.tsv"
    path.write_text("query-id\tcorpus-id\tscore\n" + "".join("\t".join(map(str, line)) + "\n" for line in lines))
    return path


def test_every_ranking_is_evaluated_and_what_is_left_out_is_counted(layout, run_files, tmp_path):
    qrels = judge(tmp_path, ("c0", "c0", 1), ("c1", "c1", 1), ("c1", "gone", 1), ("c2", "gone", 1), ("nobody", "c0", 1))
    found = evaluate(layout, qrels)
    assert found.queries == 2
    assert [one.name for one in found.rankings] == [run_files.DENSE, run_files.SPARSE, "fused"]
    dense, sparse, fused = found.rankings
    assert dense.scores == {"nDCG@10": 1.0, "Recall@10": 1.0, "MRR@10": 1.0}  # each query is its own best chunk
    assert sparse.scores["Recall@10"] == 0.5  # c1 has no term
    assert fused.cost.seconds == 10.0
    files = sum(path.stat().st_size for path in layout.vector_folder(run_files.DENSE).glob("*.parquet"))
    assert dense.cost == Cost(seconds=9.5, per_second=6.3, device="cuda:0", bytes=files)
    assert fused.cost.bytes == files + sparse.cost.bytes > files
    ours, other = found.signals
    assert (ours.name, ours.alone, ours.without) == (run_files.DENSE, 1.0, sparse.scores["nDCG@10"])
    assert (other.name, other.alone, other.without) == (run_files.SPARSE, sparse.scores["nDCG@10"], 1.0)
    assert ours.first_ten.queries == ("c1",), "which has no term"
    assert (other.first_ten.chunks, other.candidates.chunks) == (0, 0)
    assert found.fusion is not None
    assert found.fusion.ndcg == fused.scores["nDCG@10"]
    assert found.recommendation is None
    assert found.verdict == "2 judged queries are too few to recommend signals: give 6 or more."
    text = " ".join(found.notes)
    assert "1 judged query is not among the queries" in text
    assert "2 judgements are of chunks that are not in the corpus" in text
    assert "1 judged query has no relevant chunk" in text
    assert found.measures == ("nDCG@10", "Recall@10", "MRR@10"), "there are ten candidates: deeper is nothing"
    assert measure_names(1000) == ("nDCG@10", "Recall@100", "MRR@10")


def test_a_query_that_could_not_be_encoded_is_left_out_and_one_that_a_signal_could_not_is_told(run_files, tmp_path):
    """c1 has no vector at all, c2 no dense one; c0 has both."""
    layout = ranked(run_files, tmp_path / "run", quarantined=(1, 2), sparse_quarantined=(1,))
    qrels = judge(tmp_path, ("c0", "c0", 1), ("c1", "c1", 1), ("c2", "c2", 1))
    found = evaluate(layout, qrels)
    assert found.queries == 2
    assert found.notes == (
        "1 judged query could not be encoded, and left out",
        "dense-fake could not encode 1 of the 2 judged queries; they count all the same",
    )
    dense, sparse, fused = found.rankings
    assert (dense.scores["nDCG@10"], sparse.scores["nDCG@10"]) == (0.5, 1.0), "c0 and c2 count"
    assert fused.scores["nDCG@10"] == 1.0
    with pytest.raises(
        UsageError, match=rf"0 of its 1 queries .* 1 could not be encoded, .*{layout.queries}/quarantine"
    ):
        evaluate(layout, judge(tmp_path, ("c1", "c1", 1)))


def test_queries_without_judgements_are_counted(layout, tmp_path):
    found = evaluate(layout, judge(tmp_path, ("c0", "c0", 1)))
    assert "2 queries have no judgement, and left out" in found.notes


def test_judgements_of_something_else_are_an_error(layout, tmp_path):
    with pytest.raises(UsageError, match="no judgement of a relevant chunk is of this corpus"):
        evaluate(layout, judge(tmp_path, ("who", "c0", 1), ("c1", "gone", 1)))


def test_the_reports_hold_the_figures(layout, tmp_path):
    found = evaluate(layout, judge(tmp_path, ("c0", "c0", 1), ("c1", "c2", 1)))
    write_report(layout, found)
    assert msgspec.json.decode(layout.evaluation.read_bytes(), type=Evaluation) == found
    page = layout.report.read_text()
    for one in found.rankings:
        assert one.name in page
        for value in one.scores.values():
            assert f"<td>{value:.4f}</td>" in page
    assert found.verdict in page
    assert page.count("<svg") == (len(MEASURES) + 1) * len(found.rankings), "the measures, and the seconds"
    assert "<text" not in page, "letters in a drawing shrink with it"
    assert "prefers-color-scheme: dark" in page
    assert not re.search(r"<script|https?://|src=|href=", page)


def test_the_report_begins_with_its_setting(layout, run_files, tmp_path):
    found = evaluate(layout, judge(tmp_path, ("c0", "c0", 1)))
    setting = found.setting
    assert (setting.corpus, setting.chunks, setting.fused) == ("/corpus.jsonl", 60, (run_files.DENSE, run_files.SPARSE))
    assert [(one.name, one.model, one.dim) for one in setting.models] == [
        (run_files.DENSE, "fake", 4),
        (run_files.SPARSE, "fake", 0),
    ]
    page = render(found, "run")
    top = page[page.index("<h1>") : page.index("<h2>")]
    for term, what in (
        ("Corpus", "corpus.jsonl, 60 chunks"),
        ("Queries", "1 judged query"),
        ("Fusion", f"{run_files.DENSE} + {run_files.SPARSE}: reciprocal ranks, k = 2"),
        ("Reranker", "none"),
        ("Date", setting.date),
        ("Versions", f"embedfleet {__version__}"),
    ):
        assert f"<dt>{term}</dt><dd>{what}</dd>" in top
    assert "<dd>10 candidates of each signal; one query in p50 " in top
    assert f"<tr><td>{run_files.DENSE}</td><td>fake</td><td>4</td><td>float32</td><td>float32</td></tr>" in top


def test_size_and_latency_stand_beside_quality(layout, run_files, tmp_path):
    asked = as_values(PassStats.none(run_files.DENSE)) | {"seconds": 0.3, "computed": 3}
    RunLayout(layout.queries).stats.write_text(json.dumps({"passes": [asked]}))
    found = evaluate(layout, judge(tmp_path, ("c0", "c0", 1)))
    dense, sparse, fused = found.rankings
    assert (dense.cost.query_seconds, sparse.cost.query_seconds, fused.cost.query_seconds) == (0.1, 0.0, 0.1)
    page = render(found, "run")
    assert "<th>on the disk</th><th>ms a query</th>" in page
    assert f"<td>{human_bytes(dense.cost.bytes)}</td><td>100.00</td><td>9.50</td>" in page
    assert f"<td>{human_bytes(sparse.cost.bytes)}</td><td>-</td><td>0.50</td>" in page


def test_queries_are_told_one_by_one_the_most_different_first(layout, run_files, tmp_path):
    found = evaluate(layout, judge(tmp_path, ("c0", "c0", 1), ("c1", "c1", 2), ("c1", "c5", 1)))
    first, second = found.query_results
    assert (first.id, first.text, first.relevant_count) == ("c1", "text 1", 2)
    assert [(one.id, one.text, one.judgement) for one in first.relevant] == [("c1", "text 1", 2), ("c5", "text 5", 1)]
    dense, sparse, _fused = first.rankings
    assert dense.first == JudgedChunk(id="c1", text="text 1", judgement=2)
    assert (dense.relevant_rank, sparse.relevant_rank, sparse.first, sparse.ndcg) == (1, None, None, 0.0), "no term"
    assert first.lost == (run_files.SPARSE,)
    assert run_files.DENSE in first.won
    assert sum(one.ndcg for one in (dense, second.rankings[0])) / 2 == pytest.approx(
        found.rankings[0].scores["nDCG@10"]
    )
    page = render(found, "run")
    assert page.index("<summary>text 1 <span") < page.index("<summary>text 0 <span")
    assert f"won by {' and '.join(first.won)}, lost by {run_files.SPARSE}</span>" in page
    assert "<td>✓ c1: text 1</td>" in page
    assert "<li>c5: text 5</li>" in page


def test_the_texts_of_a_report_are_bounded():
    judged = {f"q{number}": {"a": 1} for number in range(60)}
    falling = {"x": np.linspace(1, 0, 60), "y": np.zeros(60)}
    assert list(most_different(judged, falling)) == [f"q{number}" for number in range(50)]
    assert list(most_different(judged, {"x": np.zeros(60)})) == [f"q{number}" for number in range(50)], "in their order"


def test_an_evaluation_does_not_outlive_its_ranking(layout, tmp_path):
    write_report(layout, evaluate(layout, judge(tmp_path, ("c0", "c0", 1))))
    rank_candidates(layout.root, 3, None)
    assert layout.evaluation.exists(), "the order is the same"
    assert layout.report.exists()
    find_candidates(layout.root, 9)
    rank_candidates(layout.root, 3, None)
    assert not layout.evaluation.exists()
    assert not layout.report.exists()


def test_a_report_that_cannot_be_written_is_an_error_of_ours(layout):
    found = Evaluation(queries=1, candidates=9, rankings=(), verdict="", notes=())
    layout.report.mkdir(parents=True)
    with pytest.raises(
        EmbedfleetError, match=r"report\.html would be written over, and report\.json does not say that"
    ):
        write_report(layout, found)
    assert not layout.report_record.exists()
    layout.report.rmdir()
    layout.report_record.mkdir(parents=True)
    with pytest.raises(EmbedfleetError, match=f"{layout.report_record}: "):
        write_report(layout, found)
    layout.report_record.rmdir()
    write_report(layout, found)
    ours = (layout.report.name, layout.evaluation.name)
    layout.report_record.write_bytes(msgspec.json.encode(ReportRecord((), ours)))  # killed while it wrote
    write_report(layout, found)
    assert [one["name"] for one in json.loads(layout.report_record.read_bytes())["files"]] == [
        "evaluation.json",
        "report.html",
    ]


def test_long_names_are_whole_and_bars_are_shares():
    name = "multivector-" + "a-very-long-name" * 4
    cheap, dear = Cost(seconds=1.0, per_second=9.0, device="cpu:0"), Cost(seconds=4.0, per_second=9.0, device="cpu:0")
    rankings = (
        Figures(name=name, scores=dict.fromkeys(MEASURES, 0.25), cost=cheap),
        Figures(name="fused", scores=dict.fromkeys(MEASURES, 1.0), cost=dear),
    )
    page = render(Evaluation(queries=1, candidates=9, rankings=rankings, verdict="", notes=()), "run")
    assert page.count(f'<span class="name">{name}</span>') == len(MEASURES) + 1
    assert page.count('<rect class="bar" width="250.0"') == len(MEASURES) + 1  # a quarter, of the seconds too
    assert page.count('<rect class="fused" width="1000.0"') == len(MEASURES) + 1
    nothing = Figures(name="a", scores=dict.fromkeys(MEASURES, 0.0), cost=Cost(seconds=0.0, per_second=0.0, device=""))
    assert 'width="0.0"' in render(
        Evaluation(queries=1, candidates=9, rankings=(nothing,), verdict="", notes=()), "run"
    )


def test_names_are_escaped():
    figures = Figures(name="<b>", scores=dict.fromkeys(MEASURES, 0.5), cost=COST)
    page = render(Evaluation(queries=1, candidates=9, rankings=(figures,), verdict="a & b", notes=("<i>",)), "</title>")
    assert not any(raw in page for raw in ("<b>", "a & b", "<i>", "Retrieval: </title>"))


def test_costs_of_a_run_without_statistics(layout, run_files):
    spec = msgspec.json.decode(layout.spec.read_bytes(), type=RunSpec)
    found = ranking_costs(RunLayout(layout.queries), spec, [run_files.DENSE], reranked=True)
    assert {one.seconds for one in found.values()} == {0.0}
    assert list(found)[-1] == "rerank"
