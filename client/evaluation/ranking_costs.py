"""The cost of each ranking in seconds of computing, from the runs' `stats.json`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import msgspec

from ...protocol.finished_run.candidates import FUSED, RERANK
from ...protocol.run_directory.layout import RunLayout
from ...protocol.run_directory.records.stats import read_stats
from ...protocol.spec.run_spec import RunSpec
from ...protocol.statistics.pass_stats import PassStats


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """The cost of a ranking in all sessions together. Signals of one pass share its cost."""

    seconds: float
    per_second: float
    """Rows of the corpus per second; for the reranker, pairs. 0 for a ranking made of other rankings."""
    device: str


def ranking_costs(layout: RunLayout, spec: RunSpec, fused: Iterable[str], reranked: bool) -> dict[str, Cost]:
    """The cost of each ranking. The fused one costs the passes that the `fused` signals need; the reranker counts by itself."""
    passes = read_stats(layout).by_vector()
    costs = {output.vector: _cost(passes.get(one.vector)) for one in spec.passes for output in one.outputs}
    for ensemble in spec.ensembles:
        costs[ensemble.vector] = sum_costs(passes, spec, [ensemble.vector])
    costs[FUSED] = sum_costs(passes, spec, fused)
    if reranked:
        costs[RERANK] = _cost(next(iter(read_stats(RunLayout(layout.scores)).passes), None))
    return costs


def seconds_of(layout: RunLayout, spec: RunSpec) -> Callable[[Iterable[str]], float]:
    """A function from signals to the seconds their passes took. A shared pass counts once; an ensemble costs its members."""
    passes = read_stats(layout).by_vector()
    return lambda signals: sum_costs(passes, spec, signals).seconds


def sum_costs(passes: Mapping[str, PassStats], spec: RunSpec, signals: Iterable[str]) -> Cost:
    members = {one.vector: one.members for one in spec.ensembles}
    needed = {vector for name in signals for vector in members.get(name, (name,))}
    parts = [_cost(passes.get(one.vector)) for one in spec.passes if needed & {output.vector for output in one.outputs}]
    devices = ", ".join(dict.fromkeys(one.device for one in parts if one.device))
    return Cost(seconds=round(sum(one.seconds for one in parts), 3), per_second=0.0, device=devices)


def _cost(figures: PassStats | None) -> Cost:
    if figures is None:
        return Cost(seconds=0.0, per_second=0.0, device="")
    return Cost(seconds=figures.seconds, per_second=figures.chunks_per_second, device=figures.device)
