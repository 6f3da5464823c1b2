"""Resolve `--signals` to vectors: by name, by the end of a name, by form or by kind."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ...protocol.errors import UsageError
from ...protocol.spec.run_spec import RunSpec


class Chosen(NamedTuple):
    """Vectors to score (`wanted`, in the order of the passes), and those the user named (`named`).

    Named vectors are fused even if another signal, such as an ensemble, contains them.
    """

    wanted: list[str]
    named: list[str]


def choose_signals(spec: RunSpec, signals: Sequence[str], root: Path | str) -> Chosen:
    """Resolve `signals` to vectors of `spec`; all vectors if empty. UsageError for an unknown or ambiguous name."""
    named: list[str] = []
    wanted: set[str] = set()
    for signal in signals:
        vectors = _by_name(spec, signal)
        if len(vectors) == 1:
            named += vectors
        elif not vectors:
            vectors = [one.vector for one in spec.outputs if signal in (one.form, one.kind)]
        else:
            raise UsageError(f"--signals {signal}: may be {' or '.join(vectors)}; give the whole name")
        if not vectors:
            have = ", ".join(one.vector for one in spec.outputs)
            raise UsageError(f"--signals {signal}: {root} has no such vector; it has {have}")
        wanted.update(vectors)
    return Chosen([one.vector for one in spec.outputs if not signals or one.vector in wanted], named)


def _by_name(spec: RunSpec, signal: str) -> list[str]:
    """The vector with that name, or else all whose names end with it. Empty for the name of a form or kind."""
    names = [one.vector for one in spec.outputs]
    if signal in names:
        return [signal]
    if any(signal in (one.form, one.kind) for one in spec.outputs):
        return []
    return [name for name in names if name.endswith(f"-{signal}")]
