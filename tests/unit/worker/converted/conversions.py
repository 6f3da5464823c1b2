"""Conversions made in the test's own process, for one module of tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from embedfleet.protocol.spec.run_spec import PassSpec
from embedfleet.worker.converted import child
from embedfleet.worker.converted.cache import Conversions


@contextmanager
def own_conversions(folder: Path) -> Iterator[pytest.MonkeyPatch]:
    """A cache for conversions alone, made without a child: that takes seconds to import torch."""

    def convert_here(conversions: Conversions, key: str, spec: PassSpec, files: Any, threads: int) -> None:
        from embedfleet.worker.converted.convert import convert

        convert(child.request_of(conversions, key, spec, files, threads))

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        patch.setattr(child, "run_child", convert_here)
        yield patch


def spec_of(folder: Path, kind: str = "dense", **options: Any) -> PassSpec:
    return PassSpec(vector="v", kind=kind, model=str(folder), **{"backend": "openvino", **options})


def load(folder: Path, kind: str = "dense", **options: Any) -> Any:
    from embedfleet.worker.converted.choice import load_encoder

    return load_encoder(spec_of(folder, kind, **options), "cpu", 2)
