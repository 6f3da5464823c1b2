"""The cost of each ranking: seconds of computing, from the runs' `stats.json`, bytes on the disk, and seconds for a query."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import msgspec

from ...protocol.finished_run.candidates import FUSED, RERANK
from ...protocol.run_directory.layout import RunLayout, segments_in
from ...protocol.run_directory.records.stats import read_stats
from ...protocol.spec.run_spec import PassSpec, RunSpec
from ...protocol.statistics.pass_stats import PassStats


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """The cost of a ranking in all sessions together. Signals of one pass share its cost."""

    seconds: float
    per_second: float
    """Rows of the corpus per second; for the reranker, pairs. 0 for a ranking made of other rankings."""
    device: str
    bytes: int = 0
    """Of the vectors' files. 0 for the reranker, which has none."""
    query_seconds: float = 0.0
    """Of encoding one query, the mean over batches of them; for the reranker, of scoring its pairs. 0 if not known."""


def ranking_costs(
    layout: RunLayout, spec: RunSpec, fused: Iterable[str], reranked: bool, queries: int = 0
) -> dict[str, Cost]:
    """The cost of each ranking. The fused one costs the passes that the `fused` signals need; the reranker counts by itself,
    and scored the pairs of all `queries`."""
    passes, together = read_stats(layout).by_vector(), tuple(fused)
    costs = {output.vector: _cost(passes.get(one.vector)) for one in spec.passes for output in one.outputs}
    for ensemble in spec.ensembles:
        costs[ensemble.vector] = sum_costs(passes, spec, [ensemble.vector])
    asked = read_stats(RunLayout(layout.queries)).by_vector()
    costs = {name: _for_use(one, layout, asked, spec, (name,)) for name, one in costs.items()}
    costs[FUSED] = _for_use(sum_costs(passes, spec, together), layout, asked, spec, together)
    if reranked:
        scores = _cost(next(iter(read_stats(RunLayout(layout.scores)).passes), None))
        each = round(scores.seconds / queries, 6) if queries else 0.0
        costs[RERANK] = msgspec.structs.replace(scores, query_seconds=each)
    return costs


def seconds_of(layout: RunLayout, spec: RunSpec) -> Callable[[Iterable[str]], float]:
    """A function from signals to the seconds their passes took. A shared pass counts once; an ensemble costs its members."""
    passes = read_stats(layout).by_vector()
    return lambda signals: sum_costs(passes, spec, signals).seconds


def sum_costs(passes: Mapping[str, PassStats], spec: RunSpec, signals: Iterable[str]) -> Cost:
    parts = [_cost(passes.get(one.vector)) for one in _passes_of(spec, signals)]
    devices = ", ".join(dict.fromkeys(one.device for one in parts if one.device))
    return Cost(seconds=round(sum(one.seconds for one in parts), 3), per_second=0.0, device=devices)


def _passes_of(spec: RunSpec, signals: Iterable[str]) -> list[PassSpec]:
    """The passes that these signals need, each once."""
    members = {one.vector: one.members for one in spec.ensembles}
    needed = {vector for name in signals for vector in members.get(name, (name,))}
    return [one for one in spec.passes if needed & {output.vector for output in one.outputs}]


def _for_use(
    cost: Cost, layout: RunLayout, asked: Mapping[str, PassStats], spec: RunSpec, signals: tuple[str, ...]
) -> Cost:
    """The cost with the size of these signals, and the seconds of encoding a query for them by its passes, `asked`."""
    files = [layout.vector_segment(name, one) for name in signals for one in segments_in(layout.vector_folder(name))]
    passes = [found for one in _passes_of(spec, signals) if (found := asked.get(one.vector)) and found.computed]
    seconds = sum(one.seconds / one.computed for one in passes)
    size = sum(path.stat().st_size for path in files)
    return msgspec.structs.replace(cost, bytes=size, query_seconds=round(seconds, 6))


def _cost(figures: PassStats | None) -> Cost:
    if figures is None:
        return Cost(seconds=0.0, per_second=0.0, device="")
    return Cost(seconds=figures.seconds, per_second=figures.chunks_per_second, device=figures.device)
