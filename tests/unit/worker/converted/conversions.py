"""Conversions that are made without Python's start, for one module of tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from embedfleet.protocol.spec.run_spec import PassSpec
from embedfleet.worker.converted import child
from embedfleet.worker.converted.cache import Conversions
from embedfleet.worker.converted.record import ConvertRequest

from .apart import convert_apart


@contextmanager
def own_conversions(
    folder: Path, convert: Callable[[ConvertRequest], None] = convert_apart
) -> Iterator[pytest.MonkeyPatch]:
    """A cache for conversions alone, made by `convert`."""

    def run(conversions: Conversions, key: str, spec: PassSpec, files: Any, threads: int) -> None:
        convert(child.request_of(conversions, key, spec, files, threads))

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        patch.setattr(child, "run_child", run)
        yield patch


def spec_of(folder: Path, kind: str = "dense", **options: Any) -> PassSpec:
    return PassSpec(vector="v", kind=kind, model=str(folder), **{"backend": "openvino", **options})


def load(folder: Path, kind: str = "dense", **options: Any) -> Any:
    from embedfleet.worker.converted.choice import load_encoder

    return load_encoder(spec_of(folder, kind, **options), "cpu", 2)
