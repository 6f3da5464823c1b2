"""The child process that encodes queries and scores pairs: little memory, and whatever else goes wrong, in one reply."""

from __future__ import annotations

import json
from typing import Any

import pytest
from embedfleet.protocol.text.query_pairs import join_pair
from embedfleet.worker.encoders import choose
from embedfleet.worker.query import reply_to


def asked(kind: str, model: str, texts: list[str]) -> Any:
    spec = {"vector": "v", "kind": kind, "model": model}
    return json.loads(reply_to(json.dumps({"pass": spec, "fingerprint": None, "texts": texts}).encode()))


def test_a_reranker_halves_what_does_not_fit_and_leaves_out_what_never_does() -> None:
    short = [join_pair("fox", f"a fox {number} " + "and more " * 40) for number in range(20)]
    pairs = [*short, join_pair("fox", "word " * 2_000), join_pair("fox", "nothing of it")]
    found = asked("rerank", "fake:8,oom_above=500", pairs)
    assert found == {"scores": [1.0] * 20 + [None, 0.0], "cut": [0] * 22}


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (RuntimeError("CUDA error: out of luck\nFor debugging…"), "failed: RuntimeError: CUDA error: out of luck"),
        (KeyError("model_type"), "failed: KeyError: 'model_type'"),
        (MemoryError("8 GiB"), ": no memory to compute with it (8 GiB)"),
    ],
)
def test_any_exception_is_one_error_in_one_line(
    monkeypatch: pytest.MonkeyPatch, error: Exception, message: str
) -> None:
    def load(*_: Any) -> None:
        raise error

    monkeypatch.setattr(choose, "load_encoder", load)
    found = asked("dense", "a/b", ["text"])["error"]
    assert found["kind"] == "EmbedfleetError"
    assert found["message"].startswith("model a/b")
    assert found["message"].endswith(message)


def test_out_of_memory_of_a_query_is_told() -> None:
    found = asked("dense", "fake:8,oom_above=3", ["a text of more tokens"])["error"]
    assert found["message"].startswith("model fake:8,oom_above=3: no memory to compute with it (8 tokens")


def test_a_request_that_is_none_is_an_error() -> None:
    assert "error" in json.loads(reply_to(b"nonsense"))
