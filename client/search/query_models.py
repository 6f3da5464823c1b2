"""The models that encode the queries of a search, each in a child process that stays for the next query."""

from __future__ import annotations

import math
import selectors
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from ...protocol.errors import EmbedfleetError, UsageError
from ...protocol.wire.query import QueryAnswer
from .query_child import ChildLost, QueryChild, Question
from .timings import Timings

TIMEOUT = 120.0
"""Default of `--timeout`: seconds for all models together, loading included."""
MOST_WAIT = 3600.0
"""Seconds of one wait; the system takes no more than 24 days."""

Answers = dict[str, QueryAnswer | EmbedfleetError]
"""By vector name."""


class QueryModels:
    """One child process for each vector that was requested, until `close`. A child that was lost is started again by the next
    request."""

    def __init__(self, timings: Timings | None = None) -> None:
        self._children: dict[str, QueryChild] = {}
        self._began: dict[str, float] = {}
        self._timings = timings if timings is not None else Timings()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def ask(self, questions: Mapping[str, Question], timeout: float) -> Answers:
        """`send` and `collect`."""
        self.send(questions)
        return self.collect(questions, timeout)

    def send(self, questions: Mapping[str, Question]) -> None:
        """Put each question to its vector's child, which is started if it is not there."""
        for vector, question in questions.items():
            self._began[vector] = time.monotonic()
            if vector not in self._children:
                self._children[vector] = QueryChild(vector)
            self._children[vector].send(question)

    def collect(self, questions: Mapping[str, Question], timeout: float) -> Answers:
        """Each answer or error, `timeout` seconds after they were sent at the latest. A model that cannot be used is a
        UsageError; the others may then still be at work."""
        answers: Answers = {}
        deadline = max((self._began[vector] for vector in questions), default=0.0) + timeout
        with selectors.DefaultSelector() as selector:
            while waiting := [vector for vector in questions if vector not in answers]:
                left = deadline - time.monotonic()
                self._watch(selector, waiting)
                selector.select(min(max(0.0, left), MOST_WAIT))
                for vector in waiting:
                    found = self._received(vector)
                    if found is None and left <= 0:
                        found = self._late(vector, timeout)
                    if found is not None:
                        answers[vector] = found
        return {vector: answers[vector] for vector in questions}

    def close(self) -> None:
        """End all children."""
        while self._children:
            self._children.popitem()[1].close()

    def _watch(self, selector: selectors.BaseSelector, waiting: list[str]) -> None:
        """Wait for these children's answers, and for room for what is to be sent to them."""
        for key in list(selector.get_map().values()):
            selector.unregister(key.fileobj)
        for vector in waiting:
            child = self._children[vector]
            selector.register(child.from_fd, selectors.EVENT_READ)
            if child.is_sending:
                selector.register(child.to_fd, selectors.EVENT_WRITE)

    def _received(self, vector: str) -> QueryAnswer | EmbedfleetError | None:
        child = self._children[vector]
        child.flush()
        try:
            answer = child.receive()
        except ChildLost as lost:
            self._drop(vector)
            return EmbedfleetError(str(lost))
        except UsageError:
            raise
        except EmbedfleetError as error:
            return error
        if answer is not None:
            self._measure(vector, answer)
        return answer

    def _late(self, vector: str, timeout: float) -> EmbedfleetError:
        words = self._children[vector].last_words()
        self._drop(vector)
        return EmbedfleetError(
            f"{vector}: no answer after {timeout:g} s; where the model needs longer, give --timeout SECONDS{words}"
        )

    def _drop(self, vector: str) -> None:
        self._children.pop(vector).close()

    def _measure(self, vector: str, answer: QueryAnswer) -> None:
        waited = time.monotonic() - self._began[vector]
        self._timings.add(f"{vector}: start", waited - answer.load_seconds - answer.encode_seconds)
        self._timings.add(f"{vector}: load", answer.load_seconds)
        self._timings.add(f"{vector}: encode", answer.encode_seconds)


def check_timeout(seconds: float) -> None:
    """Raise UsageError for a time that is none."""
    if not (math.isfinite(seconds) and seconds > 0):
        raise UsageError(f"--timeout {seconds:g}: give seconds, more than 0")
