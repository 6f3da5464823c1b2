"""`embedfleet run … --shards N`: the shards of a source one after another, their merge, and the steps after a run."""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack, closing, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

from ....protocol.errors import EXIT_DONE, EXIT_QUARANTINED, EmbedfleetError
from ....protocol.finished_run.shard_states import is_done
from ....protocol.object_storage.address import with_addresses
from ....protocol.object_storage.copies import copy_records
from ....protocol.run_directory.layout import RunLayout
from ....protocol.run_directory.records.manifest import read_manifest
from ....protocol.run_directory.records.merge import OnDuplicate, read_merge
from ....protocol.run_directory.records.shards import ShardsRecord
from ....protocol.run_directory.run_json import reasons_in
from ....protocol.spec.run_spec import RunSpec
from ...output.formatting import pluralize
from ...output.interruption import the_same
from ...output.merge_progress import MergeProgress
from ...output.messages import messages
from ...shards.agreement import agree, check_folder, shard_spec
from ...shards.fit import find_fit, fitted, needs_fit
from ...steps.complete_run import completed
from ...steps.merge import merge_quietly
from ...steps.next_steps import next_steps
from ...steps.remote_merge import merged_records, unchanged_there
from ...steps.run_summary import RunSummary
from ...steps.run_table import show_stages
from ...steps.runs_in_turn import PlannedRun, RunsInTurn
from ...steps.session import Interrupted, Session, open_session
from ...steps.step_summary import Stage
from .fit_command import fit_within
from .on_cluster import chosen_cluster, count_shards, records_opened, run_on, stop_if_asked, whole_held
from .request import AfterRun, RunRequest
from .run_command import after_corpus, reason_lines

if TYPE_CHECKING:
    from ...ray.cluster import Cluster
    from ...steps.remote_out import HeldDirectory


def run_shards(request: RunRequest) -> int:
    """Embed the source in shards, merge them, do the steps after a run, and return the exit code.

    Shards that are done are left as they are. Signals act as on a run of the whole source.
    """
    with ExitStack() as opened:
        cluster, held = opened.enter_context(chosen_cluster(request)), None
        if cluster is None and request.remote is not None:
            # It is closed after the session, whose processes write there to their end.
            held = opened.enter_context(request.remote.held("", messages().say))
        return _run_shards(request, cluster, held)


def _run_shards(request: RunRequest, cluster: Cluster | None, held: HeldDirectory | None) -> int:
    out, restart = request.out, request.restart
    devices = request.devices if cluster is None else None  # of its nodes
    with open_session(
        devices=devices, otlp=request.otlp, share_stdin=False, options=request.options, grace=request.grace
    ) as session:
        printed, stages = RunSummary(), list[Stage]()
        for line in request.notes:
            session.say(line)
        try:
            quarantined = _embed_and_merge(session, request, cluster, held, printed, stages)
            return EXIT_QUARANTINED if quarantined else EXIT_DONE
        except Interrupted:
            printed["status"] = "interrupted"
            session.say(f"interrupted; {the_same(restart)} resumes in {out}")
            return session.exit_code
        except EmbedfleetError as error:
            printed |= {"status": "failed", "error": str(error)}
            raise
        finally:
            show_stages(stages, session.say)
            if printed.get("status") == "done":
                for line in next_steps(request.spec, out, exported=bool(request.after.formats)):
                    session.say(line)
            if request.as_json:
                sys.stdout.buffer.write(with_addresses(orjson.dumps(printed).decode()).encode() + b"\n")
                sys.stdout.flush()


def _embed_and_merge(
    session: Session,
    request: RunRequest,
    cluster: Cluster | None,
    here: HeldDirectory | None,
    printed: RunSummary,
    stages: list[Stage],
) -> int:
    """Do the steps that are left. Return how many records are in quarantine. `printed` and `stages` gain what was done.

    `here` is the directory in object storage if this host runs the shards there, all in one spool.
    """
    record = None
    if here is None:
        with records_opened(request, session) as folder:
            record = _embed(session, request, cluster, folder)
    with whole_held(request, session) if here is None else nullcontext(here) as held:
        if held is not None:
            quarantined = _report_unchanged(session, request, held, record, printed, stages)
            if quarantined is not None:
                return quarantined
        if held is not None and cluster is not None:
            session.say(f"fetching the shards of {held.objects.address}, to merge them")
        whole = held.fetch(lambda: stop_if_asked(session)) if held is not None else request.out
        if record is None:
            record = _embed(session, request, None, whole)
        quarantined = _merge(session, RunLayout(whole), printed, stages)
        return quarantined + after_corpus(session, record.spec, whole, request.after, printed, stages)


def _embed(session: Session, request: RunRequest, cluster: Cluster | None, folder: Path) -> ShardsRecord:
    """Have the shards that are not done embedded, and return what all have agreed on. `folder` has the records of the shards
    and, without a cluster, the shards."""
    count = count_shards(request, cluster, folder)
    record = _agreed(session, request.spec, RunLayout(folder), count, restart=request.restart)
    if cluster is not None:
        run_on(cluster, session, record, request)
    else:
        _run_all(session, record, folder, restart=request.restart, after=request.after)
    return record


