"""The children that encode queries: kept from one query to the next, and started anew once they are lost."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from embedfleet.client.search import query_child, query_models
from embedfleet.client.search.query_child import Question
from embedfleet.client.search.query_models import QueryModels
from embedfleet.protocol.errors import EmbedfleetError, ModelError
from embedfleet.protocol.spec.run_spec import PassSpec
from embedfleet.protocol.wire.query import QueryAnswer

ECHO = """
import json, os, sys
print("a model may print what it likes", file=sys.stderr)
for line in sys.stdin:
    asked = json.loads(line)
    words = asked["texts"][0].split() if asked["texts"] else []
    if words[:1] == ["die"]:
        sys.exit("the weights are gone")
    if words[:1] == ["hang"]:
        import time; time.sleep(600)
    found = {"scores": [float(os.getpid()), float(len(asked["texts"][0]) if words else 0)], "number": asked["number"]}
    if words[:1] == ["refuse"]:
        found = {"error": {"kind": "ModelError", "message": "no such model"}, "number": asked["number"]}
    if words[:1] == ["fail"]:
        found = {"error": {"kind": "EmbedfleetError", "message": "not this text"}, "number": asked["number"]}
    print(json.dumps(found), flush=True)
"""
SECONDS = 30.0


def question(text: str) -> Question:
    return Question(PassSpec(vector="v", kind="dense", model="fake:4"), None, [text])


@pytest.fixture
def models(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[QueryModels]:
    (tmp_path / "echo_script.py").write_text(ECHO)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(query_child, "MODULE", "echo_script")
    with QueryModels() as made:
        yield made


@pytest.fixture
def ask(models: QueryModels) -> Callable[..., Any]:
    def call(*vectors: str, text: str, timeout: float = SECONDS) -> Any:
        return models.ask({vector: question(text) for vector in vectors}, timeout)

    return call


def pid_in(answer: Any) -> int:
    assert isinstance(answer, QueryAnswer), answer
    assert answer.scores is not None
    return int(answer.scores[0] or 0)


def test_a_child_for_each_vector_stays_for_the_next_query(ask: Any) -> None:
    first, second = ask("a", "b", text="one"), ask("a", "b", text="two")
    pids = {vector: pid_in(answer) for vector, answer in first.items()}
    assert list(pids) == ["a", "b"]
    assert len(set(pids.values())) == 2
    assert {vector: pid_in(answer) for vector, answer in second.items()} == pids


def test_a_lost_child_is_an_error_that_names_it_and_the_next_query_starts_another(ask: Any) -> None:
    before = ask("a", "b", text="one")
    lost = ask("a", text="die")["a"]
    assert type(lost) is EmbedfleetError
    assert str(lost).startswith("a: the query encoder ended with status 1; its last words:\na model may print what it")
    assert str(lost).endswith("the weights are gone")
    after = ask("a", "b", text="two")
    assert pid_in(after["a"]) != pid_in(before["a"])
    assert pid_in(after["b"]) == pid_in(before["b"])


def test_a_child_that_is_killed_between_two_queries(ask: Any) -> None:
    pid = pid_in(ask("a", text="one")["a"])
    os.kill(pid, 9)
    answers = [ask("a", text="two")["a"] for _ in range(2)]
    assert "a: the query encoder ended with status -9" in str(answers[0])
    assert pid_in(answers[1]) != pid


def test_an_error_of_the_model_keeps_its_child(ask: Any) -> None:
    pid = pid_in(ask("a", text="one")["a"])
    failed = ask("a", "b", text="fail")
    assert [str(one) for one in failed.values()] == ["not this text"] * 2
    with pytest.raises(ModelError, match="no such model"):
        ask("a", "b", text="refuse")
    assert pid_in(ask("a", text="two")["a"]) == pid


def test_a_child_that_does_not_answer_in_time_is_ended(ask: Any) -> None:
    pid = pid_in(ask("a", text="one")["a"])
    late = ask("a", text="hang", timeout=0.2)["a"]
    assert "a: no answer after 0.2 s; where the model needs longer, give --timeout SECONDS" in str(late)
    assert not Path("/proc", str(pid)).exists()
    assert pid_in(ask("a", text="two")["a"]) != pid


def test_an_answer_that_nobody_waits_for_any_more_is_dropped(models: QueryModels, ask: Any) -> None:
    models.send({"a": question("dropped by Ctrl-C")})
    assert ask("a", text="two")["a"].scores[1] == 3.0


def test_texts_that_no_pipe_takes_at_once(ask: Any) -> None:
    assert ask("a", text="x" * 3_000_000)["a"].scores[1] == 3_000_000.0


def test_the_deadline_holds_while_a_child_does_not_read(ask: Any) -> None:
    began = time.monotonic()
    assert "no answer" in str(ask("a", text="hang", timeout=0.5)["a"])
    models = QueryModels()
    models.send({"a": question("hang")})
    try:
        late = models.ask({"a": question("x" * 3_000_000)}, 0.5)["a"]
    finally:
        models.close()
    assert "no answer" in str(late)
    assert time.monotonic() - began < SECONDS


def test_no_child_outlives_its_models(models: QueryModels, ask: Any) -> None:
    pids = [pid_in(answer) for answer in ask("a", "b", text="one").values()]
    models.close()
    assert not [pid for pid in pids if Path("/proc", str(pid)).exists()]


def test_the_stages_are_measured(models: QueryModels) -> None:
    timings = query_models.Timings()
    models._timings = timings
    models.ask({"a": question("one")}, SECONDS)
    assert list(timings.take()) == ["a: start", "a: load", "a: encode"]
    assert timings.take() == {}


def test_a_limit_of_years_is_one(ask: Any) -> None:
    assert pid_in(ask("a", text="one", timeout=1e9)["a"])
