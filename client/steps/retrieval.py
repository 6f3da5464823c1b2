"""`embedfleet run --queries`: encode queries, find candidates, rerank pairs, evaluate the ranking. Each step resumes.

Queries and (query, text) pairs are corpora of runs in `DIR/queries` and `DIR/rerank/run`. So leases, batches, deadlines,
quarantine and resume work as for any run.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec import UNSET

from ...protocol.index.fusion import has_only_metadata_weights
from ...protocol.run_directory.layout import RunLayout
from ...protocol.run_directory.records.candidates import CandidatesRecord, read_candidates
from ...protocol.run_directory.records.manifest import read_manifest
from ...protocol.run_directory.records.sections import CrossEncoderRerankRun
from ...protocol.run_directory.run_json import read_spec
from ...protocol.spec.run_spec import PassSpec, RunSpec
from ...protocol.wire.control import RunEnded
from ..options.retrieval_plan import RetrievalPlan
from ..output.formatting import pluralize
from ..output.truncation_lines import percent, query_lines
from .derived.derived_run import DerivedRun
from .run_summary import JsonObject, RunSummary
from .session import Interrupted, Session, memory_field
from .step_summary import Stage, candidate_stage, pass_stages

if TYPE_CHECKING:
    from ..evaluation.evaluation import Evaluation


class Retrieval:
    """The steps for one run directory. `stages` gains each one that is done."""

    def __init__(self, session: Session, spec: RunSpec, out: Path, plan: RetrievalPlan, stages: list[Stage]) -> None:
        self._session, self._spec, self._plan, self._stages = session, spec, plan, stages
        self._layout = RunLayout(out)
        self.evaluation: Evaluation | None = None
        """Set by `run` if the plan has judgements."""

    def run(self, printed: RunSummary) -> int:
        """Do the missing steps, and return the number of quarantined queries and pairs. `printed` gains the JSON output.

        Raises Interrupted after a signal. Finished steps are kept.
        """
        queries = self._encode()
        candidates = self._find()
        scored = self._score(candidates.pairs)
        section = self._rank(candidates.pairs)
        printed["rerank"] = {
            "file": str(self._layout.reranked),
            "queries": _counts(queries),
            "candidates": msgspec.to_builtins(candidates),
            "run": msgspec.to_builtins(section),
        }
        if section is not None:
            self._session.say(_reranked(section))
        self._session.say(f"the first {self._plan.top_k} for each query, with every score: {self._layout.reranked}")
        if self._plan.qrels is not None:
            printed["evaluation"] = self._evaluate(self._plan.qrels)
        return queries.quarantined + (scored.quarantined if scored is not None else 0)

    def _encode(self) -> RunEnded:
        run = DerivedRun(self._session, self._query_spec(), self._layout.queries, "queries")
        queries = run.follow("other queries or models")
        self._stages += pass_stages(queries, "queries: ")
        for line in query_lines(queries):
            self._session.say(f"queries: {line}")
        return queries

    def _find(self) -> CandidatesRecord:
        """Find the candidates, and return `candidates.json`."""
        plan, layout = self._plan, self._layout
        self._session.say(f"finding {plan.candidates:,} candidates of each signal, for each query")
        with self._session.stage("candidates") as fields:
            arguments = [str(layout.root), f"--candidates={plan.candidates}"]
            arguments += [f"--wanted={name}" for name in plan.wanted] + [f"--named={name}" for name in plan.named]
            peak = self._session.process("embedfleet.exporter.commands.candidates", arguments)
            record = read_candidates(layout)
            assert record is not None, "the process has written it"
            fields |= {"rows": record.queries, "pairs": record.pairs, **memory_field(peak)}
        self._stages.append(candidate_stage(record, peak))
        self._session.say(
            f"{pluralize(record.queries, 'query', 'queries')}, {pluralize(record.pairs, 'fused candidate')}"
            + (f" of {' + '.join(record.fused)}" if plan.wanted else "")
            + (f"; nothing was found for {record.without:,}" if record.without else "")
        )
        for name, count in record.left_out.items():
            self._session.say(
                f"{name} is left out for {pluralize(count, 'query', 'queries')}: it knows no word of them, or failed"
            )
        return record

    def _score(self, pairs: int) -> RunEnded | None:
        reranker = self._plan.rerank
        if reranker is None or not pairs:
            return None
        source = str(self._layout.pairs)
        spec = RunSpec(source=source, passes=(reranker,), index="none", preprocessing=self._policy())
        ending = DerivedRun(self._session, spec, self._layout.scores, "pairs").follow("other pairs or another reranker")
        self._stages += pass_stages(ending, unit="pairs")
        return ending

    def _rank(self, pairs: int) -> CrossEncoderRerankRun | None:
        """Write the ranking, and return the manifest's section of the reranker, None without one."""
        plan, layout = self._plan, self._layout
        reranker = [f"--reranker={plan.rerank.vector}"] if plan.rerank is not None else []
        with self._session.stage("ranking") as fields:
            arguments = [str(layout.root), f"--top-k={plan.top_k}", *reranker]
            peak = self._session.process("embedfleet.exporter.commands.rank", arguments)
            manifest = read_manifest(layout)
            section = (manifest.rerank_run or None) if manifest is not None else None
            fields |= {"rows": pairs, **memory_field(peak)}
            if section is not None:
                fields |= {"coverage": section.coverage, "fallbacks": section.fallbacks}
        return section

    def _query_spec(self) -> RunSpec:
        passes = tuple(self._query_pass(one) for one in self._spec.passes)
        return RunSpec(
            source=self._plan.queries,
            passes=passes,
            index="none",
            preprocessing=self._policy(),
            ensembles=self._spec.ensembles,
        )

    def _policy(self) -> str:
        """The preprocessing policy of the chunks, which may be older than that of a new run."""
        return read_spec(self._layout).preprocessing

    def _query_pass(self, pass_: PassSpec) -> PassSpec:
        """The pass that encodes queries. A learned sparse model has no fallback: its failed queries go to quarantine."""
        if pass_.kind == "sparse" and has_only_metadata_weights(self._layout, pass_):
            return PassSpec(vector=pass_.vector, kind="metadata", model="metadata", side="query")
        fallback = pass_.kind == "metadata"
        return msgspec.structs.replace(
            pass_,
            side="query",
            prompt=pass_.query_prompt,
            query_prompt=None,
            average_length=None,
            fallback=fallback,
            storage="float32",
        )

    def _evaluate(self, qrels: str) -> JsonObject:
        from ..evaluation.evaluation import evaluate
        from ..evaluation.report import write_report

        if self._session.received:
            raise Interrupted
        evaluation = self.evaluation = evaluate(self._layout, qrels)
        write_report(self._layout, evaluation)
        self._session.say(f"the report: {self._layout.report}")
        return msgspec.to_builtins(evaluation)


def _counts(ending: RunEnded) -> dict[str, int]:
    return {"read": ending.chunks, "encoded": ending.committed, "quarantined": ending.quarantined}


def _reranked(section: CrossEncoderRerankRun) -> str:
    latency, scored, pairs = section.batch_seconds, section.scored, section.pairs
    text = f"{section.model}: {scored:,} of {pairs:,} pairs scored ({percent(scored / max(pairs, 1))})"
    if latency:
        text += f", batches p50 {latency['p50']:.3f} s, p95 {latency['p95']:.3f} s, p99 {latency['p99']:.3f} s"
    if section.truncated:
        share = None if section.tokens_cut_share is UNSET else section.tokens_cut_share
        text += f"; {pluralize(section.truncated, 'pair')} cut ({percent(share)} of all tokens)"
    reasons = "; ".join(f"{reason} ({count:,})" for reason, count in list(section.reasons.items())[:3])
    return text + (f"; {section.fallbacks:,} keep their fused order: {reasons}" if reasons else "")
