"""Conversions in processes of their own, forked from one that has imported torch and OpenVINO: tracing a model leaves memory
behind, and a large test process is slow to fork."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor

from embedfleet.worker.converted.record import ConvertRequest

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload([f"{__package__}.preloaded"])


def convert_apart(request: ConvertRequest) -> None:
    """As `convert`, with its errors."""
    with ProcessPoolExecutor(1, mp_context=FORKS) as pool:
        pool.submit(_convert, request, dict(os.environ)).result()


def _convert(request: ConvertRequest, environment: Mapping[str, str]) -> None:
    from embedfleet.worker.converted.convert import convert

    os.environ.update(environment)
    convert(request)
