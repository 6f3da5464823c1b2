"""Messages about texts that were truncated at a model's limit."""

from __future__ import annotations

from collections.abc import Iterator

from ...protocol.run_directory.truncation import NOTABLE_SHARE, Truncation
from ...protocol.spec.run_spec import RunSpec
from ...protocol.wire.control import RunEnded
from . import formatting
from .formatting import pluralize

UNKNOWN = "unknown"


def percent(share: float | None) -> str:
    """`12.5%`, or `unknown`."""
    return UNKNOWN if share is None else formatting.percent(share)


def cut_cell(truncation: Truncation) -> str:
    """A table cell: the number of truncated texts, and the share of all tokens that is in no vector."""
    return f"{truncation.truncated:,} / {percent(truncation.share_cut)}"


def advice(vector: str, truncation: Truncation, limit: int, asked: int | None) -> str:
    """A line with the remedy if more than 1% of a vector's chunks were truncated; else empty.

    `limit` is the model's limit in tokens, 0 if it is not known; `asked` is --max-tokens, or None.
    """
    if truncation.share_truncated <= NOTABLE_SHARE:
        return ""
    lost = "the share of tokens that are in no vector is not known"
    if truncation.share_cut is not None:
        lost = f"{percent(truncation.share_cut)} of all tokens are in no vector"
    at = f" at {limit:,} tokens" if limit else ""
    helps = "a model that takes longer texts, or smaller chunks"
    if asked is not None:
        helps = f"a larger --max-tokens than {asked:,}, {helps}"
    elif not limit:
        helps = f"a larger --max-tokens where it was set, {helps}"
    else:
        helps += " (without --max-tokens, the limit is the model's own)"
    chunks, share = pluralize(truncation.texts, "chunk"), percent(truncation.share_truncated)
    return f"{vector}: {truncation.truncated:,} of {chunks} ({share}) were cut{at}; {lost}. What helps: {helps}"


def advice_lines(ending: RunEnded, spec: RunSpec) -> Iterator[str]:
    """The advice for each pass of a run that has ended."""
    for pass_, pass_spec in zip(ending.passes, spec.passes, strict=True):
        if pass_.truncation is not None and (
            line := advice(pass_.vector, pass_.truncation, pass_.max_tokens, pass_spec.max_tokens)
        ):
            yield line


def cut_query(vector: str, tokens: int) -> str:
    """A line on a truncated query."""
    return f"{vector}: the query is longer than the model takes, and was cut; {pluralize(tokens, 'token')} ignored"


def cut_pairs(vector: str, pairs: int, of: int) -> str:
    """A line on pairs that the reranker truncated."""
    return f"{vector}: {pairs:,} of {pluralize(of, 'pair')} of query and text are longer than the reranker takes; they were cut"


def query_lines(ending: RunEnded) -> Iterator[str]:
    """A line for each pass that truncated queries."""
    for pass_ in ending.passes:
        if pass_.truncation is not None and pass_.truncation.truncated:
            cut, queries = pass_.truncation.truncated, pluralize(pass_.truncation.texts, "query", "queries")
            yield f"{pass_.vector}: {cut:,} of {queries} cut at the model's limit; the rest of their text is ignored"
