"""Conditions on the files of a model, under which this package can compute it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any


class NotPlain(Exception):
    """This package cannot compute the model, for the reason in the text: sentence-transformers has to load it."""


def require(holds: bool, otherwise: str) -> None:
    """Raise NotPlain unless it holds."""
    if not holds:
        raise NotPlain(otherwise)


def require_only(settings: Mapping[str, Any], known: Collection[str], where: str) -> None:
    """Raise NotPlain if a setting that is not known has a value."""
    others = [key for key, value in settings.items() if key not in known and value not in (None, False, {}, [])]
    require(not others, f"{where} has {', '.join(others[:3])}")
