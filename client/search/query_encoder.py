"""Encode query texts with the models of a run, each in a child process."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ...protocol.errors import EmbedfleetError, RunDirectoryError
from ...protocol.index.fusion import has_only_metadata_weights
from ...protocol.index.queries import QueryVector, SparseQuery, with_terms
from ...protocol.run_directory.layout import RunLayout, segments_in
from ...protocol.run_directory.records.passes import read_pass
from ...protocol.spec.ensemble_spec import EnsembleSpec
from ...protocol.spec.run_spec import Output, PassSpec, RunSpec
from ...protocol.vectors.ensembles import combine
from ...protocol.wire.query import QueryAnswer, SparseRow
from ..output.truncation_lines import cut_query
from ..run_directory.files import AGAIN
from .query_child import Question
from .query_models import TIMEOUT, QueryModels

MOST_REASON = 400
"""Most characters of the reason why a vector is left out."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """The query vectors of the texts. A vector whose model failed is in `left_out` instead."""

    vectors: dict[str, list[QueryVector]]
    """By vector name, one query vector for each text."""
    left_out: dict[str, str]
    """By vector name, the reason in one line."""


class Encoding:
    """Texts that are being encoded, for each vector of the run or each of those `wanted`, by all passes at once.

    RunDirectoryError for a pass that has not begun.
    """

    def __init__(
        self,
        models: QueryModels,
        layout: RunLayout,
        spec: RunSpec,
        texts: Sequence[str],
        wanted: Collection[str] | None = None,
    ) -> None:
        self._models, self._layout, self._texts, self._wanted = models, layout, texts, wanted
        self._ensembles = [one for one in spec.ensembles if wanted is None or one.vector in wanted]
        members = {member for one in self._ensembles for member in one.members}
        needed = None if wanted is None else {*wanted, *members}
        self._passes = [
            one for one in spec.passes if needed is None or any(output.vector in needed for output in one.outputs)
        ]
        self._questions = {
            one.vector: _question(layout, one, texts)
            for one in self._passes
            if not has_only_metadata_weights(layout, one)
        }
        models.send(self._questions)

    def collect(self, timeout: float = TIMEOUT, say: Callable[[str], None] = lambda _line: None) -> Encoded:
        """By vector name, one query vector per text: float32 (dim,), SparseQuery, or float32 (tokens, dim).

        If a sparse vector may have weights from the metadata, the query has the terms of that range too. `say` gets
        a line for each model that truncated a text.

        A vector is left out if its child dies, sends an invalid answer or none within `timeout` seconds, or if its
        model fails on these texts; EmbedfleetError if none is left. For a sparse vector that has metadata weights
        for some chunks, the query's words are used instead, as for `run --queries`. UsageError for a model that cannot be
        used at all.
        """
        answers = self._models.collect(self._questions, timeout)
        found: dict[str, list[QueryVector]] = {}
        failures: dict[str, EmbedfleetError] = {}
        for one in self._passes:
            answer = answers.get(one.vector, QueryAnswer(sparse=[SparseRow([], [])] * len(self._texts)))
            try:
                found |= {
                    output.vector: _vectors(self._layout, output, answer, len(self._texts)) for output in one.outputs
                }
            except (
                EmbedfleetError
            ) as error:  # a text that one head cannot encode is in quarantine for all of them in a run
                failures |= {output.vector: error for output in one.outputs}
            if isinstance(answer, QueryAnswer) and (cut := sum(answer.cut or ())):
                say(cut_query(one.vector, cut))
            if (name := one.metadata_fallback) in found:
                found[name] = [_with_terms(vector, text) for vector, text in zip(found[name], self._texts, strict=True)]
        for one in self._ensembles:
            try:
                found[one.vector] = _combined(one, found)
            except EmbedfleetError as error:
                failures[one.vector] = error
        return self._encoded(found, failures, say)

    def _encoded(
        self,
        found: dict[str, list[QueryVector]],
        failures: dict[str, EmbedfleetError],
        say: Callable[[str], None],
    ) -> Encoded:
        """Replace what can be replaced by the query's words."""
        wanted = self._wanted
        failures = {name: error for name, error in failures.items() if wanted is None or name in wanted}
        if failures and not any(wanted is None or name in wanted for name in found):
            raise EmbedfleetError("; ".join(dict.fromkeys(map(str, failures.values()))))
        fallbacks = [one.metadata_fallback for one in self._passes]
        for name in [name for name in fallbacks if name in failures and _holds_metadata(self._layout, name)]:
            reason = _one_line(name, failures.pop(name))
            say(f"{name}: {reason}; the query's words are looked for in the metadata's weights")
            found[name] = [with_terms(SparseQuery([], []), text) for text in self._texts]
        return Encoded(found, {name: _one_line(name, error) for name, error in failures.items()})