def _report_unchanged(
    session: Session,
    request: RunRequest,
    held: HeldDirectory,
    agreed: ShardsRecord | None,
    printed: RunSummary,
    stages: list[Stage],
) -> int | None:
    """Report as after a merge if all shards in object storage are done and merged and nothing else is left: that needs no
    segment. Return how many records are in quarantine; None if something is left.

    `agreed` is None if the flags were not compared with those of the shards yet. This raises the errors of `agree` then.
    """
    remote = request.remote
    if request.restart or request.after != AfterRun() or (remote is not None and remote.keep_spool):
        return None
    begin, spec = time.monotonic(), request.spec
    with merged_records(held.objects) as found:
        if found is None or found[0].candidates_record.exists():  # a ranking is compared with the segments
            return None
        layout, record = found
        done = unchanged_there(held.objects, layout, record, _on_duplicate(layout))
        if done is None or (agreed is None and needs_fit(spec) and find_fit(layout, spec) is None):
            return None
        if agreed is None:
            agreed = _agreed(session, spec, layout, count_shards(request, None, layout.root), restart=False)
        if agreed != record or not all(is_done(layout, record, index) for index in range(record.shards)):
            return None
        held.is_needless = True
        if request.on is None:
            _say_done_before(session, record.shards, record)
        if done.quarantined:
            copy_records(held.objects, layout.root, [layout.quarantine.name])
        return _report(session, layout, time.monotonic() - begin, printed, stages)


def _agreed(session: Session, spec: RunSpec, layout: RunLayout, count: int, *, restart: bool) -> ShardsRecord:
    """The record of the shards, with a fit before it if the spec needs one."""
    check_folder(layout)  # a fit writes there
    if needs_fit(spec):
        found = find_fit(layout, spec) or fit_within(session, layout, spec)
        spec = fitted(spec, found)
    return agree(layout, spec, count, restarted=range(count) if restart else ())


def _run_all(session: Session, record: ShardsRecord, out: Path, *, restart: bool, after: AfterRun) -> None:
    """Run the shards that are not done. Raises Interrupted, or the error of the first that fails."""
    layout = RunLayout(out)
    left = [index for index in range(record.shards) if restart or not is_done(layout, record, index)]
    if (done := record.shards - len(left)) > 0:
        _say_done_before(session, done, record)
    rerank = after.retrieval.rerank if after.retrieval is not None else None
    later = [rerank] if rerank is not None else []
    planned = (PlannedRun(shard_spec(record, one), layout.shard(one).root, restart, later) for one in left)
    with closing(RunsInTurn(session, lambda: next(planned, None)).endings()) as endings:
        for index in left:
            session.say(f"shard {index}/{record.shards}")
            ending = completed(next(endings, None))
            session.say(
                f"shard {index}/{record.shards}: {ending.chunks:,} read = {ending.committed:,} committed + "
                f"{ending.quarantined:,} quarantined; {ending.seconds:,.1f} s"
            )


def _say_done_before(session: Session, done: int, record: ShardsRecord) -> None:
    session.say(f"{done:,} of {pluralize(record.shards, 'shard')} done before")


def _on_duplicate(layout: RunLayout) -> OnDuplicate:
    """What to do about an id in two shards: a `merge --on-duplicate first` of these shards holds for the same command again."""
    before = read_merge(layout)
    return before.on_duplicate if before is not None else "fail"


def _merge(session: Session, layout: RunLayout, printed: RunSummary, stages: list[Stage]) -> int:
    """Merge the shards, and report the counts of all of them. Return how many records are in quarantine."""
    begin = time.monotonic()
    try:
        with closing(MergeProgress()) as progress:
            merge_quietly(layout.root, _on_duplicate(layout), progress.show, lambda: bool(session.received))
    except KeyboardInterrupt:
        raise Interrupted from None
    return _report(session, layout, time.monotonic() - begin, printed, stages)


def _report(session: Session, layout: RunLayout, seconds: float, printed: RunSummary, stages: list[Stage]) -> int:
    """Report the counts of a merge that is done. Return how many records are in quarantine."""
    manifest = read_manifest(layout)
    assert manifest is not None, "the merge has written it"
    counts = manifest.counts
    printed |= RunSummary(
        run=str(manifest.run or ""),
        status="done",
        chunks=counts.chunks,
        committed=counts.committed,
        quarantined=counts.quarantined,
        skipped_duplicates=counts.skipped_duplicates,
        notes=counts.notes,
    )
    stages.append(Stage("merge", {"rows": f"{counts.committed:,}", "seconds": f"{seconds:,.1f}"}))
    session.say(
        f"{counts.chunks:,} read = {counts.committed:,} committed + {counts.quarantined:,} quarantined; "
        f"{pluralize(counts.skipped_duplicates, 'duplicate')} skipped"
    )
    if counts.quarantined:
        session.say(f"in quarantine: {counts.quarantined:,}, {reasons_in(layout)}")
        for line in reason_lines(layout.root):
            session.say(f"  {line}")
    return counts.quarantined
