"""Valid messages of every link, made of the types themselves by a seeded random source."""

from __future__ import annotations

import random
import types
import typing
from collections.abc import Callable
from functools import cache
from typing import Any, Literal, get_args, get_origin

import msgspec
from embedfleet.protocol.wire import control, export, hosts, work

LINKS = {
    "control, requests": control.ToCoordinator,
    "control, answers": control.ToClient,
    "hosts, from agents": hosts.ToCoordinator,
    "hosts, to agents": hosts.ToHost,
    "work, from workers": work.ToCoordinator,
    "work, to workers": work.ToWorker,
    "export, from the exporter": export.ToCoordinator,
    "export, to the exporter": export.ToExporter,
}
MOST = 4
"""Items in a list or map."""

_PLAIN: dict[Any, Callable[[random.Random], Any]] = {
    int: lambda rng: rng.choice((0, 1, 127, 128, -1, -33, 2**31, 2**63 - 1, -(2**63), rng.getrandbits(16))),
    float: lambda rng: rng.choice((0.0, -1.5, 1e308, float("inf"), rng.random())),
    str: lambda rng: "".join(rng.choice("ab é東\U0001f642\0") for _ in range(rng.randrange(12))),
    bool: lambda rng: rng.random() < 0.5,
    Any: lambda rng: rng.choice((None, True, 7, "any", [1, "two"], {"three": 3.0})),
    type(None): lambda _rng: None,
    msgspec.UnsetType: lambda _rng: msgspec.UNSET,
}


def sample(kind: Any, rng: random.Random) -> Any:
    """A value of a type of the messages."""
    if kind in _PLAIN:
        return _PLAIN[kind](rng)
    origin, args = get_origin(kind), get_args(kind)
    if origin is Literal:
        return rng.choice(args)
    if origin in (typing.Union, types.UnionType):
        return sample(rng.choice(args), rng)
    if origin is dict:
        return {sample(args[0], rng): sample(args[1], rng) for _ in range(rng.randrange(MOST))}
    if origin is tuple and args[-1] is Ellipsis:
        return tuple(sample(args[0], rng) for _ in range(rng.randrange(MOST)))
    if origin is tuple:
        return tuple(sample(one, rng) for one in args)
    return kind(**{name: sample(hint, rng) for name, hint in _hints(kind).items()})


@cache
def _hints(kind: Any) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    return {name: hints[name] for name in kind.__struct_fields__}
