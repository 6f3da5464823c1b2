"""Encode outside of Ray: real workers, whose faults cost a row its vector and nothing else."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from embedfleet.client.encoding import pass_encoder, worker_process
from embedfleet.protocol.errors import EmbedfleetError, ModelError, UsageError
from embedfleet.protocol.spec.run_spec import PassSpec
from embedfleet.ray import Encode
from embedfleet.worker.encoders.bm25 import Bm25Encoder
from embedfleet.worker.encoders.fake import FakeEncoder

TEXTS = [f"text {row} of a batch, {'long ' * (row % 9)}" for row in range(50)]


@pytest.fixture
def encode() -> Iterator[Callable[..., Encode]]:
    """Makes an Encode on one thread of the CPU; it is closed after the test."""
    made: list[Encode] = []

    def make(**arguments: Any) -> Encode:
        made.append(Encode(device="cpu", threads=1, **arguments))
        return made[-1]

    yield make
    for one in made:
        one.close()


def table(*texts: str | None) -> pa.Table:
    return pa.table({"text": pa.array(texts or TEXTS, pa.string())})


def vectors(array: Any) -> np.ndarray:
    return np.array(array.combine_chunks().to_pylist(), np.float32)


def fake_vectors(texts: list[str], dim: int = 8) -> np.ndarray:
    encoder = FakeEncoder(PassSpec(vector="v", kind="dense", model=f"fake:{dim}"))
    return encoder.compute(encoder.prepare(texts), np.arange(len(texts), dtype=np.int32))


def test_dense_vectors_in_the_order_of_the_rows(encode: Callable[..., Encode]) -> None:
    found = encode(dense="fake:8")(table())
    assert found.column_names == ["text", "dense-fake-8", "error"]
    assert found.schema.field("dense-fake-8").type == pa.list_(pa.float32(), 8)
    np.testing.assert_array_equal(vectors(found["dense-fake-8"]), fake_vectors([text.strip() for text in TEXTS]))
    assert found["error"].null_count == len(TEXTS)


def test_every_kind_at_once(encode: Callable[..., Encode]) -> None:
    made = encode(
        dense=["a=fake:8", "fake:4"], sparse="bm25", heads="h=fake:6", rerank="fake:1", average_length=9.0, query="q"
    )
    batch = table().append_column("q", pa.array(["what is it"] * len(TEXTS)))
    found = made(batch)
    names = [
        *("dense-a", "dense-fake-4", "dense-h", "sparse-h.indices", "sparse-h.values", "multivector-h"),
        *("sparse-bm25.indices", "sparse-bm25.values", "rerank-fake-1", "error"),
    ]
    assert found.column_names == ["text", "q", *names]
    assert found["error"].null_count == len(TEXTS)
    encoder = Bm25Encoder(PassSpec(vector="v", kind="bm25", model="bm25", average_length=9.0))
    expected = encoder.compute(encoder.prepare([text.strip() for text in TEXTS]), np.arange(len(TEXTS), dtype=np.int32))
    assert found["sparse-bm25.indices"].to_pylist() == [indices.tolist() for indices, _ in expected]
    assert found["sparse-bm25.values"].to_pylist() == [values.tolist() for _, values in expected]
    assert all(found[name].null_count == 0 for name in names[:-1])
    again = made(batch.slice(10, 7))
    assert again["multivector-h"].to_pylist() == found["multivector-h"].slice(10, 7).to_pylist()
    assert again["rerank-fake-1"].to_pylist() == found["rerank-fake-1"].slice(10, 7).to_pylist()


def test_rows_without_a_text_and_titles(encode: Callable[..., Encode]) -> None:
    made = encode(dense="fake:8", title="head")
    batch = table("one", None, "  \n", "two\r\n").append_column("head", pa.array(["A title", "x", "y", " "]))
    found = made(batch)
    assert found["error"].to_pylist() == [None, "no text", None, None]
    np.testing.assert_array_equal(
        vectors(found["dense-fake-8"].filter(pa.array([True, False, True, True]))),
        fake_vectors(["A title one", "y", "two"]),
    )
    blank = encode(dense="fake:8")(table("  \n", None))
    assert blank["error"].to_pylist() == ["empty text", "no text"]
    assert blank["dense-fake-8"].to_pylist() == [None, None]
    assert made(batch.slice(0, 0)).num_rows == 0


def test_numpy_and_pandas(encode: Callable[..., Encode]) -> None:
    made = encode(dense="fake:8")
    arrays = made({"text": np.array(["one", None, "two"], object)})
    np.testing.assert_array_equal(arrays["dense-fake-8"][[0, 2]], fake_vectors(["one", "two"]))
    assert np.isnan(arrays["dense-fake-8"][1]).all()
    frame = made(table("one", None, "two").to_pandas())
    np.testing.assert_array_equal(frame["dense-fake-8"][2], fake_vectors(["two"])[0])


@pytest.mark.parametrize("model", ["fake:8,kill_on=poison", "fake:8,raise_on=poison", "fake:8,nan_on=poison"])
def test_a_row_that_cannot_be_encoded_has_its_reason(encode: Callable[..., Encode], model: str) -> None:
    texts = [*TEXTS[:20], "a poison row", *TEXTS[20:]]
    found = encode(dense=f"v={model}", sparse="bm25", average_length=5.0)(table(*texts))
    kept = [row for row in range(len(texts)) if row != 20]
    assert [row for row, reason in enumerate(found["error"].to_pylist()) if reason] == [20]
    assert found["error"][20].as_py().startswith("dense-v: ")
    assert found["dense-v"][20].as_py() is None
    np.testing.assert_array_equal(
        vectors(found["dense-v"].take(pa.array(kept))), fake_vectors([texts[row].strip() for row in kept])
    )
    assert found["sparse-bm25.values"].null_count == 0, "the other models have their vector of it"


def test_out_of_memory_is_the_workers_own_affair(encode: Callable[..., Encode]) -> None:
    texts = [f"{number:03d}" + "x" * 397 for number in range(16)]
    found = encode(dense="v=fake:8,oom_above=500")(table(*texts, "z" * 10_000))
    np.testing.assert_array_equal(vectors(found["dense-v"].slice(0, 16)), fake_vectors(texts))
    assert "out of memory" in found["error"][16].as_py()


def test_a_worker_that_hangs_is_started_again(encode: Callable[..., Encode]) -> None:
    found = encode(dense="v=fake:8,hang_on=poison", batch_timeout=1.0)(table("fine", "poison"))
    assert found["error"].to_pylist() == [None, "dense-v: it made no progress for 1 s"]


def test_results_of_the_wrong_shape_are_not_used(encode: Callable[..., Encode]) -> None:
    found = encode(dense="v=fake:8,shape_on=poison")(table("fine", "poison"))
    assert found["error"][0].as_py() is None
    assert found["error"][1].as_py().startswith("dense-v: ")


def test_models_that_cannot_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pass_encoder, "PAUSE_SECONDS", 0.0)
    with pytest.raises(ModelError, match="no-such-alias"):
        Encode(dense="no-such-alias", device="cpu")
    with pytest.raises(EmbedfleetError, match="4 workers in a row ended without a result on cpu:0"):
        Encode(dense="fake:8,load=kill", device="cpu", threads=1)
    with pytest.raises(UsageError, match="device='gpu': give auto or cpu or cuda"):
        Encode(dense="fake:8", device="gpu")  # type: ignore[arg-type]


def test_a_column_that_is_there_already(encode: Callable[..., Encode]) -> None:
    with pytest.raises(UsageError, match="has a column 'error' already"):
        encode(dense="fake:8")(table("one").append_column("error", pa.array(["mine"])))


def test_calls_from_several_threads(encode: Callable[..., Encode]) -> None:
    made = encode(dense="fake:8")
    results: dict[int, pa.Table] = {}
    threads = [
        threading.Thread(target=lambda row=row: results.update({row: made(table(f"text {row}"))})) for row in range(6)
    ]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    for row, found in results.items():
        np.testing.assert_array_equal(vectors(found["dense-fake-8"]), fake_vectors([f"text {row}"]))


def test_a_closed_one_says_so(encode: Callable[..., Encode]) -> None:
    made = encode(dense="fake:8")
    made.close()
    with pytest.raises(UsageError, match="this Encode is closed, and its workers have ended; make a new one"):
        made(table("one"))


def test_workers_end_with_it_and_leave_nothing(waiting: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_process, "short_folder", lambda: folder)
    with closing(Encode(dense="fake:8", device="cpu", threads=1)):
        (child,) = waiting.children_with("embedfleet.worker")
        assert list(folder.iterdir())
    waiting.all_gone([child], 5.0)
    assert not list(folder.iterdir())
