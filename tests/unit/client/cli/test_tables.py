from __future__ import annotations

from pathlib import Path
from typing import Any

from embedfleet.client.cli.hit_list import labelled_scores, print_hits
from embedfleet.client.cli.tables import print_info
from embedfleet.client.run_directory.info import describe_run
from embedfleet.client.search.hybrid import Hit


def hit(score: float, scores: dict[str, float], rerank: float | None = None, *, fused: bool = True) -> Hit:
    return Hit(id="c1", score=score, scores=scores, text="a text", metadata={}, row=1, fused=fused, rerank=rerank)


def test_what_orders_the_hits_stands_first_and_is_named() -> None:
    both = {"dense-x": 0.5, "sparse-y": 7.0}
    assert list(labelled_scores(hit(0.25, both)).items()) == [("fused", 0.25), *both.items()]
    assert list(labelled_scores(hit(0.25, both, 0.9)))[:2] == ["rerank", "fused"]
    assert labelled_scores(hit(0.5, {"dense-x": 0.5}, fused=False)) == {"dense-x": 0.5}, "a lone signal is not fused"
    assert list(labelled_scores(hit(0.5, both)).items()) == [("fused", 0.5), *both.items()], "equal by chance"


def test_a_hit_as_a_line(capsys) -> None:
    print_hits([hit(1 / 9, {"dense-x": 0.5}, 0.9)])
    assert capsys.readouterr().out.startswith("  1. c1  rerank 0.9000  fused 0.1111  dense-x 0.5000\n")


def test_what_a_run_was_fitted_to_and_what_is_float16_after_all(run_files: Any, tmp_path: Path, capsys) -> None:
    files = run_files.RunFiles(tmp_path / "run", index="none").write()
    described = describe_run(files.root)
    print_info(described)
    assert "average" not in capsys.readouterr().out
    dense, sparse = described["vectors"]
    dense["float16_segments"], sparse["settings"]["average_length"] = 2, 1234.5
    print_info(described)
    shown = capsys.readouterr().out
    assert f"{dense['vector']}: 2 segments stored as float16, since int8 would be too coarse\n" in shown
    assert f"{sparse['vector']}: fitted to an average length of 1,234.5 terms\n" in shown
