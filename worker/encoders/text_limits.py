"""How many tokens a model's inputs may have: what its tokenizer says is not always what its positions allow."""

from __future__ import annotations

from typing import Any

PROBE = "the quick brown fox jumps over the lazy dog"


class _Found(Exception):
    """The table of positions was asked: it allows so many tokens."""

    def __init__(self, allowed: int) -> None:
        self.allowed = allowed


def positions_allowed(torch: Any, module: Any) -> int | None:
    """The most tokens for which a transformer has positions; None where it learned none, as with rotary ones.

    A short text is computed as far as the table of positions: of n tokens the last one's position is n - 1 in BERT, and
    more in RoBERTa, whose positions begin behind the pad id.
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
                    if highest >= tokens - 1:  # else it is of something that does not grow with the text
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
    except Exception:  # noqa: BLE001 - a model's own code can raise anything; the first text that is computed will tell
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
    """The most tokens of a query that a module takes: a late-interaction model has a length of its own for them."""
    own = getattr(module, "query_length", None)
    expansion: Any = getattr(module, "query_expansion", None)
    if expansion is None:
        return int(own or otherwise)
    if expansion["strategy"] == "fixed":
        return int(expansion["length"])
    return max(int(own), int(expansion["length"])) if own else otherwise


def set_limits(torch: Any, modules: list[Any], limit: int) -> None:
    """Let no module take more than `limit` tokens, nor more than its positions allow."""
    for one in modules:
        if can_be_limited(one):
            allowed = positions_allowed(torch, one)
            one.max_seq_length = limit if allowed is None else min(limit, allowed)


def can_be_limited(module: Any) -> bool:
    """Whether the module cuts texts to a length that can be set: one of static vectors has a property and no setter."""
    limit = getattr(type(module), "max_seq_length", None)
    return hasattr(module, "max_seq_length") and not (isinstance(limit, property) and limit.fset is None)
