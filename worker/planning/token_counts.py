"""The tokens of a sample, by the model's own tokenizer where its files are here, else by the estimate of the project."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...protocol.planning.model_figures import Basis
from ...protocol.text.token_estimates import BYTES_PER_TOKEN, TOKENS_A_TEXT
from ..models.parts import Part, read_settings
from .model_facts import KnownModel

BATCH = 1_024
"""Texts that are tokenized together."""


@dataclass(frozen=True, slots=True)
class TokenCounts:
    """Tokens of each text (n) after truncation, special ones included, and the tokens that are cut (n)."""

    lengths: npt.NDArray[np.int64]
    cut: npt.NDArray[np.int64]
    basis: Basis
    note: str = ""


def count_tokens(known: KnownModel, texts: Sequence[str]) -> TokenCounts:
    """Count the tokens of the texts after the model's prompt."""
    reason = "its files are not on this host"
    if known.folder is not None and known.part is not None:
        path = known.folder / known.part.file("tokenizer.json")
        reason = f"{path} is missing" if not path.is_file() else _without_library()
        if not reason:
            return _tokenized(path, known, known.part, texts)
    return estimated(known, texts, f"tokens are estimated at {BYTES_PER_TOKEN} bytes each, since {reason}")


def estimated(known: KnownModel, texts: Sequence[str], note: str) -> TokenCounts:
    """The estimate by the bytes of the texts."""
    prompt = len(known.prompt.encode())
    sizes = np.fromiter((len(text.encode()) + prompt for text in texts), np.int64, len(texts))
    whole = sizes // BYTES_PER_TOKEN + TOKENS_A_TEXT
    kept = np.minimum(whole, known.facts.max_tokens) if known.facts.max_tokens else whole
    return TokenCounts(kept, whole - kept, "assumed", note)


def _without_library() -> str:
    from importlib.util import find_spec

    return "" if find_spec("tokenizers") is not None else "the package tokenizers is not installed"


def _tokenized(path: Path, known: KnownModel, part: Part, texts: Sequence[str]) -> TokenCounts:
    from ..tokenizing.texts import Texts
    from ..tokenizing.tokenizer import open_tokenizer

    try:
        tokenizer = open_tokenizer(
            path, known.facts.max_tokens, side=_side(path.parent), on_difference=lambda _reason: None
        )
    except Exception as error:  # noqa: BLE001 - the library raises no narrower class
        return estimated(
            known, texts, f"tokens are estimated, since {part.file('tokenizer.json')} cannot be used ({error})"
        )
    lengths, cut = list[Any](), list[Any]()
    for start in range(0, len(texts), BATCH):
        found = tokenizer.encode(Texts.of(texts[start : start + BATCH]), prompt=known.prompt)
        lengths.append(found.lengths)
        cut.append(found.cut)
    if not lengths:
        return TokenCounts(np.zeros(0, np.int64), np.zeros(0, np.int64), "sampled")
    return TokenCounts(np.concatenate(lengths).astype(np.int64), np.concatenate(cut).astype(np.int64), "sampled")


def _side(folder: Path) -> str:
    path = folder / "tokenizer_config.json"
    side = read_settings(path).get("truncation_side", "right") if path.is_file() else "right"
    return side if side in ("left", "right") else "right"
