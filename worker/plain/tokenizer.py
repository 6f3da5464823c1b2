"""A WordPiece tokenizer from `tokenizer.json`, by the library `tokenizers` alone.

transformers builds BERT's tokenizers from the vocabulary and `tokenizer_config.json`. So the two files must agree.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..models.parts import read_settings
from ..tokenizing.long_texts import head, scaled
from .not_plain import NotPlain, require

CLASSES = ("BertTokenizer", "BertTokenizerFast", "DistilBertTokenizer", "DistilBertTokenizerFast")
SPECIAL = {
    "unk_token": "[UNK]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "cls_token": "[CLS]",
    "mask_token": "[MASK]",
}
WORD_PIECE = {"unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100}
"""Settings of the model that transformers makes."""


class PlainTokenizer:
    """The token ids of single texts, with [CLS] before and [SEP] after. NotPlain if the files describe another tokenizer."""

    def __init__(self, folder: Path) -> None:
        settings = read_settings(folder / "tokenizer_config.json")
        require(settings.get("tokenizer_class") in CLASSES, f"its tokenizer is {settings.get('tokenizer_class')}")
        for name, token in SPECIAL.items():
            require(_content(settings.get(name, token)) == token, f"its {name} is {settings.get(name)}")
        require(settings.get("truncation_side", "right") == "right", "it truncates at the left")
        self.model_max_length = int(settings.get("model_max_length") or 1 << 30)
        path = folder / "tokenizer.json"
        require(path.is_file(), "it has no tokenizer.json")
        _check_file(read_settings(path), settings)
        from tokenizers import Tokenizer

        try:
            self._tokenizer: Any = Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises no narrower class
            raise NotPlain(f"its tokenizer cannot be read: {error}") from error
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self.mask_id: int = self._tokenizer.token_to_id("[MASK]")
        self._special = int(self._tokenizer.num_special_tokens_to_add(False))

    def __call__(self, text: str, most: int) -> tuple[list[int], int]:
        """The first `most` token ids, and how many tokens are cut off; estimated for a very long text."""
        piece = head(text, most, self._count)
        self._tokenizer.enable_truncation(most)
        encoded = self._tokenizer.encode(piece)
        ids: list[int] = encoded.ids
        rest = sum(len(one.ids) - self._special for one in encoded.overflowing)
        kept = len(ids) - self._special
        return ids, scaled(kept + rest, len(piece), len(text)) - kept if rest else 0

    def _count(self, text: str) -> int:
        self._tokenizer.no_truncation()
        return len(self._tokenizer.encode(text, add_special_tokens=False).ids)


def _check_file(found: dict[str, Any], settings: dict[str, Any]) -> None:
    """Raise NotPlain unless the file describes the tokenizer that transformers builds from `settings`."""
    model = found["model"]
    require(model.get("type", "WordPiece") == "WordPiece", f"its tokenizer is a {model.get('type')}")
    require(all(model.get(key, one) == one for key, one in WORD_PIECE.items()), "its WordPiece has settings of its own")
    made = {
        "type": "BertNormalizer",
        "clean_text": True,
        "handle_chinese_chars": settings.get("tokenize_chinese_chars", True),
        "strip_accents": settings.get("strip_accents"),
        "lowercase": settings.get("do_lower_case", True),
    }
    require(found.get("normalizer") == made, "the normalizer in tokenizer.json is not that of tokenizer_config.json")
    require(found.get("pre_tokenizer") == {"type": "BertPreTokenizer"}, "its words are split in a way of its own")
    require(_ends(found.get("post_processor") or {}) == ["[CLS]", "[SEP]"], "it has other special tokens around a text")
    added = {one["content"]: one for one in found.get("added_tokens") or []}
    require(added.keys() == set(SPECIAL.values()), "it has added tokens")
    plain = ("single_word", "lstrip", "rstrip", "normalized")
    require(not any(one.get(key) for one in added.values() for key in plain), "its special tokens are not plain")


def _content(token: Any) -> Any:
    return token.get("content") if isinstance(token, dict) else token


def _ends(processor: dict[str, Any]) -> list[str]:
    """The tokens before and after a single text."""
    if processor.get("type") == "BertProcessing":
        return [processor["cls"][0], processor["sep"][0]]
    single = processor.get("single") or []
    if [list(one) for one in single] != [["SpecialToken"], ["Sequence"], ["SpecialToken"]]:
        return []
    return [single[0]["SpecialToken"]["id"], single[2]["SpecialToken"]["id"]]
