"""`embedfleet fit`: the figures of a whole source that its shards share."""

from __future__ import annotations

import time

from ....protocol.errors import EXIT_DONE, UsageError
from ....protocol.run_directory.layout import RunLayout
from ....protocol.run_directory.records.fit import FitRecord
from ....protocol.source.corpus import STDIN
from ....protocol.spec.run_spec import RunSpec
from ...output.json_output import print_json
from ...output.messages import messages
from ...shards.agreement import check_folder
from ...shards.fit import find_fit, needs_fit
from ...shards.fit import fit as read_source
from ...steps.complete_run import complete
from ...steps.next_steps import shown_path
from ...steps.session import Interrupted, Session, open_session
from .request import RunRequest


def fit(request: RunRequest) -> int:
    """Write `fit.json`, unless it exists and is of this source. Return the exit code."""
    spec, layout = request.spec, RunLayout(request.out)
    if spec.source == STDIN:
        raise UsageError("fit: standard input cannot be read twice; give a file or a folder")
    if not needs_fit(spec):
        messages().say("nothing to fit: only --sparse bm25 and --store int8 need figures of the whole source")
        return EXIT_DONE
    check_folder(layout)
    found = None if request.restart else find_fit(layout, spec)
    if found is None:
        with open_session(
            devices=request.devices, otlp=request.otlp, share_stdin=False, options=request.options, grace=request.grace
        ) as session:
            try:
                found = fit_within(session, layout, spec)
            except Interrupted:
                session.say("interrupted; the same command begins again")
                return session.exit_code
    else:
        messages().say(f"{shown_path(layout.fit)} has the figures of this source already")
    if request.as_json:
        counts, measured = found.counts, [one.made_by.vector for one in found.ranges]
        average = found.average_length if counts.terms is not None else None
        print_json({"chunks": counts.chunks, "terms": counts.terms, "average_length": average, "int8_ranges": measured})
    return EXIT_DONE


def fit_within(session: Session, layout: RunLayout, spec: RunSpec) -> FitRecord:
    """Fit as a step of a session, and show the figures. Raises Interrupted after a signal."""
    begin = time.monotonic()

    def sample_run(sample: RunSpec, out: RunLayout) -> None:
        complete(session, sample, out.root)

    found = read_source(layout, spec, lambda: bool(session.received), sample_run)
    if found is None:
        raise Interrupted
    parts = [f"{found.counts.chunks:,} chunks"]
    if found.counts.terms:
        parts.append(f"{found.average_length:,.1f} terms on average")
    parts += [f"int8 ranges of {one.made_by.vector}" for one in found.ranges]
    session.say(f"fit: {', '.join(parts)}; {time.monotonic() - begin:,.1f} s; in {shown_path(layout.fit)}")
    return found
