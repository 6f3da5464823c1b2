"""The child process that encodes queries and scores pairs: little memory, and whatever else goes wrong, in one reply."""

from __future__ import annotations

import json
from typing import Any

import pytest
from embedfleet.protocol.text.query_pairs import join_pair
from embedfleet.worker import query
from embedfleet.worker.encoders import query_side
from embedfleet.worker.query import QueryService, serve


def line(kind: str, model: str, texts: list[str], number: int = 0) -> bytes:
    spec = {"vector": "v", "kind": kind, "model": model}
    return json.dumps({"pass": spec, "fingerprint": None, "texts": texts, "number": number}).encode()


def asked(kind: str, model: str, texts: list[str]) -> Any:
    found = json.loads(QueryService().reply(line(kind, model, texts)))
    assert all(found.pop(name, 0.0) >= 0 for name in ("load_seconds", "encode_seconds"))
    return found


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

    monkeypatch.setattr(query, "QueryModel", load)
    found = asked("dense", "a/b", ["text"])["error"]
    assert found["kind"] == "EmbedfleetError"
    assert found["message"].startswith("model a/b")
    assert found["message"].endswith(message)


def test_out_of_memory_of_a_query_is_told() -> None:
    found = asked("dense", "fake:8,oom_above=3", ["a text of more tokens"])["error"]
    assert found["message"].startswith("model fake:8,oom_above=3: no memory to compute with it (8 tokens")


def test_a_request_that_is_none_is_an_error() -> None:
    assert "error" in json.loads(QueryService().reply(b"nonsense"))


def test_a_model_is_loaded_once_and_anew_only_for_another_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded, real = list[str](), query.QueryModel

    def load(spec: Any, fingerprint: Any) -> Any:
        loaded.append(spec.model)
        return real(spec, fingerprint)

    monkeypatch.setattr(query, "QueryModel", load)
    service = QueryService()
    for model, texts in (("fake:4", []), ("fake:4", ["one"]), ("fake:4", ["two"]), ("fake:8", ["one"])):
        answer = json.loads(service.reply(line("dense", model, texts)))
        assert len(answer.get("vectors", [])) == len(texts)
    assert loaded == ["fake:4", "fake:8"]


def test_after_a_bad_request_the_next_one_is_answered() -> None:
    written = list[bytes]()
    lines = [line("dense", "fake:4", ["one"], 1), b"nonsense", line("dense", "/not/there", ["x"], 2)]
    serve(
        [*lines, line("dense", "fake:4,oom_above=1", ["a b c"], 3), line("dense", "fake:4", ["one"], 4)], written.append
    )
    first, *bad, last = [json.loads(one) for one in written]
    assert [one["number"] for one in (first, last)] == [1, 4]
    assert [one.get("number", 0) for one in bad] == [0, 2, 3]
    assert [one["error"]["kind"] for one in bad] == ["DecodeError", "ModelError", "EmbedfleetError"]
    assert all("\n" not in one["error"]["message"] for one in bad)
    assert first["vectors"] == last["vectors"]


def test_what_counts_the_tokens_of_queries_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """It copies the model's tokenizer."""
    pytest.importorskip("qdrant_edge")
    made, real = list[str | None](), query_side.QuerySide

    def make(encoder: Any, prompt: str | None) -> Any:
        made.append(prompt)
        return real(encoder, prompt)

    monkeypatch.setattr(query_side, "QuerySide", make)
    service = QueryService()
    for text in ("one fox", "two foxes"):
        answer = json.loads(service.reply(line("bm25", "bm25", [text])))
        assert (len(answer["sparse"]), answer["cut"]) == (1, [0])
    assert made == [None]
