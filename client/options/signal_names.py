"""Which vectors `--signals` means: by their names, by the ends of names, by forms and kinds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ...protocol.errors import UsageError
from ...protocol.spec.run_spec import RunSpec


class Chosen(NamedTuple):
    """`wanted` are to be scored, in the order of the passes; of these, `named` are fused whatever else holds them."""

    wanted: list[str]
    named: list[str]


def choose_signals(spec: RunSpec, signals: Sequence[str], root: Path | str) -> Chosen:
    """None given: all vectors. UsageError for a name that means none, or several that it does not say."""
    named: list[str] = []
    wanted: set[str] = set()
    for given in signals:
        vectors = _by_name(spec, given)
        if len(vectors) == 1:
            named += vectors
        elif not vectors:
            vectors = [one.vector for one in spec.outputs if given in (one.form, one.kind)]
        else:
            raise UsageError(f"--signals {given}: may be {' or '.join(vectors)}; give the whole name")
        if not vectors:
            have = ", ".join(one.vector for one in spec.outputs)
            raise UsageError(f"--signals {given}: {root} has no such vector; it has {have}")
        wanted.update(vectors)
    return Chosen([one.vector for one in spec.outputs if not signals or one.vector in wanted], named)


def _by_name(spec: RunSpec, given: str) -> list[str]:
    """The vectors of that name; else, where it is no form or kind, those whose names end so."""
    names = [one.vector for one in spec.outputs]
    if given in names:
        return [given]
    if any(given in (one.form, one.kind) for one in spec.outputs):
        return []
    return [name for name in names if name.endswith(f"-{given}")]
