"""How each vector of a run was computed, for programs that encode queries themselves and ask a server that has the run."""

from __future__ import annotations

from typing import Any

from msgspec import UNSET

from ..run_directory.layout import RunLayout
from ..run_directory.records.passes import PassRecord, read_pass
from ..spec.ensemble_spec import EnsembleSpec
from ..spec.run_spec import Output, PassSpec, RunSpec
from ..vectors.metadata_terms import METADATA_WEIGHTS

Encoding = dict[str, Any]
"""Null where `pass.json` does not say it."""

BM25_TEXT = {
    "tokenizer": "word",
    "lowercase": True,
    "ascii_folding": False,
    "language": "english",
    "stopwords": "english",
    "stemmer": {"type": "snowball", "language": "english"},
}
"""What BM25 makes of a text. The names are those of the options of Qdrant's model `qdrant/bm25`."""


def query_encodings(layout: RunLayout, spec: RunSpec) -> dict[str, Encoding]:
    """By vector name: model, prompts, pooling and normalization; of BM25 its options; of an ensemble its members."""
    passes = {output.vector: one for one in spec.passes for output in one.outputs}
    ensembles = {one.vector: one for one in spec.ensembles}
    found: dict[str, Encoding] = {}
    for output in spec.outputs:
        record = read_pass(layout, output.vector) or PassRecord()
        about: Encoding = {"kind": output.kind, "form": output.form}
        if (ensemble := ensembles.get(output.vector)) is not None:
            found[output.vector] = about | _of_ensemble(ensemble, record)
        elif output.kind == "bm25":
            found[output.vector] = about | _of_bm25(record)
        else:
            found[output.vector] = about | _of_model(passes[output.vector], output, record)
    return found


def _of_model(one: PassSpec, output: Output, record: PassRecord) -> Encoding:
    about = {
        "model": record.model or one.model,
        "revision": record.revision or one.revision,
        "document_prompt": _known(record.prompt),
        "query_prompt": one.query_prompt if one.query_prompt is not None else _known(record.query_prompt),
        "pooling": _known(record.pooling),
        "normalized": _known(record.normalized),
        "max_tokens": _known(record.max_tokens),
    }
    if output.form == "dense" and one.truncate_dim is not None:
        about["truncate_dim"] = one.truncate_dim
    if one.metadata_fallback == output.vector:
        about["metadata_terms"] = METADATA_WEIGHTS
    return about


def _of_bm25(record: PassRecord) -> Encoding:
    settings = record.settings or {}
    options = {"k": settings.get("k"), "b": settings.get("b"), "avg_len": settings.get("average_length")}
    return {"model": "qdrant/bm25", "options": BM25_TEXT | options, "query_weight": 1.0, "modifier": "idf"}


def _of_ensemble(one: EnsembleSpec, record: PassRecord) -> Encoding:
    shares = dict(zip(one.members, one.shares, strict=True))
    seed = (record.settings or {}).get("projection_seed")
    return {"method": one.method, "members": shares, "projection_seed": seed, "normalized": True}


def _known(value: Any) -> Any:
    return None if value is UNSET else value
