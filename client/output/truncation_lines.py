"""Messages about texts that were truncated at a model's limit."""

from __future__ import annotations

from collections.abc import Iterator

from ...protocol.run_directory.truncation import NOTABLE_SHARE, Truncation
from ...protocol.spec.run_spec import RunSpec
from ...protocol.wire.control import RunEnded
from . import formatting
from .formatting import counted

UNKNOWN = "unknown"


def percent(share: float | None) -> str:
    """`12.5%`, or `unknown`."""
    return UNKNOWN if share is None else formatting.percent(share)


def cut_cell(one: Truncation) -> str:
    """A table cell: truncated texts, and the share of all tokens that is in no vector."""
    return f"{one.truncated:,} / {percent(one.share_cut)}"


def advice(vector: str, one: Truncation, limit: int, asked: int | None) -> str:
    """A line with the remedy if more than 1% of a vector's chunks were truncated; else empty.

    `limit` is the model's limit in tokens, 0 if it is not known; `asked` is --max-tokens, or None.
    """
    if one.share_truncated <= NOTABLE_SHARE:
        return ""
    lost = "the share of tokens that are in no vector is not known"
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
    """The advice for each pass of a run that has ended."""
    for one, asked in zip(ending.passes, spec.passes, strict=True):
        if one.truncation is not None and (
            line := advice(one.vector, one.truncation, one.max_tokens, asked.max_tokens)
        ):
            yield line


def cut_query(vector: str, tokens: int) -> str:
    """A line on a truncated query."""
    return f"{vector}: the query is longer than the model takes, and was cut; {counted(tokens, 'token')} ignored"


def cut_pairs(vector: str, pairs: int, of: int) -> str:
    """A line on pairs that the reranker truncated."""
    return f"{vector}: {pairs:,} of {counted(of, 'pair')} of query and text are longer than the reranker takes; they were cut"


def query_lines(ending: RunEnded) -> Iterator[str]:
    """A line for each pass that truncated queries."""
    for one in ending.passes:
        if one.truncation is not None and one.truncation.truncated:
            cut, queries = one.truncation.truncated, counted(one.truncation.texts, "query", "queries")
            yield f"{one.vector}: {cut:,} of {queries} cut at the model's limit; the rest of their text is ignored"
