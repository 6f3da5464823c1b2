"""Transformers by their configurations, for models with random weights: their speed is that of trained ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

TINY = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 128}


@dataclass(frozen=True, slots=True)
class Shape:
    """A transformer by its configuration's class and fields."""

    kind: str
    hidden: int
    layers: int
    heads: int
    wide: int
    more: tuple[tuple[str, Any], ...] = ()

    def config(self, *, tiny: bool) -> Any:
        """The configuration; with `tiny`, of two narrow layers."""
        import transformers

        named = {"hidden_size": self.hidden, "num_hidden_layers": self.layers, "num_attention_heads": self.heads}
        named |= {"intermediate_size": self.wide}
        fields = {**(TINY if tiny else named), **dict(self.more)}
        if self.kind == "Qwen3":
            fields |= {"num_key_value_heads": 1 if tiny else 8, "head_dim": 32 if tiny else 128}
        return getattr(transformers, f"{self.kind}Config")(vocab_size=30_522, attn_implementation="sdpa", **fields)

    def flops(self, lengths: np.ndarray) -> float:
        """FLOP of the matrix products over texts of these lengths."""
        gated = 3 if self.kind in ("Qwen3", "ModernBert") else 2
        keys = 2.5 / 4 if self.kind == "Qwen3" else 1.0  # 8 of 16 heads have keys and values, of twice the width
        linear = 2 * self.layers * (4 * keys * self.hidden**2 + gated * self.hidden * self.wide)
        tokens = lengths.astype(np.float64)
        return float(linear * tokens.sum() + 4 * self.layers * self.hidden * (tokens**2).sum())


IDS = ("pad_token_id", "bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id")
"""Of ModernBERT's own vocabulary, which is larger than ours."""
SHAPES = {
    "MiniLM-L6": Shape("Bert", 384, 6, 12, 1_536),
    "bge-base": Shape("Bert", 768, 12, 12, 3_072),
    "e5-small": Shape("Bert", 384, 12, 12, 1_536),
    "e5-large": Shape("XLMRoberta", 1_024, 24, 16, 4_096, (("max_position_embeddings", 514), ("pad_token_id", 1))),
    "ModernBERT-base": Shape("ModernBert", 768, 22, 12, 1_152, tuple(dict.fromkeys(IDS, 0).items())),
    "Qwen3-0.6B": Shape("Qwen3", 1_024, 28, 16, 3_072),
}
OTHERS = {
    "Roberta": Shape("Roberta", 128, 2, 2, 256, (("max_position_embeddings", 514), ("pad_token_id", 1))),
    "DistilBert": Shape("DistilBert", 128, 2, 2, 256),
    "Electra": Shape("Electra", 128, 2, 2, 256),
    "Llama": Shape("Llama", 128, 2, 2, 256),
}
