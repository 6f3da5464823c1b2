"""`embedfleet run`: start a private coordinator, submit the run and watch it; then rank queries and export, if asked."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import orjson

from ....protocol.errors import EXIT_DONE, EXIT_QUARANTINED, EmbedfleetError, error_from_name
from ....protocol.object_storage.address import with_addresses
from ....protocol.run_directory.layout import RunLayout
from ....protocol.run_directory.records.exports import read_export
from ....protocol.run_directory.records.stats import read_stats
from ....protocol.run_directory.run_json import reasons_in
from ....protocol.source.intake_notes import TITLE_JOINED, Notes, note_lines
from ....protocol.spec.run_spec import NONE, RunSpec
from ....protocol.statistics.reason_count import ReasonCount
from ....protocol.statistics.run_stats import RunStats
from ....protocol.wire.control import RunEnded
from ...options.query_prompts import keep_query_prompts
from ...output.formatting import pluralize
from ...output.interruption import the_same
from ...output.truncation_lines import advice_lines
from ...steps.merged_run import merged_run
from ...steps.next_steps import next_steps
from ...steps.run_summary import JsonObject, RunSummary, summary
from ...steps.run_table import show_stages
from ...steps.session import Interrupted, Session, memory_field, open_session
from ...steps.spool_collection import make_collection
from ...steps.step_summary import Stage, ensemble_stages, export_stage, pass_stages
from .request import AfterRun, RunRequest

SHOWN_REASONS = 3


def run(request: RunRequest) -> int:
    """Embed a corpus, do the steps after it, and return the exit code.

    The first signal finishes the batches in flight, a second one ends everything at once.
    """
    spec, out, restart, after = request.spec, request.out, request.restart, request.after
    merged = merged_run(spec, out, restart=restart, later=after != AfterRun())
    with open_session(
        devices=request.devices,
        otlp=request.otlp,
        share_stdin=spec.source == "-",
        options=request.options,
        grace=request.grace,
    ) as session:
        rerank = after.retrieval.rerank if after.retrieval is not None else None
        printed, stages = RunSummary(), list[Stage]()
        for line in request.notes:
            session.say(line)
        try:
            if after.retrieval is None and not restart:
                spec = keep_query_prompts(spec, RunLayout(out))
            later = [rerank] if rerank is not None else []
            ending = merged or session.follow(spec, out, restart=restart, later=later)
            if ending is None:
                printed["status"] = "interrupted"
                session.say(f"stopped at once; what was committed stays, {the_same(restart)} resumes")
                return session.exit_code
            printed |= summary(ending)
            return _conclude(session, ending, spec, out, after, printed, stages)
        except Interrupted:
            printed["status"] = "interrupted"
            session.say(f"interrupted; {the_same(restart)} " + (f"resumes in {out}" if out.exists() else "starts it"))
            return session.exit_code
        except EmbedfleetError as error:
            printed |= {"status": "failed", "error": str(error)}
            raise
        finally:
            show_stages(stages, session.say)
            if printed.get("status") == "done":
                for line in next_steps(spec, out, exported=bool(after.formats)):
                    session.say(line)
            if request.as_json:
                sys.stdout.buffer.write(with_addresses(orjson.dumps(printed).decode()).encode() + b"\n")
                sys.stdout.flush()


def _conclude(
    session: Session,
    ending: RunEnded,
    spec: RunSpec,
    out: Path,
    after: AfterRun,
    printed: RunSummary,
    stages: list[Stage],
) -> int:
    """Report how the run ended; if it is done, do the steps in `after`. Return the exit code.

    `printed` and `stages` gain what was done.
    """
    if ending.status == "failed":
        raise error_from_name(ending.kind, ending.error)
    stages += [*pass_stages(ending, stats=_stats(out)), *ensemble_stages(spec, RunLayout(out))]
    _say_counts(session, ending, out)
    for line in (*intake_lines(spec, ending.notes), *advice_lines(ending, spec)):
        session.say(line)
    if ending.status == "interrupted":
        raise Interrupted
    quarantined = after_corpus(session, spec, out, after, printed, stages)
    return EXIT_QUARANTINED if quarantined or ending.quarantined else EXIT_DONE


def after_corpus(
    session: Session, spec: RunSpec, out: Path, after: AfterRun, printed: RunSummary, stages: list[Stage]
) -> int:
    """Do the steps in `after` for the finished run in `out`. Return how many queries and pairs are in quarantine.

    `printed` and `stages` gain what was done.
    """
    quarantined = 0
    if after.collection:
        stages.append(make_collection(session, RunLayout(out)))
    if after.retrieval is not None:
        # Imported late, as the tables below: they load Arrow and an engine, which would delay the start of the run.
        from ...steps.retrieval import Retrieval

        retrieval = Retrieval(session, spec, out, after.retrieval, stages)
        quarantined = retrieval.run(printed)
        if retrieval.evaluation is not None:
            from ..tables import print_evaluation

            print_evaluation(retrieval.evaluation)
    elif RunLayout(out).candidates_record.exists():
        from ...verify.stale_ranking import stale_ranking  # late, as above

        for line in stale_ranking(RunLayout(out)):
            session.say(line)
    if after.formats:
        printed["export"] = _export(session, RunLayout(out), after.formats, stages)
    return quarantined


def _stats(out: Path) -> RunStats:
    try:
        return read_stats(RunLayout(out))
    except EmbedfleetError:  # missing statistics do not fail a run
        return RunStats()


def _export(session: Session, layout: RunLayout, formats: tuple[str, ...], stages: list[Stage]) -> list[JsonObject]:
    """Write the files, and return the entries of `export.json`."""
    arguments, start = [str(layout.root), f"--formats={','.join(formats)}"], time.monotonic()
    with session.stage("export") as fields:
        peak = session.process("embedfleet.exporter.commands.export", arguments)
        record = read_export(layout)
        files, rows = (record.files, record.rows) if record is not None else ((), 0)
        fields |= {"rows": rows, "files": len(files), **memory_field(peak)}
    stages.append(export_stage(rows, time.monotonic() - start, peak))
    session.say(f"exported to {layout.export}: " + ", ".join(one.name for one in files))
    return [msgspec.to_builtins(one) for one in files]


def _say_counts(session: Session, ending: RunEnded, out: Path) -> None:
    left = ending.chunks - ending.committed - ending.quarantined
    session.say(
        f"{ending.chunks:,} read = {ending.committed:,} committed + {ending.quarantined:,} quarantined"
        + (f" + {left:,} that still lack a vector" if left else "")
        + f"; {pluralize(ending.skipped_duplicates, 'duplicate')} skipped; {ending.seconds:,.1f} s"
    )
    if ending.status == "done" and ending.quarantined:
        session.say(f"in quarantine: {ending.quarantined:,}, {reasons_in(RunLayout(out))}")
        for line in reason_lines(out):
            session.say(f"  {line}")


def intake_lines(spec: RunSpec, notes: Notes) -> list[str]:
    """Lines on what the intake did to records, and on a `--title-field` that no record has."""
    lines = note_lines(notes)
    if spec.title_field not in (None, NONE) and not notes.get(TITLE_JOINED):
        lines.append(f"no record has the title field {spec.title_field!r}; check --title-field")
    return lines


def reason_lines(out: Path) -> list[str]:
    """Lines with the SHOWN_REASONS most frequent reasons in the quarantine, and the number of the others."""
    counts = count_reasons(out)
    shown = counts.first(SHOWN_REASONS)
    lines = [f"{pluralize(count, 'time')}: {reason}" for reason, count in shown]
    left = len(counts) - len(shown)
    if left:
        lines.append(
            f"and {pluralize(left, 'more reason')}, {pluralize(counts.total - sum(n for _, n in shown), 'time')}"
        )
    return lines


def count_reasons(out: Path) -> ReasonCount:
    """Count the reasons in `quarantine.jsonl`, one for each record; empty if it cannot be read.

    A row has a line for each vector that it lacks: for an ensemble and its member, for one. Its first line counts.
    """
    counts, seen = ReasonCount(), bytearray()
    try:
        with (out / "quarantine.jsonl").open("rb") as lines:
            for line in lines:
                record: Any = orjson.loads(line)
                if "row" not in record or _is_new(int(record["row"]), seen):
                    counts.add(str(record["reason"]))
    except (OSError, KeyError, ValueError):
        return ReasonCount()  # the line before has named the file
    return counts


def _is_new(row: int, seen: bytearray) -> bool:
    """Whether a row is not in `seen`, which has a bit for each; it is there afterwards."""
    place, bit = row >> 3, 1 << (row & 7)
    seen.extend(bytes(max(0, place + 1 - len(seen))))
    new = not seen[place] & bit
    seen[place] |= bit
    return new
