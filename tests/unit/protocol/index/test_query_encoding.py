"""What `collection.json` says of each vector's queries."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import numpy as np
import pytest
from embedfleet.protocol.index.query_encoding import BM25_TEXT, query_encodings
from embedfleet.protocol.spec.run_spec import PassSpec
from embedfleet.worker.encoders.bm25 import Bm25Encoder

TEXTS = ("The parsers parse options of it", "Café naïve getopt_long --help x1y2", "", "it is the", "Straße 東京 don't")


def test_bm25s_options_are_those_of_the_encoder() -> None:
    edge: Any = pytest.importorskip("qdrant_edge")
    encoder = Bm25Encoder(PassSpec(vector="sparse-bm25", kind="bm25", model="bm25", average_length=5.5))
    settings = encoder.fingerprint.settings
    told = edge.Bm25Config(
        k=settings["k"],
        b=settings["b"],
        avg_len=settings["average_length"],
        tokenizer=edge.TokenizerType.Word,
        language="english",
        lowercase=True,
        ascii_folding=False,
        stopwords=edge.Language.English,
        stemmer=edge.SnowballParams(edge.SnowballLanguage.English),
    )
    assert (BM25_TEXT["tokenizer"], BM25_TEXT["language"], BM25_TEXT["stopwords"]) == ("word", "english", "english")
    model = edge.Bm25(told)
    for text, (indices, values) in zip(TEXTS, encoder.queries(TEXTS, None), strict=True):
        theirs = model.embed_query(text)
        assert dict(zip(indices.tolist(), values.tolist(), strict=True)) == dict(
            zip(theirs.indices, theirs.values, strict=True)
        )
    ours = encoder.compute(encoder.prepare(TEXTS), np.arange(len(TEXTS), dtype=np.int32))
    for text, (indices, values) in zip(TEXTS, ours, strict=True):
        theirs = model.embed_document(text)
        assert dict(zip(indices.tolist(), values.tolist(), strict=True)) == pytest.approx(
            dict(zip(theirs.indices, theirs.values, strict=True))
        )


def test_each_vector_is_described(run_files: Any, tmp_path: Any) -> None:
    files = run_files.RunFiles(tmp_path / "run", ensemble=True, multivector=True).write()
    dense, *others = files.spec.passes
    about = {"model": "m", "revision": "r", "prompt": "passage: ", "query_prompt": "query: ", "pooling": "Mean"}
    more = {"normalized": True, "max_tokens": 512, "dim": 4, "output_dim": 4, "fingerprint": "f"}
    files.layout.pass_file(run_files.DENSE).write_text(json.dumps(about | more))
    settings = {"k": 1.2, "b": 0.75, "average_length": 41.5}
    files.layout.pass_file(run_files.SPARSE).write_text(json.dumps({"settings": settings}))
    found = query_encodings(files.layout, files.spec)
    assert list(found) == [one.vector for one in files.spec.outputs]
    assert found[run_files.DENSE] == {
        "kind": "dense",
        "form": "dense",
        "model": "m",
        "revision": "r",
        "document_prompt": "passage: ",
        "query_prompt": "query: ",
        "pooling": "Mean",
        "normalized": True,
        "max_tokens": 512,
    }
    assert found[run_files.SPARSE] == {
        "kind": "bm25",
        "form": "sparse",
        "model": "qdrant/bm25",
        "options": BM25_TEXT | {"k": 1.2, "b": 0.75, "avg_len": 41.5},
        "query_weight": 1.0,
        "modifier": "idf",
    }
    assert found[run_files.MULTI]["query_prompt"] is None, "a run of 0.1.0 does not say it"
    ensemble = found[run_files.CONCAT]
    assert (ensemble["method"], ensemble["projection_seed"]) == ("concat", None)
    assert ensemble["members"] == pytest.approx({run_files.DENSE: 2 / 3, run_files.HALF: 1 / 3})
    changed = msgspec.structs.replace(dense, query_prompt="ask: ", truncate_dim=3)
    told = query_encodings(files.layout, msgspec.structs.replace(files.spec, passes=(changed, *others)))[
        run_files.DENSE
    ]
    assert (told["query_prompt"], told["truncate_dim"]) == ("ask: ", 3)


def test_the_options_are_those_of_a_servers_model() -> None:
    models: Any = pytest.importorskip("qdrant_client.models")
    options = BM25_TEXT | {"k": 1.2, "b": 0.75, "avg_len": 41.5}
    config = models.Bm25Config.model_validate(options)
    assert config.model_dump(exclude_none=True, mode="json") == options
