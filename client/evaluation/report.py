"""The evaluation as one self-contained HTML file: inline SVG bars, no scripts, light or dark as the reader prefers.

Names and figures are text beside the bars, not in them: on a narrow screen the bars shrink and the letters do not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from html import escape

from ...protocol.finished_run.candidates import FUSED, RERANK
from ...protocol.run_directory.atomic_files import commit_bytes, make_folder
from ...protocol.run_directory.exported_files import claim_names
from ...protocol.run_directory.json_bytes import pretty_json
from ...protocol.run_directory.layout import RunLayout
from ...protocol.run_directory.records.exports import ReportedFile, ReportRecord
from ..output.formatting import human_bytes
from ..run_directory.files import writing
from . import signal_table
from .contributions import SignalFigures
from .evaluation import Evaluation, Figures
from .report_sections import grid, query_section, setting_section

MOST_QUERIES = 50
"""Most queries that the report names for a signal; evaluation.json names them all."""

_STYLE = """
:root { color-scheme: light dark; --ink: #1c2430; --soft: #5b6675; --paper: #ffffff; --line: #dde2e8; --bar: #2f6f9f;
  --fused: #b0691a; --rerank: #3d7d44; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e8ed; --soft: #9aa5b1; --paper: #14181d; --line: #323a44;
  --bar: #6aa9d8; --fused: #dd9a4c; --rerank: #7cc084; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 60rem;
  margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; } dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem .9rem; }
  dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; } .query { margin: .4rem 0; }
  .query td:last-child, .query th:last-child { text-align: left; } h2 { font-size: 1.05rem; margin: 1.6rem 0 .3rem; }
table { border-collapse: collapse; width: 100%; } th, td { padding: .3rem .6rem; border-bottom: 1px solid var(--line);
  text-align: right; font-variant-numeric: tabular-nums; } th:first-child, td:first-child { text-align: left; }
th { white-space: nowrap; } .wide { overflow-x: auto; }
.note { color: var(--soft); }
.row { display: grid; grid-template-columns: minmax(8rem, 26%) 1fr 5.5rem; gap: 0 .7rem; align-items: center; }
.name { text-align: right; overflow-wrap: anywhere; line-height: 1.3; padding: .15rem 0; }
.value { font-variant-numeric: tabular-nums; }
svg { display: block; width: 100%; height: 1rem; border-radius: 2px; background: var(--line); }
.bar { fill: var(--bar); } .fused { fill: var(--fused); } .rerank { fill: var(--rerank); }
@media (max-width: 40rem) { .row { grid-template-columns: 1fr 5.5rem; } .name { grid-column: 1 / -1; text-align: left; }
  th, td { padding: .3rem .4rem; } }
"""


def write_report(layout: RunLayout, evaluation: Evaluation) -> None:
    """Commit export/report.html and export/evaluation.json, and then their digests, by which `verify` checks them.

    EmbedfleetError if a file cannot be written, or if a file of the user's has its name.
    """
    names = (layout.evaluation.name, layout.report.name)
    with writing(layout.export):
        make_folder(layout.export)
    with writing(layout.report_record):
        claim_names(layout, layout.report_record, names)
        # First without digests: those on record are of the files that are replaced now.
        commit_bytes(layout.report_record, pretty_json(ReportRecord((), names)))
    contents = {
        layout.evaluation: pretty_json(evaluation),
        layout.report: render(evaluation, layout.root.name).encode(),
    }
    for path, content in contents.items():
        with writing(path):
            commit_bytes(path, content)
    with writing(layout.report_record):
        files = tuple(_reported(path.name, content) for path, content in contents.items())
        commit_bytes(layout.report_record, pretty_json(ReportRecord(files)))


def _reported(name: str, content: bytes) -> ReportedFile:
    return ReportedFile(name, len(content), hashlib.sha256(content).hexdigest())


def render(evaluation: Evaluation, title: str) -> str:
    """The HTML page."""
    setting = evaluation.setting
    charts = "".join(_chart(measure, _measured(evaluation, measure), 1.0) for measure in evaluation.measures)
    seconds = [(one.name, one.cost.seconds, f"{one.cost.seconds:,.2f}") for one in evaluation.rankings]
    charts += _chart("Seconds", seconds, max((value for _, value, _ in seconds), default=0.0))
    notes = "".join(f"<li>{escape(note)}</li>" for note in evaluation.notes)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Retrieval: {escape(title)}</title><style>{_STYLE}</style></head><body>
<h1>Retrieval: {escape(title)}</h1>
{setting_section(setting, evaluation.queries, evaluation.candidates) if setting is not None else ""}
{_signals(evaluation)}<p>{escape(evaluation.verdict)}</p>
{_table(evaluation)}
{charts}<p class="note">Seconds and rates are of all sessions that were not killed. The fused ranking costs all the signals
together; the reranker comes on top, and its rate is in pairs. Milliseconds a query are those of encoding it, among others in a
batch, or of scoring its pairs; the search itself is in the list above.</p>
{f'<ul class="note">{notes}</ul>' if notes else ""}
{query_section(evaluation.query_results, evaluation.queries)}
</body></html>
"""


