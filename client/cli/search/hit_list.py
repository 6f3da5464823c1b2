"""Print hits for people: on standard output, fitted to the terminal, by rich."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
from rich.cells import cell_len
from rich.markup import escape
from rich.text import Text

from ....protocol.finished_run.ranking_names import FUSED, RERANK
from ....protocol.text.terminal_text import on_one_line, printable
from ...output.console import output_console, page_console
from ...output.passage import Passage, QueryWords, english_stem, find_passage
from ...search.hit import Hit

INDENT = 5
PASSAGE_LINES = 3
"""About as many lines of a text are shown."""
SPARE = 6
"""Columns of a line that wrapping leaves empty, on average."""
VALUE_LENGTHS = (40, 24, 12)
"""Most characters of one value of the metadata: the first with which the line fits, else the last."""
MARKED = "bold yellow"


def print_hits(hits: Sequence[Hit], query: str, *, full: bool = False) -> None:
    """Print each hit: its scores, its metadata on one line, the passage with the query's words; with `full` all its text."""
    console = page_console()
    width = max(20, console.width - INDENT)
    words = QueryWords(query, english_stem())
    for place, hit in enumerate(hits, 1):
        for line in _head(f"{place:>3}. {on_one_line(hit.id)}", _scores(hit), console.width):
            console.print(line)
        if hit.metadata:
            metadata = Text(_metadata_line(hit.metadata, width), style="cyan")
            metadata.truncate(width, overflow="ellipsis")
            console.print(_indented(metadata))
        shown = _marked(_whole(hit, words) if full else _passage(hit, words, width))
        wrapped = shown.wrap(console, width) if console.is_terminal or not full else shown.split(allow_blank=True)
        for line in wrapped:
            console.print(_indented(line))
    if not hits:
        console.print("nothing found")


def print_chunk(hit: Hit) -> None:
    """Print the whole chunk of a hit, with its scores, ranks and metadata."""
    console = output_console()
    console.print(f"[bold]{escape(hit.id)}[/bold]  row {hit.row}  {'  '.join(_scores(hit))}")
    ranks = "  ".join(f"{name} {rank}" for name, rank in hit.ranks.items())
    console.print(f"[dim]ranks[/dim]     {ranks or '-'}")
    console.print(f"[dim]metadata[/dim]  {escape(msgspec.json.encode(hit.metadata).decode())}")
    console.print(escape(hit.text))


def labelled_scores(hit: Hit) -> dict[str, float]:
    """The scores of a hit by label: the reranker's and the fused one, if there are any, then every signal's."""
    first = {} if hit.rerank is None else {RERANK: hit.rerank}
    if hit.fused:
        first[FUSED] = hit.score
    return first | hit.scores


def _scores(hit: Hit) -> list[str]:
    return [f"{name} {score:.4f}" for name, score in labelled_scores(hit).items()]


def _head(name: str, scores: Sequence[str], width: int) -> Iterator[Text]:
    """The hit's name and its scores, in as many lines as they need."""
    line, filled = Text(name, style="bold"), cell_len(name)
    for score in scores:
        if filled + 2 + cell_len(score) > width:
            yield line
            line, filled = Text(" " * (INDENT - 2)), INDENT - 2
        line = Text.assemble(line, f"  {score}")
        filled += 2 + cell_len(score)
    yield line


def _metadata_line(metadata: Mapping[str, Any], width: int) -> str:
    """`module=json  line=12`: as `--filter` takes them, but for values that are cut."""
    line = ""
    for most in VALUE_LENGTHS:
        line = "  ".join(f"{on_one_line(key)}={_value(value, most)}" for key, value in metadata.items())
        if cell_len(line) <= width:
            break
    return line


def _value(value: Any, most: int) -> str:
    text = on_one_line(value if isinstance(value, str) else msgspec.json.encode(value).decode())
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _whole(hit: Hit, words: QueryWords) -> Passage:
    text = printable(hit.text)
    return Passage(text, words.marks(text))


def _passage(hit: Hit, words: QueryWords, width: int) -> Passage:
    text = printable(" ".join(hit.text.split()))
    size = PASSAGE_LINES * (width - SPARE)
    sample = text[:size]
    return find_passage(text, words, size * len(sample) // max(1, cell_len(sample)) or size)


def _marked(passage: Passage) -> Text:
    text = Text(passage.text)
    for mark in passage.marks:
        text.stylize(MARKED, mark.start, mark.end)
    return text


def _indented(line: Text) -> Text:
    whole = Text.assemble(" " * INDENT, line)
    whole.rstrip()
    return whole
