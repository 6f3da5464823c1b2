"""Which tokenizers treat the words of a text one by one, so that a cache of words gives their exact ids.

BERT's normalizer and splitter, WordPiece, TemplateProcessing; added tokens without spaces that are looked for in the text as it
is. Such a token may lie anywhere between two spaces, and cannot reach beyond: its flags `lstrip` and `rstrip` take up
spaces, which have no ids, and `single_word` looks at the characters beside it. A token that is looked for in the
normalized text is refused: "é!" may hide the token "e!".
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tokenizers import Tokenizer

from .template import Template, parse_template

MAX_ADDED = 64
"""Added tokens; each is looked for in every text."""
_PARTS = {
    "normalizer": "BertNormalizer",
    "pre_tokenizer": "BertPreTokenizer",
    "model": "WordPiece",
    "post_processor": "TemplateProcessing",
}


@dataclass(frozen=True, slots=True)
class WordByWord:
    """What a word cache needs to know of a supported tokenizer."""

    lowercase: bool
    added: tuple[str, ...]
    single: Template
    pair: Template


def read(tokenizer: Tokenizer) -> WordByWord | str:
    """What a word cache needs to know of a tokenizer, or the reason why it is not supported."""
    if (model := type(tokenizer.model).__name__) != _PARTS["model"]:
        return f"its model is {model}, not WordPiece"  # the vocabulary of another may take a second to read
    parts: dict[str, Any] = json.loads(tokenizer.to_str())
    for name, kind in _PARTS.items():
        found = (parts.get(name) or {}).get("type")
        if found != kind:
            return f"its {name} is {found or 'missing'}, not {kind}"
    added: list[Mapping[str, Any]] = parts.get("added_tokens") or []
    if reason := _unsupported_token(added):
        return reason
    processor = parts["post_processor"]
    single = parse_template(processor["single"], processor["special_tokens"], "A")
    pair = parse_template(processor["pair"], processor["special_tokens"], "AB")
    if single is None or pair is None:
        return "its template does not have each text once, in order"
    return WordByWord(
        bool(parts["normalizer"]["lowercase"]), tuple(str(token["content"]) for token in added), single, pair
    )


def _unsupported_token(added: Sequence[Mapping[str, Any]]) -> str | None:
    if len(added) > MAX_ADDED:
        return f"it has {len(added)} added tokens, more than {MAX_ADDED}"
    for token in added:
        content: str = token["content"]
        if token["normalized"]:
            return f"its added token {content!r} is looked for in the normalized text"
        if not content or any(character.isspace() for character in content):
            return f"its added token {content!r} has a space"
    return None