def _signals(evaluation: Evaluation) -> str:
    """The table of what each signal adds, and the queries that only it answers; empty with a single signal."""
    rows = signal_table.rows(evaluation.signals)
    if not rows:
        return ""
    queries = "".join(_queries(one) for one in evaluation.signals)
    table = grid(signal_table.head(evaluation.candidates), rows)
    return f'<h2>What each signal adds</h2>\n{table}\n<p class="note">{escape(signal_table.LEGEND)}</p>\n{queries}'


def _queries(signal: SignalFigures) -> str:
    """A collapsed list of the queries that only this signal answers in its first ten."""
    ids = signal.first_ten.queries
    if not ids:
        return ""
    named = ", ".join(map(escape, ids[:MOST_QUERIES]))
    more = f" and {len(ids) - MOST_QUERIES:,} more, see evaluation.json" if len(ids) > MOST_QUERIES else ""
    title = f"Queries with chunks that only {escape(signal.name)} finds"
    return f'<details class="note"><summary>{title}</summary>{named}{more}</details>\n'


def _table(evaluation: Evaluation) -> str:
    rows = [_row(one, evaluation.measures) for one in evaluation.rankings]
    return grid(("ranking", *evaluation.measures, "on the disk", "ms a query", "seconds", "rows/s", "device"), rows)


def _row(ranking: Figures, measures: Sequence[str]) -> tuple[str, ...]:
    values = [f"{ranking.scores[measure]:.4f}" for measure in measures]
    rate = f"{ranking.cost.per_second:,.1f}" if ranking.cost.per_second else "-"
    cost = ranking.cost
    size = human_bytes(cost.bytes) if cost.bytes else "-"
    query = f"{1000 * cost.query_seconds:,.2f}" if cost.query_seconds else "-"
    return (ranking.name, *values, size, query, f"{cost.seconds:,.2f}", rate, cost.device)


def _measured(evaluation: Evaluation, measure: str) -> list[tuple[str, float, str]]:
    return [(one.name, one.scores[measure], f"{one.scores[measure]:.4f}") for one in evaluation.rankings]


def _chart(title: str, bars: Sequence[tuple[str, float, str]], full: float) -> str:
    """A heading and a bar for each (name, value, its text); `full` is the value of a whole bar."""
    drawn = "".join(_bar(name, value / full if full else 0.0, text) for name, value, text in bars)
    return f"<h2>{escape(title)}</h2>\n{drawn}"


def _bar(name: str, share: float, text: str) -> str:
    kind = name if name in (FUSED, RERANK) else "bar"
    return (
        f'<div class="row"><span class="name">{escape(name)}</span>'
        f'<svg viewBox="0 0 1000 1" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="{kind}" width="{1000 * share:.1f}" height="1"/></svg>'
        f'<span class="value">{escape(text)}</span></div>\n'
    )
