"""A tokenizer.json behind the interface of transformers that `encoders/tokenizing.py` uses, without transformers."""

from __future__ import annotations

from collections import UserDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any


class _Encoded(UserDict[str, Any]):
    """Token ids, and types if they are requested, by the names of transformers."""

    def __init__(self, encodings: Sequence[Any], *, types: bool) -> None:
        super().__init__({"input_ids": [one.ids for one in encodings]})
        if types:
            self["token_type_ids"] = [one.type_ids for one in encodings]
        self.encodings = encodings


class PlainTokenizer:
    """Truncates as transformers does: in a pair, the longer text first. `types`: return token types, unless a call refuses."""

    def __init__(self, path: Path, *, truncates_left: bool, types: bool) -> None:
        from tokenizers import Tokenizer

        self._tokenizer: Any = Tokenizer.from_file(str(path))
        self._tokenizer.no_padding()
        self._types = types
        self.truncation_side = "left" if truncates_left else "right"

    def __call__(
        self,
        texts: str | Sequence[str],
        seconds: Sequence[str] | None = None,
        *,
        add_special_tokens: bool = True,
        truncation: bool = False,
        max_length: int = 0,
        return_token_type_ids: bool | None = None,
        **_others: Any,
    ) -> Any:
        """The tokens of a text, of texts, or of pairs."""
        if truncation:
            self._tokenizer.enable_truncation(max_length, strategy="longest_first", direction=self.truncation_side)
        else:
            self._tokenizer.no_truncation()
        if isinstance(texts, str):
            return {"input_ids": self._tokenizer.encode(texts, add_special_tokens=add_special_tokens).ids}
        inputs: list[Any] = list(texts) if seconds is None else list(zip(texts, seconds, strict=True))
        encodings = self._tokenizer.encode_batch_fast(inputs, add_special_tokens=add_special_tokens)
        return _Encoded(encodings, types=self._types and return_token_type_ids is not False)

    def num_special_tokens_to_add(self, pair: bool = False) -> int:
        """Special tokens of a text or pair."""
        return int(self._tokenizer.num_special_tokens_to_add(pair))
