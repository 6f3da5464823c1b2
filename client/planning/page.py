"""A plan, and a comparison, for people."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from rich.markup import escape
from rich.table import Table

from ..output.console import output_console
from ..output.formatting import human_bytes, percent, pluralize
from .comparison import Compared
from .plan import Figure, Plan, PlannedPass, PlannedVector

Line = tuple[str, str, str]
"""Name, figure, and basis."""
LEAST = 0.01
"""The smallest number of seconds, and the smallest price, that is shown as a figure."""


def print_plan(plan: Plan) -> None:
    """Print a plan on standard output."""
    console = output_console()
    console.print(f"{escape(plan.source)}: {pluralize(plan.files, 'file')}, {human_bytes(plan.source_bytes)}")
    _print(_of_source(plan))
    for one in plan.passes:
        console.print(f"\n{escape(one.vector)}: {escape(one.model)}, {one.dtype}")
        _print(_of_pass(one))
    for vector in plan.ensembles:
        console.print(f"\n{escape(vector.vector)}")
        _print(_of_vector(vector, "on disk"))
    console.print(f"\nall, on {escape(_devices(plan.devices))}")
    _print(_of_all(plan))
    for note in (*plan.notes, *_of_passes(plan)):
        console.print(f"note: {escape(note)}")


def _of_passes(plan: Plan) -> Iterator[str]:
    """The notes of all passes, each once."""
    for note in dict.fromkeys(note for one in plan.passes for note in one.notes):
        yield f"{', '.join(one.vector for one in plan.passes if note in one.notes)}: {note}"


def print_comparison(compared: Sequence[Compared]) -> None:
    """Print a plan beside its run."""
    console = output_console()
    table = Table(box=None, padding=(0, 2, 0, 0), show_edge=False)
    table.add_column("", no_wrap=True)
    for name in ("planned", "real", "real / planned"):
        table.add_column(name, justify="right")
    table.add_column("planned by")
    for one in compared:
        ratio = f"{one.ratio:.3f}" if one.ratio is not None else "-"
        table.add_row(escape(one.name), _number(one.planned), _number(one.real), ratio, one.basis)
    console.print(table)


def _print(lines: Iterable[Line]) -> None:
    table = Table(box=None, padding=(0, 2, 0, 0), show_edge=False, show_header=False)
    table.add_column("", min_width=12, no_wrap=True)
    table.add_column("")
    table.add_column("", no_wrap=True)
    for name, figure, basis in lines:
        table.add_row(f"  {name}", escape(figure), basis)
    output_console().print(table)


def _of_source(plan: Plan) -> Iterator[Line]:
    yield "rows", f"{plan.rows.value:,.0f}", _basis(plan.rows)
    if plan.rejected.value or plan.duplicates.value:
        yield "rejected", f"{plan.rejected.value:,.0f}", _basis(plan.rejected)
        yield "duplicates", f"{plan.duplicates.value:,.0f}", _basis(plan.duplicates)
    yield "text", human_bytes(round(plan.text_bytes.value)), _basis(plan.text_bytes)
    segments = pluralize(round(plan.segments.value), "segment")
    yield "chunks", f"{human_bytes(round(plan.chunk_bytes.value))} on disk, {segments}", _basis(plan.chunk_bytes)


def _of_pass(one: PlannedPass) -> Iterator[Line]:
    if one.tokens.value:
        yield "tokens", f"{one.tokens.value:,.0f}", _basis(one.tokens)
    if one.truncated_share is not None and one.tokens_cut_share is not None and one.max_tokens:
        cut, lost = percent(one.truncated_share.value), percent(one.tokens_cut_share.value)
        yield "truncated", f"{cut} of texts at {one.max_tokens:,}, {lost} of tokens", _basis(one.truncated_share)
    for vector in one.vectors:
        yield from _of_vector(vector, "on disk" if len(one.vectors) == 1 else vector.form)
    if one.memory is not None:
        memory = one.memory
        verdict = "enough" if memory.enough else "too little"
        has = f"{_short(memory.device)} has {human_bytes(memory.device_bytes)}: {verdict}"
        yield "memory", f"{human_bytes(round(memory.total.value))}; {has}", _basis(memory.total)
    if one.tokens_per_second is not None:
        yield "rate", f"{one.tokens_per_second.value:,.0f} tokens/s", _basis(one.tokens_per_second)
    if one.seconds is not None:
        yield "time", duration(one.seconds.value), _basis(one.seconds)
    if one.cost is not None:
        yield "cost", _price(one.cost.value), _basis(one.cost)


def _of_vector(vector: PlannedVector, name: str) -> Iterator[Line]:
    dim = f", {vector.dim} dimensions" if vector.dim else ""
    stored = f" in {vector.storage}" if vector.form == "dense" else ""
    each = f"{vector.bytes_a_row.value:,.0f} bytes a row{dim}{stored}"
    yield name, f"{human_bytes(round(vector.bytes.value))}, {each}", _basis(vector.bytes)


def _of_all(plan: Plan) -> Iterator[Line]:
    yield "on disk", human_bytes(round(plan.bytes.value)), _basis(plan.bytes)
    if plan.collection_bytes is not None:
        yield "collection", f"{human_bytes(round(plan.collection_bytes.value))} more", _basis(plan.collection_bytes)
    if plan.start_seconds is not None:
        yield "start, end", duration(plan.start_seconds.value), _basis(plan.start_seconds)
    if plan.seconds is not None:
        yield "time", duration(plan.seconds.value), _basis(plan.seconds)
    if plan.shard_seconds is not None:
        alone = f"{duration(plan.shard_seconds.value)} by a command of its own, of {plan.shards:,}"
        yield "a shard", alone, _basis(plan.shard_seconds)
    if plan.cost is not None:
        price = f"{plan.price_per_hour:,.2f} an hour"
        yield "cost", f"{_price(plan.cost.value)} at {price}", _basis(plan.cost)


def _basis(figure: Figure) -> str:
    return f"{figure.basis}, ±{percent(figure.error)}" if figure.error else figure.basis


def _devices(names: Sequence[str]) -> str:
    counted = [(names.count(name), name) for name in dict.fromkeys(names)]
    if len(counted) > 2:
        return f"{len(names)} devices, {names[0]} to {names[-1]}"
    return ", ".join(name if count == 1 else f"{count} x {name}" for count, name in counted) or "no device"


def _short(name: str) -> str:
    return name.removeprefix("NVIDIA ")


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:,.2f}"


def _price(value: float) -> str:
    return f"{value:,.2f}" if value >= LEAST else f"less than {LEAST}"


def duration(seconds: float) -> str:
    """`8.2 s`, `3 min 20 s`, `5 h 12 min`, `12 d 3 h`."""
    if seconds < LEAST:
        return f"less than {LEAST} s"
    if seconds < 1:
        return f"{seconds:.2g} s"
    if seconds < 100:
        return f"{seconds:.1f} s"
    seconds = round(seconds)
    for unit, below, size, smaller in ((60, 2 * 3_600, "min", "s"), (3_600, 4 * 86_400, "h", "min")):
        if seconds < below:
            large, rest = divmod(seconds, unit)
            return f"{large} {size} {rest // (unit // 60)} {smaller}"
    days, rest = divmod(seconds, 86_400)
    return f"{days:,} d {rest // 3_600} h"
