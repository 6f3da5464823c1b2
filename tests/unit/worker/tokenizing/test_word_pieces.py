"""The ids of single words, in one text where their pieces can be told apart."""

from __future__ import annotations

import json
from typing import Any

import pytest
from embedfleet.worker.tokenizing.word_pieces import WordPieces
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from ....tiny_tokenizers import bert

WORDS = ("the", "unrunnings", "7", "x" * 13, "caf\u00e9", ",", "#", "##s", "\u200b", " [SEP]x", "a\0", "\u6771", "b b")


def changed(**model: Any) -> Tokenizer:
    parts = json.loads(bert().to_str())
    parts["model"].update(model)
    return Tokenizer.from_str(json.dumps(parts))


VOCABULARY = json.loads(bert().to_str())["model"]["vocab"]
TOKENIZERS = {
    "plain": bert(),
    "cased": bert(lowercase=False),
    "no prefix": changed(continuing_subword_prefix=""),
    "a prefix of letters": changed(continuing_subword_prefix="the"),
    "an unknown word that looks like a piece": changed(unk_token="##s"),
    "a beginning that looks like a piece": changed(vocab={**VOCABULARY, "##": 900, "##1": 901}),
}


@pytest.mark.parametrize("name", TOKENIZERS)
@given(words=st.lists(st.sampled_from(WORDS), max_size=20))
def test_they_are_the_librarys(name: str, words: list[str]) -> None:
    tokenizer = TOKENIZERS[name]
    ids, starts, counts = WordPieces(tokenizer).ids_of([word.encode() for word in words])
    found = [ids[start : start + count].tolist() for start, count in zip(starts, counts, strict=True)]
    assert found == [one.ids for one in tokenizer.encode_batch(words, add_special_tokens=False)]
    assert len(ids) == counts.sum()


def test_two_words_with_one_id_are_refused() -> None:
    """A copy of such a tokenizer would lack one of them."""
    with pytest.raises(ValueError, match="two words of the tokenizer have the same id"):
        WordPieces(changed(vocab={**VOCABULARY, "zz": VOCABULARY["##s"]}))


def test_pieces_that_do_not_tell_are_asked_for_one_by_one() -> None:
    pieces = WordPieces(bert())
    pieces._continues = pieces._continues.copy()
    pieces._continues[VOCABULARY["the"]] = True  # as if a word began with a continuing piece
    ids, starts, counts = pieces.ids_of([b"the", b"cat"])
    assert (ids.tolist(), starts.tolist(), counts.tolist()) == ([VOCABULARY["the"], VOCABULARY["cat"]], [0, 1], [1, 1])
