from __future__ import annotations

from embedfleet.client.search import Hit
from embedfleet.client.tables import labelled_scores, print_hits


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
