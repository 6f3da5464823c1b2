"""Sections of the report: the setting at its top, and single queries at its end."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from ..output.formatting import pluralize
from .query_results import JudgedChunk, QueryRanking, QueryResult
from .setting import Setting, SignalModel


def grid(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of text cells."""
    names = "".join(f"<th>{escape(name)}</th>" for name in head)
    lines = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{names}</tr></thead><tbody>{lines}</tbody></table></div>'


def setting_section(setting: Setting, queries: int, candidates: int) -> str:
    """Corpus, date, versions, search and fusion as a list of terms, then the models as a table."""
    terms = {
        "Corpus": f"{Path(setting.corpus).name}, {pluralize(setting.chunks, 'chunk')}",
        "Queries": pluralize(queries, "judged query", "judged queries"),
        "Search": f"{pluralize(candidates, 'candidate')} of each signal{_times(setting.search_seconds)}",
        "Fusion": f"{' + '.join(setting.fused)}: {setting.fusion}",
        "Reranker": setting.reranker or "none",
        "Date": setting.date,
        "Versions": ", ".join(f"{name} {version}" for name, version in setting.versions.items()),
    }
    lines = "".join(f"<dt>{term}</dt><dd>{escape(what)}</dd>" for term, what in terms.items())
    head = ("signal", "model", "dimensions", "computed in", "stored as")
    return f"<dl>{lines}</dl>\n{grid(head, [_model(one) for one in setting.models])}\n"


def query_section(results: Sequence[QueryResult], queries: int) -> str:
    """A collapsed part for each query; empty without queries."""
    if not results:
        return ""
    which = (
        f"The {len(results):,} of {queries:,} judged queries on which the rankings differ most at nDCG@10"
        if len(results) < queries
        else "Those on which the rankings differ most at nDCG@10 come first"
    )
    parts = "".join(_query(one) for one in results)
    return f'<h2>Query by query</h2>\n<p class="note">{which}.</p>\n{parts}'


def _query(result: QueryResult) -> str:
    verdict = f"won by {_listed(result.won)}, lost by {_listed(result.lost)}" if result.won else "all rankings alike"
    head = ("ranking", "nDCG@10", "first relevant", "first chunk")
    table = grid(head, [_ranking(one) for one in result.rankings])
    more = result.relevant_count - len(result.relevant)
    chunks = "".join(f"<li>{escape(_chunk(one))}</li>" for one in result.relevant)
    rest = f"<li>{pluralize(more, 'more chunk')}</li>" if more else ""
    return (
        f'<details class="query"><summary>{escape(result.text or result.id)} <span class="note">{escape(verdict)}</span>'
        f"</summary>\n{table}\n<p>Relevant to {escape(result.id)}:</p><ul>{chunks}{rest}</ul></details>\n"
    )


def _ranking(one: QueryRanking) -> tuple[str, ...]:
    rank = "-" if one.relevant_rank is None else f"{one.relevant_rank:,}"
    first = "-" if one.first is None else f"{'✓' if one.first.judgement > 0 else '✗'} {_chunk(one.first)}"
    return (one.name, f"{one.ndcg:.4f}", rank, first)


def _chunk(one: JudgedChunk) -> str:
    return f"{one.id}: {one.text}"


def _model(one: SignalModel) -> tuple[str, ...]:
    revision = f" ({one.revision[:12]})" if one.revision else ""
    return (one.name, one.model + revision, f"{one.dim:,}" if one.dim else "-", one.dtype, one.storage or "-")


def _times(seconds: dict[str, float]) -> str:
    shown = ", ".join(f"{name} {1000 * seconds[name]:,.1f} ms" for name in ("p50", "p95") if name in seconds)
    return f"; one query in {shown}" if shown else ""


def _listed(names: Sequence[str]) -> str:
    return " and ".join(names)
