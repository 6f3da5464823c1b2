"""The builders of `tests/run_files.py`, which no test can import by name under --import-mode=importlib."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from ..export_bench import Bench


def _load(name: str, path: Path) -> ModuleType:
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]


@pytest.fixture(scope="session")
def run_files() -> ModuleType:
    """The module `tests/run_files.py`: `run_files.RunFiles(tmp_path / "run").write()`."""
    return _load("embedfleet_test_run_files", Path(__file__).parents[1] / "run_files.py")


@pytest.fixture(scope="session")
def stdlib_corpus() -> ModuleType:
    """The module `examples/stdlib_corpus.py`."""
    return _load("embedfleet_example_stdlib_corpus", Path(__file__).parents[2] / "examples" / "stdlib_corpus.py")


@pytest.fixture
def make_bench(tmp_path: Path) -> Iterator[Callable[..., Bench]]:
    """Makes benches (see `tests/export_bench.py`), and gives back what their sessions still have."""
    from ..export_bench import Bench  # most sessions of a mutant's tests need none of what it imports

    made: list[Bench] = []

    def begin(*passes: Any, **options: Any) -> Bench:
        made.append(Bench(tmp_path, *passes, **options))
        return made[-1]

    yield begin
    for session in (session for bench in made for session in bench.sessions):
        session.free()
