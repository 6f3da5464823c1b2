"""Checks of a run's models that need no model files: fake models by their names, others by the catalogue."""

from __future__ import annotations

from ..errors import ModelError
from . import catalog
from .fake_models import FAKE_KINDS, PREFIX, parse_fake
from .output_dims import with_ensembles
from .run_spec import FLAGS, Kind, PassSpec, RunSpec


def check_known(spec: RunSpec) -> None:
    """Raise ModelError or UsageError if the spec alone shows that a model, or a combination of them, cannot work."""
    known: dict[str, int] = {}
    for one in spec.passes:
        dim = _dense_dim(one)
        if dim is not None:
            known |= {output.vector: dim for output in one.outputs if output.form == "dense"}
    with_ensembles(spec, known)


def known_dim(one: PassSpec) -> int | None:
    """Dimensions of the model's vectors, untruncated; None if they are not known by its name. ModelError for a bad fake."""
    if one.model.startswith(PREFIX):
        return parse_fake(one.model)[0]
    entry = catalog.find(one.model)
    # Another revision may differ from the card.
    return entry.dim if entry is not None and one.revision is None else None


def _dense_dim(one: PassSpec) -> int | None:
    """Dimensions of the pass's dense vectors after truncation; None if not known yet, or if it has no dense vectors."""
    if one.model.startswith(PREFIX) and one.kind not in FAKE_KINDS:
        raise ModelError(f"model {one.model!r}: there is no fake encoder of kind {one.kind!r}")
    entry = catalog.find(one.model) if one.revision is None else None
    if entry is not None and entry.kind not in ("dense", one.kind):
        raise ModelError(f"model {one.model!r} is none for {FLAGS[one.kind]}: give it with {FLAGS[entry.kind]}")
    full = known_dim(one)
    if full is None or one.kind not in ("dense", "bge-m3"):
        return None
    if one.truncate_dim is not None and one.truncate_dim > full:
        raise ModelError(f"--truncate-dim {one.truncate_dim}: the vectors of {one.model} have {full} dimensions")
    return one.truncate_dim or full


def possible_kinds(model: str) -> tuple[Kind, ...]:
    """The kinds of passes that the model may be for: by its entry in the catalogue, else all kinds with a model.

    Of a dense model, only its files show whether it also has heads.
    """
    entry = catalog.find(model)
    if entry is None:
        return ("dense", "bge-m3", "sparse", "multivector", "rerank")
    return ("dense", "bge-m3") if entry.kind == "dense" else (entry.kind,)
