"""How many texts were cut at a model's limit, in words."""

from __future__ import annotations

from collections.abc import Iterator

from ..protocol.control_messages import RunEnded
from ..protocol.spec import RunSpec
from ..protocol.truncation import TELLING, Truncation
from . import words
from .words import counted

UNKNOWN = "unknown"


def percent(share: float | None) -> str:
    """`12.5%`, or that nobody knows."""
    return UNKNOWN if share is None else words.percent(share)


def cut_cell(one: Truncation) -> str:
    """For a table: texts that were cut, and the share of all tokens that is in no vector."""
    return f"{one.truncated:,} / {percent(one.share_cut)}"


def advice(vector: str, one: Truncation, limit: int, asked: int | None) -> str:
    """What helps, where more than a hundredth of a vector's chunks was cut; else empty.

    `limit` is the model's in tokens, 0 where it is not known; `asked`: what --max-tokens said, if anything.
    """
    if one.share_truncated <= TELLING:
        return ""
    lost = "how many of their tokens are in no vector is not known"
    if one.share_cut is not None:
        lost = f"{percent(one.share_cut)} of all tokens are in no vector"
    at = f" at {limit:,} tokens" if limit else ""
    helps = "a model that takes longer texts, or smaller chunks"
    if asked is not None:
        helps = f"a larger --max-tokens than {asked:,}, {helps}"
    elif not limit:
        helps = f"a larger --max-tokens where it was set, {helps}"
    else:
        helps += " (without --max-tokens, the limit is the model's own)"
    return (
        f"{vector}: {one.truncated:,} of {counted(one.texts, 'chunk')} ({percent(one.share_truncated)}) were cut{at}; "
        f"{lost}. What helps: {helps}"
    )


def advice_lines(ending: RunEnded, spec: RunSpec) -> Iterator[str]:
    """For each pass of a run that has ended."""
    for one, asked in zip(ending.passes, spec.passes, strict=True):
        if one.truncation is not None and (
            line := advice(one.vector, one.truncation, one.max_tokens, asked.max_tokens)
        ):
            yield line


def cut_query(vector: str, tokens: int) -> str:
    """That a query was cut, for who searches."""
    return f"{vector}: the query is longer than the model takes; {counted(tokens, 'token')} of it are not looked for"


def cut_pairs(vector: str, pairs: int, of: int) -> str:
    """That a reranker did not see the whole of some pairs."""
    return f"{vector}: {pairs:,} of {counted(of, 'pair')} of query and text are longer than the reranker takes; they were cut"


def query_lines(ending: RunEnded) -> Iterator[str]:
    """For each pass that cut a query: what was cut off is not looked for."""
    for one in ending.passes:
        if one.truncation is not None and one.truncation.truncated:
            cut, queries = one.truncation.truncated, counted(one.truncation.texts, "query", "queries")
            yield f"{one.vector}: {cut:,} of {queries} cut at the model's limit; what lies behind is not looked for"
