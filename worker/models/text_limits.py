"""The limit of a model's inputs in tokens: its position table may allow fewer than its tokenizer."""

from __future__ import annotations

from typing import Any

from ...protocol.errors import ModelError

LONGEST = 1 << 17
"""The most tokens of any text. (A tokenizer without a limit reports a huge number.)"""
PROBE = "the quick brown fox jumps over the lazy dog"


class _Found(Exception):
    """Raised when the model looks up a position; `allowed` is the most tokens for its table."""

    def __init__(self, allowed: int) -> None:
        self.allowed = allowed


def positions_allowed(torch: Any, module: Any) -> int | None:
    """The most tokens for which a transformer has learned positions; None if it has none, as with rotary positions.

    Computes a short text up to the lookup of its positions. The last of n tokens has position n - 1 in BERT, and a higher one
    in RoBERTa, whose positions begin after the pad id.
    """
    tables = _position_tables(torch, module)
    if not tables:
        return None
    from torch.overrides import TorchFunctionMode

    tokens = 0

    class Watch(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func is torch.nn.functional.embedding:
                named = kwargs or {}
                weight: Any = args[1] if len(args) > 1 else named.get("weight")
                index: Any = args[0] if args else named.get("input")
                if any(weight is one for one in tables):
                    highest = int(index.max())
                    if highest >= tokens - 1:  # otherwise it is not the position of a token
                        raise _Found(len(weight) - (highest - (tokens - 1)))
            return func(*args, **(kwargs or {}))

    try:
        with torch.inference_mode():
            features = module.preprocess([PROBE])
            tokens = int(features["input_ids"].shape[1])
            with Watch():
                module(features)
    except _Found as found:
        return max(found.allowed, 1)
    except Exception:  # noqa: BLE001 - a model's own code can raise anything; the first text that is computed shows it
        return None
    return None


def _position_tables(torch: Any, module: Any) -> list[Any]:
    return [
        one.weight
        for name, one in module.named_modules()
        if isinstance(one, torch.nn.Embedding) and _names_positions(name.rpartition(".")[2])
    ]


def _names_positions(name: str) -> bool:
    return "position" in name or name in ("wpe", "pos_embed", "pos_embeddings")


def query_limit(module: Any, otherwise: int) -> int:
    """The most tokens of a query that a module takes: a late-interaction model has a separate limit for queries."""
    own = getattr(module, "query_length", None)
    expansion: Any = getattr(module, "query_expansion", None)
    if expansion is None:
        return int(own or otherwise)
    if expansion["strategy"] == "fixed":
        return int(expansion["length"])
    return max(int(own), int(expansion["length"])) if own else otherwise


def set_limits(torch: Any, modules: list[Any], limit: int) -> None:
    """Limit each module to `limit` tokens, or to fewer if its positions allow only these."""
    for one in modules:
        if can_be_limited(one):
            allowed = positions_allowed(torch, one)
            one.max_seq_length = limit if allowed is None else min(limit, allowed)


def can_be_limited(module: Any) -> bool:
    """Whether the module's limit of tokens can be set: a module of static vectors has only a read-only property."""
    limit = getattr(type(module), "max_seq_length", None)
    return hasattr(module, "max_seq_length") and not (isinstance(limit, property) and limit.fset is None)


def limit_inputs(
    torch: Any, first: Any, inputs: list[Any], *, name: str, asked: int | None, known: int | None, documents: bool
) -> int:
    """Limit a model's documents to `asked` tokens, or to what it takes, and return that limit.

    `first` is the module that documents come to, `inputs` are those of all routes. `known` is the catalogue's limit of the
    model called `name`. With `documents`, the model encodes documents and queries differently: a limit for documents alone
    then leaves queries as they are. ModelError if it takes fewer tokens than `asked`.
    """
    aside = documents and getattr(first, "document_length", None) is not None
    own = first.document_length if aside else getattr(first, "max_seq_length", None)
    if not aside and not can_be_limited(first):
        if asked is not None:
            raise ModelError(f"--max-tokens {asked}: {name} takes texts of any length; leave it out")
        return LONGEST
    allowed = positions_allowed(torch, first)
    if own is None or own > LONGEST:
        own = known or allowed or 512
    if allowed is not None:
        own = min(own, allowed)
    if asked is not None and asked > own:
        raise ModelError(f"--max-tokens {asked}: {name} takes at most {own}")
    limit = int(own) if asked is None else asked
    if aside:
        first.document_length = limit
        for one in inputs:
            set_limits(torch, [one], one.max_seq_length)
    else:
        set_limits(torch, inputs, limit)
    return limit
