"""Which tokenizers the word cache stands for, and why it refuses others."""

from __future__ import annotations

import pytest
from embedfleet.worker.tokenizing.supported import MAX_ADDED, read
from tokenizers import AddedToken, Tokenizer
from tokenizers.models import WordLevel, WordPiece
from tokenizers.normalizers import BertNormalizer, Lowercase, Sequence
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import BertProcessing, TemplateProcessing

from ....tiny_tokenizers import bert


def supported(tokenizer: Tokenizer) -> str | None:
    """The reason why it is not supported; None if it is."""
    found = read(tokenizer)
    return found if isinstance(found, str) else None


def test_tokenizers_of_berts_kind() -> None:
    assert supported(bert()) is None
    assert supported(bert(lowercase=False, strip_accents=True, clean_text=False, chinese=False)) is None
    flags = {"lstrip": True, "rstrip": True, "single_word": True, "normalized": False}
    assert supported(bert(added=[AddedToken("<x>", **flags)])) is None


@pytest.mark.parametrize(
    ("attribute", "part", "reason"),
    [
        ("normalizer", Lowercase(), "its normalizer is Lowercase, not BertNormalizer"),
        ("normalizer", Sequence([BertNormalizer()]), "its normalizer is Sequence, not BertNormalizer"),
        ("normalizer", None, "its normalizer is missing, not BertNormalizer"),
        ("pre_tokenizer", Whitespace(), "its pre_tokenizer is Whitespace, not BertPreTokenizer"),
        ("pre_tokenizer", None, "its pre_tokenizer is missing, not BertPreTokenizer"),
        ("model", WordLevel({"[UNK]": 0}, unk_token="[UNK]"), "its model is WordLevel, not WordPiece"),
        ("post_processor", BertProcessing(("[SEP]", 3), ("[CLS]", 2)), "its post_processor is BertProcessing, not"),
        ("post_processor", TemplateProcessing(single="$A", pair="$B $A", special_tokens=[]), "its template does not"),
        (
            "post_processor",
            TemplateProcessing(single="$A $A", pair="$A $B", special_tokens=[]),
            "its template does not",
        ),
        (
            "post_processor",
            TemplateProcessing(single="$A", pair="$A:300 $B", special_tokens=[]),
            "its template does not",
        ),
    ],
)
def test_other_parts(attribute: str, part: object, reason: str) -> None:
    tokenizer = bert()
    setattr(tokenizer, attribute, part)
    assert (supported(tokenizer) or "").startswith(reason)


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        (AddedToken("<x>"), "its added token '<x>' is looked for in the normalized text"),
        (AddedToken("[Q] ", normalized=False), "its added token '[Q] ' has a space"),
        (AddedToken("a\u00a0b", normalized=False), "its added token 'a\\xa0b' has a space"),
    ],
)
def test_added_tokens(token: AddedToken, reason: str) -> None:
    assert supported(bert(added=[token])) == reason


def test_too_many_added_tokens() -> None:
    added = [AddedToken(f"<{number}>", normalized=False) for number in range(MAX_ADDED)]
    assert supported(bert(added=added)) == f"it has {MAX_ADDED + 5} added tokens, more than {MAX_ADDED}"


def test_a_tokenizer_without_any_part() -> None:
    assert supported(Tokenizer(WordPiece({"a": 0}, unk_token="a"))) == "its normalizer is missing, not BertNormalizer"
