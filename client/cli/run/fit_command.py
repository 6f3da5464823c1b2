"""`embedfleet fit`: the figures of a whole source that its shards share."""

from __future__ import annotations

import time

from ....protocol.errors import EXIT_DONE, UsageError
from ....protocol.run_directory.layout import RunLayout
from ....protocol.source.corpus import STDIN
from ...output.messages import messages
from ...shards.fit import find_fit, needs_fit
from ...shards.fit import fit as read_source
from ...steps.next_steps import shown_path
from ...steps.session import catching_signals
from ..json_output import print_json
from .request import RunRequest


def fit(request: RunRequest) -> int:
    """Write `fit.json`, unless it stands for this source. Return the exit code."""
    spec, layout, say = request.spec, RunLayout(request.out), messages().say
    if spec.source == STDIN:
        raise UsageError("fit: standard input cannot be read twice; give a file or a folder")
    if not needs_fit(spec):
        say("nothing to fit: only --sparse bm25 needs a figure of the whole source")
        return EXIT_DONE
    found, begin = (None if request.restart else find_fit(layout, spec)), time.monotonic()
    if found is None:
        with catching_signals() as received:
            found = read_source(layout, spec, lambda: bool(received))
            if found is None:
                say("interrupted; the same command begins again")
                return 128 + received[0]
    if request.as_json:
        print_json({"chunks": found.counts.chunks, "terms": found.counts.terms, "average_length": found.average_length})
        return EXIT_DONE
    say(
        f"{found.counts.chunks:,} chunks of {found.average_length:,.1f} terms on average, in {shown_path(layout.fit)}; "
        f"{time.monotonic() - begin:,.1f} s"
    )
    return EXIT_DONE
