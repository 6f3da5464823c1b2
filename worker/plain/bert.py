"""The forward pass of BERT and DistilBERT, for one text at a time: without padding, so without a mask.

Sources: Devlin, Chang, Lee, Toutanova 2019, "BERT: Pre-training of Deep Bidirectional Transformers for Language
Understanding"; Sanh, Debut, Chaumond, Wolf 2019, "DistilBERT". The names of the tensors are those of transformers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..encoders.base import BoolArray, FloatArray
from .layers import ACTIVATIONS, Activation, LayerNorm, Linear, attention
from .not_plain import require, require_only
from .weights import WeightFile


@dataclass(frozen=True, slots=True)
class Names:
    """What one architecture calls its settings and tensors."""

    layers: str
    heads: str
    activation: str
    layer: str
    """The prefix of one layer, with its number."""
    attention: tuple[str, str, str, str]
    """Query, key, value, output."""
    attention_norm: str
    feed_forward: tuple[str, str]
    output_norm: str
    head: tuple[str, str]
    """In a masked language model: the linear layer before that of the vocabulary, and its LayerNorm."""
    decoder: tuple[str, ...]
    """Weight and bias of the vocabulary's layer, and the name of the bias if the weight is that of the embeddings."""


NAMES = {
    "bert": Names(
        layers="num_hidden_layers",
        heads="num_attention_heads",
        activation="hidden_act",
        layer="encoder.layer.{}.",
        attention=("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"),
        attention_norm="attention.output.LayerNorm",
        feed_forward=("intermediate.dense", "output.dense"),
        output_norm="output.LayerNorm",
        head=("cls.predictions.transform.dense", "cls.predictions.transform.LayerNorm"),
        decoder=("cls.predictions.decoder.weight", "cls.predictions.decoder.bias", "cls.predictions.bias"),
    ),
    "distilbert": Names(
        layers="n_layers",
        heads="n_heads",
        activation="activation",
        layer="transformer.layer.{}.",
        attention=("attention.q_lin", "attention.k_lin", "attention.v_lin", "attention.out_lin"),
        attention_norm="sa_layer_norm",
        feed_forward=("ffn.lin1", "ffn.lin2"),
        output_norm="output_layer_norm",
        head=("vocab_transform", "vocab_layer_norm"),
        decoder=("vocab_projector.weight", "vocab_projector.bias"),
    ),
}
EPS = 1e-12
"""The epsilon of DistilBERT's LayerNorm, and BERT's default."""
KNOWN = (
    *("_name_or_path", "architectures", "model_type", "transformers_version", "torch_dtype", "dtype", "use_cache"),
    *("hidden_size", "dim", "intermediate_size", "hidden_dim", "num_hidden_layers", "n_layers", "num_attention_heads"),
    *("n_heads", "hidden_act", "activation", "layer_norm_eps", "max_position_embeddings", "position_embedding_type"),
    *("vocab_size", "type_vocab_size", "pad_token_id", "bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id"),
    *("initializer_range", "attention_probs_dropout_prob", "hidden_dropout_prob", "attention_dropout", "dropout"),
    *("classifier_dropout", "qa_dropout", "seq_classif_dropout", "sinusoidal_pos_embds", "tie_word_embeddings"),
    *("tie_weights_", "id2label", "label2id", "gradient_checkpointing", "model_max_length", "output_past"),
)
"""Settings that this module follows, or that change no number."""


class Bert:
    """Computes the token vectors of a text. NotPlain if the model is not a known one."""

    def __init__(self, config: Mapping[str, Any], weights: WeightFile) -> None:
        kind = str(config.get("model_type"))
        require(kind in NAMES, f"{kind} models are not known")
        require_only(config, KNOWN, "config.json")
        require(config.get("position_embedding_type", "absolute") == "absolute", "its positions are relative")
        names = self._names = NAMES[kind]
        require(config.get(names.activation) in ACTIVATIONS, f"its activation is {config.get(names.activation)}")
        self._activation: Activation = ACTIVATIONS[config[names.activation]]
        self._eps = float(config.get("layer_norm_eps", EPS)) if kind == "bert" else EPS
        self._weights, self._ties = weights, bool(config.get("tie_word_embeddings", True))
        self._prefix = f"{kind}." if f"{kind}.embeddings.word_embeddings.weight" in weights else ""
        self._heads = int(config[names.heads])
        self.words = weights(f"{self._prefix}embeddings.word_embeddings.weight")
        self._positions = weights(f"{self._prefix}embeddings.position_embeddings.weight")
        types = f"{self._prefix}embeddings.token_type_embeddings.weight"
        self._type = weights(types)[0] if kind == "bert" else np.float32(0)
        self._norm = self._layer_norm(f"{self._prefix}embeddings.LayerNorm")
        self._layers = [self._layer(number) for number in range(int(config[names.layers]))]

    @property
    def positions(self) -> int:
        """The most tokens of a text."""
        return len(self._positions)

    def __call__(self, ids: Sequence[int], seen: BoolArray | None = None) -> FloatArray:
        """The token vectors (tokens, dim). Tokens that are not `seen` attend to the others, but no token attends to them."""
        hidden = self._norm(self.words[list(ids)] + self._positions[: len(ids)] + self._type)
        for layer in self._layers:
            hidden = layer(hidden, seen)
        return hidden

    def vocabulary_head(self) -> MaskedHead:
        """The head of a masked language model."""
        names, weights = self._names, self._weights
        weight, own, *tied = names.decoder
        words = self.words if self._ties else weights(weight)
        bias = weights(next((one for one in tied if self._ties and one in weights), own))
        return MaskedHead(self._linear(names.head[0]), self._activation, self._layer_norm(names.head[1]), words, bias)

    def _linear(self, name: str) -> Linear:
        return Linear(self._weights(f"{name}.weight"), self._weights(f"{name}.bias"))

    def _layer_norm(self, name: str) -> LayerNorm:
        return LayerNorm(self._weights(f"{name}.weight"), self._weights(f"{name}.bias"), self._eps)

    def _layer(self, number: int) -> Layer:
        names, prefix = self._names, self._prefix + self._names.layer.format(number)
        query, key, value, output = (self._linear(prefix + one) for one in names.attention)
        into, back = (self._linear(prefix + one) for one in names.feed_forward)
        return Layer(
            self._heads,
            (query, key, value, output),
            self._layer_norm(prefix + names.attention_norm),
            (into, back),
            self._activation,
            self._layer_norm(prefix + names.output_norm),
        )


@dataclass(frozen=True, slots=True)
class Layer:
    """Attention and a feed-forward network, each added to its input and normalized."""

    heads: int
    attention: tuple[Linear, Linear, Linear, Linear]
    attention_norm: LayerNorm
    feed_forward: tuple[Linear, Linear]
    activation: Activation
    output_norm: LayerNorm

    def __call__(self, hidden: FloatArray, seen: BoolArray | None) -> FloatArray:
        query, key, value, output = self.attention
        found = output(attention(query(hidden), key(hidden), value(hidden), self.heads, seen))
        hidden = self.attention_norm(hidden + found)
        into, back = self.feed_forward
        return self.output_norm(hidden + back(self.activation(into(hidden))))


@dataclass(frozen=True, slots=True)
class MaskedHead:
    """The logits (tokens, vocabulary) of token vectors."""

    transform: Linear
    activation: Activation
    norm: LayerNorm
    words: FloatArray
    bias: FloatArray

    def __call__(self, hidden: FloatArray) -> FloatArray:
        return self.norm(self.activation(self.transform(hidden))) @ self.words.T + self.bias
