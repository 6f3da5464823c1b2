"""Tiny models with random weights of every architecture that can be packed, with and without a head."""

from __future__ import annotations

from typing import Any

VOCABULARY = 1_000
SMALL = {
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "vocab_size": VOCABULARY,
}
DISTIL = {"dim": 64, "n_layers": 3, "n_heads": 4, "hidden_dim": 96, "vocab_size": VOCABULARY}
ROBERTA = {**SMALL, "pad_token_id": 1, "max_position_embeddings": 130}
DECODER = {**SMALL, "num_key_value_heads": 2, "head_dim": 16, "pad_token_id": 0}
MODERN = {
    **SMALL,
    **dict.fromkeys(("pad_token_id", "bos_token_id", "cls_token_id"), 1),
    **dict.fromkeys(("eos_token_id", "sep_token_id"), 2),
    "local_attention": 16,
    "global_attn_every_n_layers": 2,
}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "Bert": SMALL,
    "Camembert": ROBERTA,
    "DistilBert": DISTIL,
    "Electra": {**SMALL, "embedding_size": 64},
    "Gemma3Text": {**DECODER, "sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"] * 2},
    "Gte": SMALL,
    "Llama": {**DECODER},
    "ModernBert": MODERN,
    "NomicBert": SMALL,
    "Qwen2": {**SMALL, "num_key_value_heads": 2, "pad_token_id": 0},
    "Qwen3": DECODER,
    "Roberta": ROBERTA,
    "XLMRoberta": ROBERTA,
}
ARCHITECTURES["Gemma3Text"]["num_hidden_layers"] = 4


def build(name: str, head: str = "Model", **changes: Any) -> Any:
    """The model `name` + `head`, such as BertForMaskedLM, in float32."""
    import torch
    import transformers

    torch.manual_seed(11)
    config = getattr(transformers, f"{name}Config")(**ARCHITECTURES[name] | changes)
    model = getattr(transformers, f"{name}{head}")(config).eval()
    with torch.no_grad():  # as they are initialized, biases and norms would hide what is left out
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return model


def here() -> Any:
    """The staging of a CPU."""
    import torch
    from embedfleet.worker.backends.staging import Staging

    return Staging(torch.device("cpu"), 1)


def packed(model: Any) -> Any:
    """A PackedModel on the CPU."""
    from embedfleet.worker.backends.packed_model import PackedModel

    return PackedModel(model, here())
