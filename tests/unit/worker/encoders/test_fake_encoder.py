"""The fake encoder: the same text always has the same unit vector; faults come when asked for."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from embedfleet.protocol.errors import ModelError
from embedfleet.protocol.spec.fake_models import parse_fake
from embedfleet.protocol.spec.run_spec import PassSpec
from embedfleet.protocol.text.query_pairs import join_pair
from embedfleet.worker.encoders.base import OutOfMemory
from embedfleet.worker.encoders.choose import load_encoder
from embedfleet.worker.encoders.fake import FakeEncoder
from hypothesis import given, settings
from hypothesis import strategies as st

TEXTS = ["one", "two", "three", "ünïcode", ""]
DEEP = "fake:8,depth=3,delay_ms=1"


def encoder(model: str = "fake:16", **options: Any) -> FakeEncoder:
    return FakeEncoder(PassSpec(vector="v", kind="dense", model=model, **options))


def encode(one: FakeEncoder, texts: list[str], rows: list[int] | None = None) -> npt.NDArray[np.float32]:
    chosen = np.arange(len(texts), dtype=np.int32) if rows is None else np.array(rows, np.int32)
    return one.compute(one.prepare(texts), chosen)


def test_vectors_are_unit_float32_and_differ() -> None:
    vectors = encode(encoder(), TEXTS)
    assert vectors.dtype == np.float32
    assert vectors.shape == (5, 16)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert np.abs(vectors @ vectors.T - np.eye(5)).max() < 0.9


def test_the_vectors_are_these_on_every_machine() -> None:
    known = [[0.77287859, -0.60672891, 0.18584618], [-0.32890952, 0.75948650, 0.56124771]]
    np.testing.assert_allclose(encode(encoder("fake:3"), ["embedfleet", "chunk"]), known, atol=1e-7)


def test_order_and_company_do_not_matter() -> None:
    one = encoder()
    assert encode(one, TEXTS, [3, 0]).tobytes() == encode(one, ["ünïcode", "one"]).tobytes()


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=10), st.integers(1, 40))
@settings(deadline=None)
def test_any_text_and_dimension_gives_unit_vectors(texts: list[str], dim: int) -> None:
    vectors = encode(encoder(f"fake:{dim}"), texts)
    assert vectors.shape == (len(texts), dim)
    np.testing.assert_allclose(np.einsum("ij,ij->i", vectors, vectors), 1, atol=1e-5)
    assert not encoder(f"fake:{dim}").unusable(vectors).any()


def test_many_rows_are_the_rows_one_by_one() -> None:
    texts = [f"text {n}" for n in range(700)]
    whole = encode(encoder(), texts)
    assert whole[[0, 255, 256, 699]].tobytes() == encode(encoder(), [texts[n] for n in (0, 255, 256, 699)]).tobytes()


def test_a_prompt_changes_the_vector_as_text_before_it_would() -> None:
    assert encode(encoder(prompt="query: "), ["one"]).tobytes() == encode(encoder(), ["query: one"]).tobytes()


def test_lengths_are_estimated_and_truncation_is_said() -> None:
    prepared = encoder(max_tokens=5).prepare(["x" * 12, "x" * 13, ""])
    assert prepared.lengths.tolist() == [5, 5, 2]
    assert prepared.truncated.tolist() == [False, True, False]


def test_results_are_gathered_in_the_order_of_the_batch() -> None:
    one = encoder()
    prepared = one.prepare(TEXTS)
    parts = [(rows, one.compute(prepared, rows)) for rows in (np.array([3, 1], np.int32), np.array([0, 4], np.int32))]
    gathered = one.gather(5, parts)["vector"]
    assert gathered[[0, 1, 3, 4]].tobytes() == encode(one, TEXTS, [0, 1, 3, 4]).tobytes()
    assert np.isnan(gathered[2]).all()


def test_the_fingerprint_leaves_the_faults_out() -> None:
    plain, faulty = encoder("fake:16"), encoder("fake:16,delay_ms=1,nan_on=x")
    assert plain.fingerprint == faulty.fingerprint
    assert plain.fingerprint.dim == 16
    assert plain.row_bytes == 64
    assert encoder("fake:17").fingerprint.digest() != plain.fingerprint.digest()


def test_nan_on_a_word() -> None:
    one = encoder("fake:16,nan_on=two")
    vectors = encode(one, TEXTS)
    assert one.unusable(vectors).tolist() == [False, True, False, False, False]
    assert one.unusable(one.recompute(one.prepare(TEXTS), np.array([1], np.int32))).tolist() == [True]


def test_out_of_memory_above_a_number_of_tokens() -> None:
    one = encoder("fake:16,oom_above=6")
    assert encode(one, ["one", "two"]).shape == (2, 16)
    with pytest.raises(OutOfMemory, match="9 tokens; this fake device holds 6"):
        encode(one, ["one", "two", "six"])


@pytest.mark.parametrize("kind", ["dense", "sparse", "multivector", "bge-m3", "rerank"])
def test_several_may_be_open_and_each_has_the_result_that_it_has_alone(kind: Any) -> None:
    plain, deep = (load_encoder(PassSpec(vector="v", kind=kind, model=model), "cpu", 1) for model in ("fake:8", DEEP))
    texts = [join_pair("one", text) for text in TEXTS] if kind == "rerank" else TEXTS
    assert (plain.depth, deep.depth) == (1, 3)
    prepared, rows = deep.prepare(texts), [np.array(some, np.int32) for some in ([0, 1], [2], [3, 4])]
    launched = [deep.launch(prepared, some) for some in rows]
    found, expected = (
        deep.gather(5, [(some, one.collect()) for some, one in zip(rows, launched, strict=True)]),
        plain.gather(5, [(some, plain.launch(prepared, some).collect()) for some in rows]),
    )
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)


def test_the_fake_device_has_room_for_all_that_is_open_together() -> None:
    one = encoder("fake:16,depth=3,oom_above=6")
    prepared, row = one.prepare(["one", "two", "six"]), np.zeros(1, np.int32)
    launched = [one.launch(prepared, row) for _ in range(2)]
    with pytest.raises(OutOfMemory, match="9 tokens; this fake device holds 6"):
        one.launch(prepared, row)
    assert launched[0].collect().shape == (1, 16)
    one.launch(prepared, row)


def test_delays_are_over_one_after_the_other() -> None:
    one = encoder("fake:16,depth=3,delay_ms=20")
    prepared, row = one.prepare(["one"]), np.zeros(1, np.int32)
    start = time.monotonic()
    first, second = one.launch(prepared, row), one.launch(prepared, row)
    second.collect()
    assert time.monotonic() - start >= 0.04
    first.collect()


def test_a_delay() -> None:
    start = time.monotonic()
    encode(encoder("fake:16,delay_ms=20"), ["one"])
    assert time.monotonic() - start >= 0.02


def test_a_word_that_kills_the_process() -> None:
    code = (
        "import numpy as np\n"
        "from embedfleet.protocol.spec.run_spec import PassSpec\n"
        "from embedfleet.worker.encoders.fake import FakeEncoder\n"
        "one = FakeEncoder(PassSpec(vector='v', kind='dense', model='fake:4,kill_on=poison'))\n"
        "one.compute(one.prepare(['well']), np.zeros(1, np.int32))\n"
        "print('alive', flush=True)\n"
        "one.compute(one.prepare(['some poison here']), np.zeros(1, np.int32))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=False)
    assert done.returncode == -9
    assert done.stdout == b"alive\n"


def test_options_are_read() -> None:
    assert parse_fake("fake:384") == (384, {})
    options = {"delay_ms": 0.5, "kill_on": "a", "nan_on": "b", "hang_on": "c", "oom_above": 9}
    assert parse_fake("fake:1,delay_ms=.5,kill_on=a,nan_on=b,hang_on=c,oom_above=9") == (1, options)


@pytest.mark.parametrize(
    ("model", "why"),
    [
        ("fake:", "give the dimension"),
        ("fake:0", "give the dimension"),
        ("fake:65537", "give the dimension"),
        ("fake:x", "give the dimension"),
        ("fake:4,", "option ''"),
        ("fake:4,sleep=1", "option 'sleep=1' is not one of delay_ms=…"),
        ("fake:4,nan_on=", "option 'nan_on='"),
        ("fake:4,depth=0", "depth is at least 1"),
        ("fake:4,delay_ms=soon", "delay_ms must be a number, not 'soon'"),
        ("fake:4,oom_above=1.5", "oom_above must be a number, not '1.5'"),
    ],
)
def test_other_options_are_refused(model: str, why: str) -> None:
    with pytest.raises(ModelError, match=why):
        parse_fake(model)
