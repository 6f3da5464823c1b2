"""Options that replay a seed, or make more of what a seed makes."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--seed", type=int, default=None, help="replay this seed of the simulation; begin the cuts with it"
    )
    parser.addoption("--worlds", type=int, default=None, help="how many seeds of the simulation to run")
    parser.addoption("--power-cuts", type=int, default=None, help="how many power cuts to make")
    parser.addoption("--kills", type=int, default=None, help="how many kills the chaos tests make")
