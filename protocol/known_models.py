"""What is known of a run's models before anyone looks for them: the fake ones by their names, others by the catalogue."""

from __future__ import annotations

from . import catalog
from .errors import ModelError
from .fake_models import FAKE_KINDS, PREFIX, parse_fake
from .output_dims import with_ensembles
from .spec import FLAGS, PassSpec, RunSpec


def check_known(spec: RunSpec) -> None:
    """ModelError or UsageError for models that the spec alone shows to be impossible, alone or together."""
    known: dict[str, int] = {}
    for one in spec.passes:
        dim = _dense_dim(one)
        if dim is not None:
            known |= {output.vector: dim for output in one.outputs if output.form == "dense"}
    with_ensembles(spec, known)


def _dense_dim(one: PassSpec) -> int | None:
    """Dimensions that the pass keeps of its dense vectors; None where nobody knows yet, or it has none."""
    if one.model.startswith(PREFIX):
        if one.kind not in FAKE_KINDS:
            raise ModelError(f"model {one.model!r}: there is no fake encoder of kind {one.kind!r}")
        full = parse_fake(one.model)[0]
    else:
        entry = catalog.find(one.model)
        # Of another revision than the card's nothing is known.
        if entry is None or one.revision is not None:
            return None
        full = entry.dim
        if entry.kind not in ("dense", one.kind):
            raise ModelError(f"model {one.model!r} is none for {FLAGS[one.kind]}: give it with {FLAGS[entry.kind]}")
    if one.kind not in ("dense", "bge-m3"):
        return None
    if one.truncate_dim is not None and one.truncate_dim > full:
        raise ModelError(f"--truncate-dim {one.truncate_dim}: the vectors of {one.model} have {full} dimensions")
    return one.truncate_dim or full
