"""BM25 on every free core: a second worker, on a helper of the CPU slot, and the same vectors."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from embedfleet import open_run
from embedfleet.protocol.spec.run_spec import PassSpec

pytest.importorskip("qdrant_edge")

ROWS = 20_000
"""More than one segment."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, cli: Callable[..., Any]) -> Path:
    folder = tmp_path_factory.mktemp("helpers")
    chosen = random.Random(5)
    with (folder / "corpus.jsonl").open("w") as lines:
        for row in range(ROWS):
            text = " ".join(f"term{chosen.randrange(500)}" for _ in range(chosen.randint(1, 6)))
            lines.write(json.dumps({"id": str(row), "text": text}) + "\n")
    source, out = folder / "corpus.jsonl", folder / "run"
    cli("run", source, "--out", out, "--sparse", "bm25", "--index", "none", "--devices", "cpu")
    return out


def test_a_pass_of_two_segments_has_two_workers_at_once(made: Path, read_events: Any) -> None:
    leases = [event for event in read_events(made) if event["event"] == "lease"]
    begun = [one["device"] for one in leases if one["phase"] == "before"]
    assert len(begun) == 2
    assert begun[1] == "cpu helper 1 (1 thread)"
    order = [one["phase"] for one in leases]
    assert order.index("after") > [n for n, phase in enumerate(order) if phase == "before"][1]


def test_its_vectors_are_those_of_one_encoder(made: Path) -> None:
    from embedfleet.worker.encoders.bm25 import Bm25Encoder

    settings = json.loads((made / "passes" / "sparse-bm25.json").read_text())["settings"]
    spec = PassSpec(vector="v", kind="bm25", model="bm25", average_length=settings["average_length"])
    encoder, run = Bm25Encoder(spec), open_run(made)
    texts = run.chunks.column("text").to_pylist()
    assert len(texts) == ROWS
    rows = np.arange(ROWS, dtype=np.int32)
    expected = encoder.gather(ROWS, [(rows, encoder.compute(encoder.prepare(texts), rows))])
    found = run.vectors("sparse-bm25")
    np.testing.assert_array_equal(found.indptr, expected["offsets"])
    np.testing.assert_array_equal(found.indices, expected["indices"])
    np.testing.assert_allclose(found.values, expected["values"], rtol=1e-6)
