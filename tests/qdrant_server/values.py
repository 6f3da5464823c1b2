"""Values of a payload in plain Python."""

from __future__ import annotations

from typing import Any

from qdrant_client import grpc


def plain(value: grpc.Value) -> Any:
    """What JSON would have in its place."""
    kind = value.WhichOneof("kind")
    match kind:
        case "null_value":
            return None
        case "struct_value":
            return {name: plain(one) for name, one in value.struct_value.fields.items()}
        case "list_value":
            return [plain(one) for one in value.list_value.values]
        case None:
            raise ValueError("a value without a kind")
        case _:
            return getattr(value, kind)


def is_empty(value: grpc.Value | None) -> bool:
    """Whether a field counts as empty: missing, null, or a list without elements."""
    return value is None or plain(value) in (None, [])


def value_at(payload: Any, path: str) -> Any:
    """The value of a field by its path, as in `metadata.lang`; None if it is missing."""
    name, *rest = path.split(".")
    found = plain(payload[name]) if name in payload else None
    for key in rest:
        found = found.get(key) if isinstance(found, dict) else None
    return found
