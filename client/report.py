"""The evaluation as one HTML file that needs nothing else: bars in inline SVG, no scripts, light or dark as the reader's."""

from __future__ import annotations

from html import escape

import msgspec

from ..protocol.durable import commit_bytes, make_folder
from ..protocol.layout import RunLayout
from .evaluation import MEASURES, Evaluation, Figures

_STYLE = """
:root { color-scheme: light dark; --ink: #1c2430; --soft: #5b6675; --paper: #ffffff; --line: #dde2e8; --bar: #2f6f9f;
  --fused: #b0691a; --rerank: #3d7d44; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e8ed; --soft: #9aa5b1; --paper: #14181d; --line: #323a44;
  --bar: #6aa9d8; --fused: #dd9a4c; --rerank: #7cc084; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 60rem;
  margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.05rem; margin: 1.6rem 0 .3rem; }
table { border-collapse: collapse; width: 100%; } th, td { padding: .3rem .6rem; border-bottom: 1px solid var(--line);
  text-align: right; font-variant-numeric: tabular-nums; } th:first-child, td:first-child { text-align: left; }
.note { color: var(--soft); } svg { width: 100%; height: auto; } text { fill: var(--ink); font: 13px system-ui, sans-serif; }
.bar { fill: var(--bar); } .fused { fill: var(--fused); } .rerank { fill: var(--rerank); } .rest { fill: var(--line); }
"""

_WIDTH, _LABEL, _ROW, _VALUE = 760, 230, 24, 60


def write_report(layout: RunLayout, found: Evaluation) -> None:
    """Commit export/report.html and export/evaluation.json."""
    make_folder(layout.export)
    commit_bytes(layout.evaluation, msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n")
    commit_bytes(layout.report, render(found, layout.root.name).encode())


def render(found: Evaluation, title: str) -> str:
    """The page."""
    charts = "".join(f"<h2>{escape(measure)}</h2>\n{_chart(found, measure)}\n" for measure in MEASURES)
    notes = "".join(f"<li>{escape(note)}</li>" for note in found.notes)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Retrieval: {escape(title)}</title><style>{_STYLE}</style></head><body>
<h1>Retrieval: {escape(title)}</h1>
<p>{escape(found.verdict)}</p>
<p class="note">{found.queries:,} judged queries, {found.candidates:,} candidates of each signal.</p>
{_table(found)}
{charts}<p class="note">Seconds and rates are of all sessions together. The fused ranking costs all the signals
together; the reranker comes on top, and its rate is in pairs.</p>
{f'<ul class="note">{notes}</ul>' if notes else ""}
</body></html>
"""


def _table(found: Evaluation) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in ("ranking", *MEASURES, "seconds", "rows/s", "device"))
    rows = "".join(_row(one) for one in found.rankings)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _row(one: Figures) -> str:
    values = [f"{one.scores[measure]:.4f}" for measure in MEASURES]
    rate = f"{one.cost.per_second:,.1f}" if one.cost.per_second else "-"
    cells = "".join(f"<td>{escape(text)}</td>" for text in (*values, f"{one.cost.seconds:,.2f}", rate, one.cost.device))
    return f"<tr><td>{escape(one.name)}</td>{cells}</tr>"


def _chart(found: Evaluation, measure: str) -> str:
    room = _WIDTH - _LABEL - _VALUE
    bars: list[str] = []
    for place, one in enumerate(found.rankings):
        top, value = place * _ROW, one.scores[measure]
        kind = one.name if one.name in ("fused", "rerank") else "bar"
        name = one.name if len(one.name) <= 32 else f"{one.name[:31]}…"
        bars.append(
            f'<text x="{_LABEL - 8}" y="{top + 16}" text-anchor="end">{escape(name)}</text>'
            f'<rect class="rest" x="{_LABEL}" y="{top + 4}" width="{room}" height="{_ROW - 8}" rx="2"/>'
            f'<rect class="{kind}" x="{_LABEL}" y="{top + 4}" width="{value * room:.1f}" height="{_ROW - 8}" rx="2"/>'
            f'<text x="{_LABEL + room + 8}" y="{top + 16}">{value:.4f}</text>'
        )
    height = len(found.rankings) * _ROW
    return f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{escape(measure)}">{"".join(bars)}</svg>'
