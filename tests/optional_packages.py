"""Packages that tests need and that take seconds to import: looked for at collection, imported by the first test that runs.

Each process that runs tests collects all of them, most run no test of these packages, and a large process is slow to fork.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

import pytest


def need(*packages: str) -> None:
    """Skip this module of tests unless these are installed, as `pytest.importorskip` does, and import none of them."""
    for package in packages:
        if find_spec(package) is None:
            pytest.skip(f"{package} is not installed", allow_module_level=True)


class Lazy:
    """A module that is imported at the first use of an attribute."""

    __slots__ = ("_module",)  # nothing can be set, by monkeypatch either: name what is to be replaced in a string

    def __init__(self, module: str) -> None:
        self._module = module

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "_mock_name":  # pytest asks everything in a module of tests for these
            raise AttributeError(name)
        return getattr(import_module(self._module), name)
