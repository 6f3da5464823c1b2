"""`embedfleet run`: a private coordinator, a submission, a watch, and an end, in one; then, if asked, queries."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import orjson

from ..protocol.control_messages import RunEnded
from ..protocol.errors import EXIT_DONE, EXIT_QUARANTINED, EmbedfleetError, revive
from ..protocol.spec import RunSpec
from .client import Client
from .private_coordinator import PrivateCoordinator
from .retrieval import Retrieval, RetrievalPlan
from .session import Interrupted, Session, catching_signals


def run(
    spec: RunSpec, out: Path, *, devices: str | None, restart: bool, as_json: bool, plan: RetrievalPlan | None = None
) -> int:
    """Embed the corpus, then rank its chunks for the queries of `plan`; the exit code.

    The first signal drains, a second one ends everything at once.
    """
    with catching_signals() as received, PrivateCoordinator(devices, share_stdin=spec.source == "-") as coordinator:
        with Client(coordinator.address) as client:
            session = Session(client, coordinator, received)
            ending = session.follow(spec, out, restart=restart)
            if ending is None:
                session.say("stopped at once; what was committed stays, the same command resumes")
                return session.exit_code
            printed = summary(ending)
            try:
                return _conclude(session, ending, spec, out, plan, printed)
            except Interrupted:
                printed["status"] = "interrupted"
                session.say(f"interrupted; the same command resumes in {out}")
                return session.exit_code
            except EmbedfleetError as error:
                printed["error"] = str(error)
                raise
            finally:
                if as_json:
                    sys.stdout.buffer.write(orjson.dumps(printed) + b"\n")
                    sys.stdout.flush()


def _conclude(
    session: Session, ending: RunEnded, spec: RunSpec, out: Path, plan: RetrievalPlan | None, printed: dict[str, Any]
) -> int:
    """Say how the run ended; where it is done, go on with the queries. The exit code."""
    if ending.status == "failed":
        raise revive(ending.kind, ending.error)
    _say(session, ending, out)
    if ending.status == "interrupted":
        raise Interrupted
    quarantined = ending.quarantined
    if plan is not None:
        quarantined += Retrieval(session, spec, out, plan).run(printed)
    return EXIT_QUARANTINED if quarantined else EXIT_DONE


def _say(session: Session, ending: RunEnded, out: Path) -> None:
    for one in ending.passes:
        session.say(
            f"{one.vector}: {one.chunks:,} chunks, {one.chunks_per_second:,.1f}/s, {one.tokens_per_second:,.0f} tokens/s, "
            f"padding {one.padding:.1%}, on {one.device or 'no device'}"
        )
    left = ending.chunks - ending.committed - ending.quarantined
    session.say(
        f"{ending.chunks:,} read = {ending.committed:,} committed + {ending.quarantined:,} quarantined"
        + (f" + {left:,} to be computed" if left else "")
        + f"; {ending.skipped_duplicates:,} duplicates skipped; {ending.seconds:,.1f} s"
    )
    if ending.status == "done" and ending.quarantined:
        session.say(f"{ending.quarantined:,} rows are in quarantine, each with its reason: {out / 'quarantine.jsonl'}")


def summary(ending: RunEnded) -> dict[str, Any]:
    """The object that `--json` prints, as far as the corpus goes."""
    return {
        "run": ending.run,
        "status": ending.status,
        "chunks": ending.chunks,
        "committed": ending.committed,
        "quarantined": ending.quarantined,
        "skipped_duplicates": ending.skipped_duplicates,
        "seconds": ending.seconds,
        "passes": [
            {
                "vector": one.vector,
                "model": one.model,
                "device": one.device,
                "chunks": one.chunks,
                "chunks_per_second": one.chunks_per_second,
                "tokens_per_second": one.tokens_per_second,
                "padding": one.padding,
                "rotation_gap_seconds": one.rotation_gap_seconds,
            }
            for one in ending.passes
        ],
        **({"error": ending.error} if ending.error else {}),
    }
