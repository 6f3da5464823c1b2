"""The vectors of a query, and the request for a server. `service/test_query_vectors.py` puts it to one."""

from __future__ import annotations

import numpy as np
import pytest
from embedfleet.client.search.query_encoder import Encoded
from embedfleet.client.search.query_vectors import QueryVectors, query_vectors, usable_vectors
from embedfleet.protocol.errors import UsageError
from embedfleet.protocol.index.queries import SparseQuery

DENSE = np.array([0.5, -0.25], np.float32)
TOKENS = np.array([[1.0, 0.0], [0.0, 1.0]], np.float32)
SPARSE = SparseQuery([3, 7], [1.0, 0.5])
VECTORS = {"dense-x": DENSE, "sparse-y": SPARSE, "multivector-z": TOKENS}


def test_each_fused_signal_is_a_prefetch() -> None:
    body = QueryVectors("docs", VECTORS, ["dense-x", "sparse-y"], {}).request(5, 80)
    first, second = body["prefetch"]
    assert first.pop("query").tolist() == [0.5, -0.25]
    assert first == {"using": "dense-x", "limit": 80, "params": {"exact": True}}
    assert second["query"] == {"indices": [3, 7], "values": [1.0, 0.5]}
    assert (body["query"], body["limit"], body["with_payload"]) == ({"fusion": "rrf"}, 5, True)
    assert "using" not in body


def test_a_lone_signal_is_asked_without_fusion() -> None:
    body = QueryVectors("docs", VECTORS, ["multivector-z"], {}).request(5, 80)
    assert body.pop("query").tolist() == TOKENS.tolist()
    assert body == {"using": "multivector-z", "params": {"exact": True}, "limit": 5, "with_payload": True}


def test_every_vector_is_there_also_one_that_is_not_fused() -> None:
    assert set(QueryVectors("docs", VECTORS, ["dense-x"], {}).as_json()) == set(VECTORS)


def test_vectors_that_ask_nothing_are_left_out_with_the_reason() -> None:
    said: list[str] = []
    empty = {"a": [SparseQuery([], [])], "b": [np.zeros(2, np.float32)], "c": [DENSE], "d": [DENSE]}
    vectors, left_out = usable_vectors(Encoded(empty, {"e": "its model is gone"}), ["a", "b", "c", "e"], said.append)
    assert list(vectors) == ["c"]
    assert {name: reason.split(":")[0] for name, reason in left_out.items()} == {
        "a": "the query vector has no term",
        "b": "the query vector has only zeros",
        "e": "its model is gone",
    }
    assert [line.split()[0] for line in said] == ["a", "b", "e"]
    with pytest.raises(
        UsageError, match=r"no signal can answer this query; a is left out: .*; e is left out: its model"
    ):
        usable_vectors(Encoded(empty, {"e": "its model is gone"}), ["a", "e"], said.append)


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), float("inf")])
def test_a_time_that_is_none_is_refused(seconds: float) -> None:
    with pytest.raises(UsageError, match=f"--timeout {seconds:g}: give seconds, more than 0"):
        query_vectors("run", "box", timeout=seconds)
