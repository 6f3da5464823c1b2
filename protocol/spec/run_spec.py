"""RunSpec: what a run computes. A client submits it, and `spec.json` records it."""

from __future__ import annotations

import os
import re
from typing import Literal

import msgspec

from ..errors import UsageError
from ..text.preprocessing import FIRST, LATEST, preprocessor
from .ensemble_spec import EnsembleSpec, check_ensemble
from .int8_ranges import Int8Ranges
from .shard import Shard

Kind = Literal["dense", "bm25", "sparse", "metadata", "multivector", "bge-m3", "rerank"]
Form = Literal["dense", "sparse", "multivector", "score"]
Dtype = Literal["auto", "float32", "bfloat16", "float16"]
Backend = Literal["auto", "torch", "torch-packed", "openvino", "onnx"]
"""How forward passes are computed; auto: by OpenVINO on a CPU where it pays, else without padding where the model can."""
Index = Literal["edge", "none"]
Storage = Literal["float32", "float16", "int8", "binary"]

FORMS: dict[Kind, tuple[Form, ...]] = {
    "dense": ("dense",),
    "bm25": ("sparse",),
    "sparse": ("sparse",),
    "metadata": ("sparse",),
    "multivector": ("multivector",),
    "bge-m3": ("dense", "sparse", "multivector"),
    "rerank": ("score",),
}
"""The vectors that a pass of each kind computes for every row. bge-m3's three come from one forward pass."""

FLAGS: dict[Kind, str] = {
    "dense": "--dense",
    "bm25": "--sparse",
    "sparse": "--sparse",
    "metadata": "--sparse",
    "multivector": "--multivector",
    "bge-m3": "--heads",
    "rerank": "--rerank",
}
"""The flag for a model of each kind, for messages."""

CPU_KINDS: frozenset[str] = frozenset({"bm25", "metadata"})
"""Kinds that never use a GPU: they run on a CPU slot while GPUs do other passes."""

PREPROCESSING = LATEST
"""The preprocessing policy of a new run. A resumed run keeps that of its directory."""

NONE = "none"
"""A field name that means no field. A field with this name is given in double quotes."""

HEADS = "heads-"
"""Prefix of the name of a pass with several vectors."""

MOST_PATH_BYTES = 4096
"""The longest path on Linux (PATH_MAX)."""

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")


class Output(msgspec.Struct, frozen=True):
    """One vector of a pass. Its name is also that of its folder."""

    vector: str
    form: Form
    kind: Kind | Literal["ensemble"]
    storage: Storage = "float32"
    """How dense vectors are stored in their segments (see `storage.py`)."""
    ranges: Int8Ranges | None = None
    """Those of int8 in all segments; None: each segment has its own."""


