"""Check whether candidates, ranking and evaluation match the run's vectors, queries and prompts.

They become stale if a model is added or removed, a segment is computed again, or `--query-prompt` changes. A command with
`--queries` makes them again. A command without it leaves them, and this module reports that they are stale.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from ...protocol.errors import RunDirectoryError
from ...protocol.finished_run.candidate_state import candidate_state
from ...protocol.finished_run.done_run import open_done_run
from ...protocol.run_directory.layout import RunLayout
from ...protocol.run_directory.records.candidates import CandidatesRecord, read_candidates
from ...protocol.run_directory.records.exports import read_export
from ...protocol.run_directory.run_json import read_spec
from ...protocol.spec.run_spec import RunSpec


def stale_ranking(layout: RunLayout) -> Iterator[str]:
    """A message with its remedy if the ranking is stale. Other checks report damaged and missing files."""
    try:
        record = read_candidates(layout)
        spec, query_spec = read_spec(layout), read_spec(RunLayout(layout.queries))
    except RunDirectoryError:
        return
    if record is None:
        return
    reason = _other_models(spec, query_spec) or _other_vectors(layout, record) or _other_candidates(layout, record)
    if reason:
        what = "the candidates, their ranking and its evaluation are stale"
        remedy = f"run the same command again with --queries {shlex.quote(query_spec.source)}"
        yield f"{layout.rerank}: {what}: {reason}; {remedy}"


def _other_models(spec: RunSpec, query_spec: RunSpec) -> str:
    ours, theirs = [one.vector for one in spec.outputs], [one.vector for one in query_spec.outputs]
    if ours != theirs:
        new, gone = sorted(set(ours) - set(theirs)), sorted(set(theirs) - set(ours))
        parts = [f"{', '.join(new)} added since"] if new else []
        parts += [f"{', '.join(gone)} removed since"] if gone else []
        return " and ".join(parts) or "the vectors have another order"
    for one, query in zip(spec.passes, query_spec.passes, strict=False):
        if one.kind == query.kind and one.query_prompt != query.prompt:
            had, has = (
                repr(text) if text is not None else "the model's own" for text in (query.prompt, one.query_prompt)
            )
            return f"the queries were encoded with the prompt {had} by {one.vector}, but searches use {has}"
    return ""


def _other_vectors(layout: RunLayout, record: CandidatesRecord) -> str:
    try:
        run, queries = open_done_run(layout.root), open_done_run(layout.queries)
        if record.state:
            same = record.state == candidate_state(run, queries)
        else:  # of 0.1.0
            same = record.made_of == candidate_state(run, queries, f"candidates 3 {record.candidates}".encode())
    except (RunDirectoryError, ValueError):
        return ""  # not done, or damaged
    return "" if same else "vectors or queries were computed again since"


def _other_candidates(layout: RunLayout, found: CandidatesRecord) -> str:
    try:
        record = read_export(layout)
    except RunDirectoryError:
        return ""
    for one in record.files if record is not None else ():
        of_candidates = len(one.made_of) == len(found.made_of)  # 0.1.0 noted the shorter digest of the vectors
        if one.name == layout.reranked.name and of_candidates and one.made_of != found.made_of:
            return "other candidates were found since the ranking"
    return ""
