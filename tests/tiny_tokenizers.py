"""Small tokenizers of BERT's kind, and texts that are hard on them."""

from __future__ import annotations

import string
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import TemplateProcessing

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
MARKS = string.punctuation + "“”—…¿、。。·؟"
LETTERS = string.ascii_letters + string.digits + "éÉßσςΣıİäÄфФяøøœ東京中한가のカñ\u0301\u0308\u0327\u1100\u1161\ufb01"
WORDS = ("the", "cat", "sat", "run", "##s", "##ning", "##at", "un", "##able", "word", "caf", "strasse", "na", "##ive")
_CODES = (
    "0 1 b c 1c 1f 7f 85 a0 ad 300 301 338 34f 37e 385 61c 1680 180e 1fef 2000 200b 200d 2028 2029 202e 2060 2126 "
    "226e 3000 fe0f feff fffd 1f468 1f1e6 20000 e0020 130 3a3 1e9e 149 fb03 1c5 3307 ac00 1d15e"
)
ODD = [chr(int(code, 16)) for code in _CODES.split()]
"""Controls, other spaces, marks without a letter, characters whose decomposition is or has ASCII, and such that become several
characters in lower case."""


def bert(
    *,
    lowercase: bool = True,
    strip_accents: bool | None = None,
    clean_text: bool = True,
    chinese: bool = True,
    unknown: bool = True,
    added: Sequence[AddedToken] = (),
    normalizer: Any = None,
    longest_word: int = 12,
) -> Tokenizer:
    """A WordPiece tokenizer with single letters and a few words. With `unknown`, it has a token for unknown words."""
    vocabulary: dict[str, int] = {}
    special = SPECIAL if unknown else tuple(one for one in SPECIAL if one != "[UNK]")
    for token in (*special, *MARKS, *LETTERS, *(f"##{one}" for one in LETTERS), *WORDS):
        vocabulary.setdefault(token, len(vocabulary))
    tokenizer: Any = Tokenizer(WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=longest_word))
    tokenizer.normalizer = normalizer or BertNormalizer(
        clean_text=clean_text, handle_chinese_chars=chinese, strip_accents=strip_accents, lowercase=lowercase
    )
    tokenizer.pre_tokenizer = BertPreTokenizer()
    tokenizer.add_special_tokens([AddedToken(one, normalized=False, special=True) for one in special])
    tokenizer.add_tokens(list(added))
    tokenizer.post_processor = template(vocabulary)
    return tokenizer


def template(vocabulary: dict[str, int]) -> TemplateProcessing:
    return TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(one, vocabulary[one]) for one in ("[CLS]", "[SEP]")],
    )


def texts(*more: str) -> st.SearchStrategy[str]:
    """Texts of everything that is odd, words, spaces, special tokens and parts of them, and of `more`."""
    parts = st.one_of(
        st.sampled_from([*ODD, *MARKS, *LETTERS]),
        st.sampled_from([" ", " ", " ", "\t", "\n", "\r\n", "  "]),
        st.sampled_from(["the", "Cats", "unrunnings", "strasse", "x" * 12, "y" * 13, "z" * 16, "Z" * 17, "word" * 9]),
        st.sampled_from([*SPECIAL, "[CLS", "sep]", "[Mask]", *more]),
        st.characters(exclude_categories=["Cs"]),
    )
    return st.lists(parts, max_size=24).map("".join)