class PassSpec(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One model over the whole corpus. `vector` is the name of its vector."""

    vector: str
    kind: Kind
    model: str
    """An alias of the catalogue, a hub id, a local folder, or `fake:DIM[,option=value…]`."""
    revision: str | None = None
    dtype: Dtype = "auto"
    max_tokens: int | None = None
    """Texts are truncated to this many tokens; None: the model's own limit."""
    prompt: str | None = None
    """Prefix of each text; None: the model's own document prompt."""
    trust_remote_code: bool = False
    side: Literal["document", "query"] = "document"
    """Whether the texts are documents or queries, which models may encode differently."""
    fallback: bool = True
    """Learned sparse: if the model fails on a chunk, take the weights in its metadata."""
    max_active_dims: int | None = None
    """Learned sparse: keep this many of the largest weights; None keeps all."""
    pool_factor: int = 1
    """Multivectors of documents: pool the token vectors to about 1 of this many; 1 keeps all."""
    truncate_dim: int | None = None
    """Dense: keep this many leading components (Matryoshka) and normalize again."""
    storage: Storage = "float32"
    """Dense: how the vectors are stored in their segments."""
    int8_ranges: Int8Ranges | None = None
    """Dense, stored as int8: the ranges of all segments. Set by a fit, for shards; None: each segment has its own."""
    average_length: float | None = None
    """BM25: average length of the corpus's texts in terms; None: measured when the pass begins."""
    query_prompt: str | None = None
    """Prefix of each query; None: the model's own query prompt. The chunks' vectors do not depend on it."""
    normalize: bool = False
    """Dense: accept a model made for the dot product or another distance, and compare its vectors by cosine. Without it such
    a model is refused. No vector depends on this field: all are normalized to length 1 anyway."""
    backend: Backend = "auto"
    """Set when a worker is staged, from the options of the session (`RunOptions.backend`)."""
    expected_tokens: int = 0
    """Set with it: the estimated tokens of all texts, divided by the number of devices; 0 if not known."""
    chosen_dtype: bool = False
    """Set with it: whether `dtype` was chosen for `auto`."""

    @property
    def outputs(self) -> tuple[Output, ...]:
        """The vectors that the pass writes. If it is only one, it has the name of the pass."""
        forms = FORMS[self.kind]
        stem = self.vector.removeprefix(HEADS)
        names = (self.vector,) if len(forms) == 1 else tuple(f"{form}-{stem}" for form in forms)
        return tuple(
            Output(name, form, self.kind, self.storage, self.int8_ranges)
            if form == "dense"
            else Output(name, form, self.kind)
            for name, form in zip(names, forms, strict=True)
        )

    @property
    def needs_average_length(self) -> bool:
        """Whether the pass needs a figure of the whole corpus: BM25's average length of documents; queries do not."""
        return self.kind == "bm25" and self.average_length is None and self.side == "document"

    @property
    def needs_int8_ranges(self) -> bool:
        """Whether the pass stores dense vectors as int8 by the ranges of each segment."""
        return self.storage == "int8" and self.int8_ranges is None and "dense" in FORMS[self.kind]

    @property
    def metadata_fallback(self) -> str | None:
        """The sparse vector whose missing rows get the weights of the chunks' metadata; None if no vector does."""
        if self.kind != "metadata" and not (self.fallback and self.kind in ("sparse", "bge-m3")):
            return None
        return next(one.vector for one in self.outputs if one.form == "sparse")


class RunSpec(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One corpus and what to compute from it. Paths are absolute: the coordinator may run in another folder."""

    source: str
    """A file, a folder, or `-` for standard input, which only the coordinator of `embedfleet run` can read."""
    passes: tuple[PassSpec, ...]
    text_field: str | None = None
    id_field: str | None = None
    """NONE numbers the chunks. None: find the field by convention, as for the other fields."""
    limit: int | None = None
    """Stop after this many chunks."""
    index: Index = "edge"
    preprocessing: str = FIRST
    """The default is the only policy of 0.1.0, whose specs do not name it."""
    ensembles: tuple[EnsembleSpec, ...] = ()
    """Vectors that the exporter combines from those of the passes."""
    title_field: str | None = None
    """The field to put before the text. NONE leaves titles out."""
    shard: Shard | None = None
    """The part of the source to read; None: all of it."""

    @property
    def outputs(self) -> tuple[Output, ...]:
        """Every vector of the run, in the order of the passes; then the ensembles."""
        derived = (Output(one.vector, "dense", "ensemble") for one in self.ensembles)
        return (*(output for one in self.passes for output in one.outputs), *derived)

    @property
    def query_prompts(self) -> dict[str, str | None]:
        """The prompt of queries by pass. No committed vector depends on it."""
        return {one.vector: one.query_prompt for one in self.passes}


def vector_name(kind: Kind, model: str) -> str:
    """The vector's name for a model: `dense-bge-m3` for `BAAI/bge-m3`, `dense-fake-384` for `fake:384,delay_ms=5`."""
    stem = model.split(",", 1)[0].replace(":", "-").rstrip("/").rsplit("/", 1)[-1].lower()
    stem = re.sub(r"[^a-z0-9._-]+", "-", stem).strip("-._") or "model"
    return f"{_prefix(kind)}{stem}"[:100]


def prefixed_name(kind: Kind, name: str) -> str:
    """The vector's name for a `name` that the user gives: with the prefix of its kind, like every name."""
    return _prefix(kind) + name.removeprefix(_prefix(kind))


def _prefix(kind: Kind) -> str:
    return HEADS if kind == "bge-m3" else "rerank-" if kind == "rerank" else f"{FORMS[kind][0]}-"


def check_spec(spec: RunSpec) -> None:
    """Raise UsageError for an invalid spec."""
    if not spec.passes:
        raise UsageError("nothing to compute: give at least one --dense, --sparse, --multivector or --heads MODEL")
    if not spec.source:  # as a path it would be the folder that the coordinator runs in
        raise UsageError("source '': is empty; give a file, a folder, or - for standard input")
    check_path(spec.source, "source")
    for one in spec.passes:
        check_path(one.model, FLAGS[one.kind])
    _check_names(spec)
    if spec.limit is not None and spec.limit < 1:
        raise UsageError(f"--limit {spec.limit}: give a number of chunks, 1 or more")
    _check_shard(spec)
    preprocessor(spec.preprocessing)
    if spec.preprocessing == FIRST and spec.title_field is not None:
        raise UsageError(f"--title-field {spec.title_field}: policy {FIRST!r} has no named title; leave it out")
    for one in spec.passes:
        _check_numbers(one)
    dense = [output.vector for one in spec.passes for output in one.outputs if output.form == "dense"]
    for ensemble in spec.ensembles:
        check_ensemble(ensemble, dense)


def _check_shard(spec: RunSpec) -> None:
    if spec.shard is None:
        return
    if not 0 <= spec.shard.index < spec.shard.count:
        raise UsageError(f"--shard {spec.shard}: shards are numbered from 0; give a number below their count")
    if spec.source == "-":
        raise UsageError("--shard: standard input cannot be divided; give a file or a folder")
    if spec.limit is not None:
        raise UsageError("--limit: counts the chunks of a whole source; leave it out with shards")


def _check_numbers(one: PassSpec) -> None:
    for flag, value in (
        ("--max-tokens", one.max_tokens),
        ("--max-active-dims", one.max_active_dims),
        ("--pool-factor", one.pool_factor),
        ("--truncate-dim", one.truncate_dim),
    ):
        if value is not None and value < 1:
            raise UsageError(f"{flag} {value}: give 1 or more")
    if "dense" not in FORMS[one.kind] and (one.truncate_dim is not None or one.storage != "float32"):
        raise UsageError(f"{one.vector}: --truncate-dim and --store are for dense vectors, and this pass has none")


def check_path(path: str, what: str) -> None:
    """Raise UsageError for a path that no system can open; `what` is its flag or argument."""
    if "\0" in path:
        raise UsageError(f"{what} {path[:80]!r}: holds a NUL character; give a path without one")
    if len(os.fsencode(path)) >= MOST_PATH_BYTES:
        raise UsageError(
            f"{what} {path[:80]!r}…: has {len(path):,} characters; give one below {MOST_PATH_BYTES:,} bytes"
        )


def is_name(vector: str) -> bool:
    """Whether a vector and its folder can have this name."""
    return _NAME.fullmatch(vector) is not None


def _check_names(spec: RunSpec) -> None:
    """Raise UsageError if two vectors have the same name, or a folder cannot have it."""
    makers = [(output.vector, one.model) for one in spec.passes for output in one.outputs]
    makers += [(one.vector, f"--ensemble {one.method}") for one in spec.ensembles]
    made_by: dict[str, str] = {}
    for name, maker in makers:
        if not is_name(name):
            raise UsageError(f"vector name {name!r}: use lower-case letters, digits, '.', '_' and '-', at most 100")
        if (first := made_by.get(name)) is not None:
            remedy = "give it once" if first == maker else f"give one of them another name, as in NAME={maker}"
            raise UsageError(f"the vector {name!r} would be written twice, by {first} and by {maker}; {remedy}")
        made_by[name] = maker
