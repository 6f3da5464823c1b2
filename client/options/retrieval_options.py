"""Make a RetrievalPlan of `--queries` and its related flags, and check them before anything is computed."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from os import PathLike
from pathlib import Path
from typing import Any

from ...protocol.errors import SourceError, UsageError
from ...protocol.object_storage.address import is_address, parse_address
from ...protocol.source.remote_corpus import check_readable
from ...protocol.source.remote_files import find_file
from ...protocol.spec.run_spec import RunSpec
from ..arguments import check_number, expand_path
from ..evaluation.qrels import read_qrels
from .retrieval_plan import RetrievalPlan
from .signal_names import choose_signals
from .spec_builder import make_pass

CANDIDATES, TOP_K = 100, 10


def plan_if_asked(
    queries: Path | None,
    *,
    qrels: Path | None,
    rerank: str | None,
    candidates: int | None,
    top_k: int | None,
    signals: Sequence[str],
    **rest: Any,
) -> RetrievalPlan | None:
    """`build_plan`, or None where no queries are given."""
    if queries is not None:
        candidates = CANDIDATES if candidates is None else candidates
        top_k = min(TOP_K, max(candidates, 1)) if top_k is None else top_k
        return build_plan(
            queries, qrels=qrels, rerank=rerank, candidates=candidates, top_k=top_k, signals=signals, **rest
        )
    flags: dict[str, Any] = {"--qrels": qrels, "--rerank": rerank, "--candidates": candidates, "--top-k": top_k}
    flags["--signals"] = ",".join(signals) or None
    for flag, value in flags.items():
        if value is not None:
            raise UsageError(f"{flag} {value}: give --queries Q.jsonl too")
    return None


def build_plan(
    queries: str | PathLike[str],
    *,
    qrels: str | PathLike[str] | None,
    rerank: str | None,
    candidates: int,
    top_k: int,
    spec: RunSpec,
    signals: Sequence[str] = (),
    **options: Any,
) -> RetrievalPlan:
    """Check the flags and build the plan for the run of `spec`. `options` are fields of PassSpec for the reranker.

    UsageError or SourceError names the flag and the remedy.
    """
    if spec.index == "none":
        raise UsageError("--queries needs the searchable index for its candidates: leave out --index none")
    _check_counts(candidates, top_k)
    chosen = choose_signals(spec, signals, "the run")
    source = _readable(queries, "--queries")
    if is_address(source):
        try:
            check_readable(source, None, is_file=True)
        except SourceError as error:
            raise SourceError(f"--queries {error}") from error
    judgements = None
    if qrels is not None:
        judgements = _readable(qrels, "--qrels")
        if find_spec("ir_measures") is None:
            raise UsageError("--qrels needs ir-measures: pip install 'embedfleet[eval]'")
        read_qrels(judgements)  # to report a bad line before the embedding, not after it
    reranker = make_pass("rerank", rerank, options) if rerank is not None else None
    wanted = tuple(chosen.wanted) if signals else ()
    return RetrievalPlan(source, judgements, reranker, candidates, top_k, wanted, tuple(chosen.named))


def _check_counts(candidates: int, top_k: int) -> None:
    check_number(candidates, "--candidates")
    if candidates < 1:
        raise UsageError(f"--candidates {candidates}: give 1 or more")
    if not 1 <= top_k <= candidates:
        raise UsageError(f"--top-k {top_k}: give 1 or more, and at most the {candidates} of --candidates")


def _readable(value: str | PathLike[str], flag: str) -> str:
    """The absolute path of the file, or its address. SourceError if there is no file that can be read."""
    if is_address(value):
        address = str(parse_address(value, flag, SourceError))
        find_file(address, flag)
        return address
    path = expand_path(value, flag, SourceError).absolute()
    if path.exists() and not path.is_file() and not path.is_dir():  # a pipe: it can be read only once
        raise SourceError(f"{flag} {path}: neither a file nor a folder; write it to a file first")
    try:
        with path.open("rb"):
            return str(path)
    except IsADirectoryError:
        raise SourceError(f"{flag} {path}: is a folder; give a file") from None
    except OSError as error:
        raise SourceError(f"{flag} {path}: {error.strerror or error}") from error
