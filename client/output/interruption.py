"""Messages about a run that does not come to its end: what it waits for, what is left, and what resumes it."""

from __future__ import annotations

from collections.abc import Mapping

from .formatting import pluralize


def the_same(restart: bool) -> str:
    """The command that resumes a run that this command began."""
    return "the same command without --restart" if restart else "the same command"


def drain_notice(in_flight: int, batch_timeout: float | None, grace: float | None) -> str:
    """The message after the first signal: the work to finish, and the time limit. `grace` is None after Ctrl-C."""
    batches = f"{pluralize(in_flight, 'batch', 'batches')} in flight" if in_flight else "what is in flight"
    if grace is not None:
        return f"finishing {batches}, for {grace:g} s at most; once more to stop at once"
    limit = f"{batch_timeout:g} s" if batch_timeout is not None else "some times its usual time, 600 s at most"
    return f"finishing {batches}; a batch without progress is given up after {limit}; Ctrl-C once more to stop at once"


def uncommitted_notice(rows: Mapping[str, tuple[int, int]], command: str) -> str:
    """The message about rows that are computed again by the command that resumes. `rows` are, by pass, those committed, and
    those computed but not committed; empty if all are committed."""
    found = [
        f"{vector}: {pluralize(committed, 'row')} committed, {uncommitted:,} computed but not committed"
        for vector, (committed, uncommitted) in rows.items()
        if uncommitted > 0
    ]
    return f"{'; '.join(found)}; {command} computes these again" if found else ""