def encode_queries(
    layout: RunLayout,
    spec: RunSpec,
    texts: Sequence[str],
    timeout: float = TIMEOUT,
    wanted: Collection[str] | None = None,
    say: Callable[[str], None] = lambda _line: None,
) -> Encoded:
    """As `Encoding`, with processes that end with the call."""
    with QueryModels() as models:
        return Encoding(models, layout, spec, texts, wanted).collect(timeout, say)


def _question(layout: RunLayout, pass_: PassSpec, texts: Sequence[str]) -> Question:
    fingerprint = read_pass(layout, pass_.outputs[0].vector)
    if fingerprint is None:
        raise RunDirectoryError(f"{layout.root}: unfinished, the pass {pass_.vector} has not begun; {AGAIN}")
    return Question(pass_, fingerprint, texts)


def _vectors(layout: RunLayout, output: Output, answer: QueryAnswer | EmbedfleetError, count: int) -> list[QueryVector]:
    if isinstance(answer, EmbedfleetError):
        raise answer
    found = _decoded(output, answer)
    if len(found) != count:
        raise EmbedfleetError(f"{output.vector}: the query encoder answered {len(found)} vectors for {count} texts")
    if not all(np.isfinite(vector.values if isinstance(vector, SparseQuery) else vector).all() for vector in found):
        raise EmbedfleetError(
            f"{output.vector}: NaN or infinity in the query vector; try another --dtype for this model"
        )
    dim = _dim(layout, output)
    for vector in found:
        if isinstance(vector, SparseQuery):
            fits = len(vector.indices) == len(vector.values)
        else:
            fits = vector.size == 0 or dim in (None, vector.shape[-1])
        if not fits:
            raise EmbedfleetError(
                f"{output.vector}: the query vector has another shape than the run's vectors; put back the run's model"
            )
    return found


def _decoded(output: Output, answer: QueryAnswer) -> list[QueryVector]:
    """The vectors of one output; null is NaN. EmbedfleetError where an array is ragged."""
    try:
        match output.form:
            case "sparse":
                return [
                    SparseQuery(one.indices, np.asarray(one.values, np.float64).tolist()) for one in answer.sparse or []
                ]
            case "multivector":
                return [_as_kept(vector) for vector in answer.multivectors or []]
            case _:
                return [np.asarray(vector, dtype=np.float32) for vector in answer.vectors or []]
    except ValueError as error:
        raise EmbedfleetError(f"{output.vector}: the query encoder sent an invalid vector ({error})") from None


def _as_kept(vector: list[list[float | None]]) -> QueryVector:
    """Token vectors rounded to float16, as a run stores those of its queries, so that a search gets the same scores."""
    with np.errstate(over="ignore"):
        return np.asarray(vector, np.float32).astype(np.float16).astype(np.float32)


def _dim(layout: RunLayout, output: Output) -> int | None:
    """The dimensions of the run's vectors, from the record of its pass."""
    about = read_pass(layout, output.vector)
    return (about.output_dim or None) if about is not None else None


def _holds_metadata(layout: RunLayout, vector: str) -> bool:
    """Whether some chunk has weights from the metadata in the vector: a query can then be answered without its model."""
    from ...protocol.run_directory.tables import (  # late import: it loads Arrow, which few searches need
        VectorSegmentInfo,
        read_info,
    )

    segments = segments_in(layout.vector_folder(vector))
    return any(read_info(layout.vector_segment(vector, one), VectorSegmentInfo).stood_in for one in segments)


def _combined(ensemble: EnsembleSpec, found: Mapping[str, list[QueryVector]]) -> list[QueryVector]:
    """The ensemble's query vectors, combined from those of its members as its rows are."""
    missing = [name for name in ensemble.members if name not in found]
    if missing:
        raise EmbedfleetError(
            f"{ensemble.vector}: cannot be computed, since {', '.join(missing)} cannot encode the query"
        )
    members = [np.array(found[name], np.float32).reshape(len(found[name]), -1) for name in ensemble.members]
    vectors = combine(ensemble, members)
    if not np.isfinite(vectors).all():
        raise EmbedfleetError(f"{ensemble.vector}: the members' query vectors cancel each other out; search without it")
    return list(vectors)


def _one_line(name: str, error: EmbedfleetError) -> str:
    """The error in one line, without the vector's name, which is shown before it."""
    return " ".join(str(error).removeprefix(f"{name}: ").split())[:MOST_REASON]


def _with_terms(vector: QueryVector, text: str) -> QueryVector:
    assert isinstance(vector, SparseQuery), "of a sparse output"
    return with_terms(vector, text)
