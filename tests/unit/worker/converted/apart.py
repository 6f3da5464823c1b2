"""Calls in processes of their own, forked from one that has imported torch and OpenVINO: tracing a model leaves much memory
behind, and a process with much memory is slow."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from typing import Any, TypeVar

from embedfleet.worker.converted.record import ConvertRequest

T = TypeVar("T")
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload([f"{__package__}.preloaded"])


def apart(call: Callable[..., T], *arguments: Any) -> T:
    """What the call returns or raises, made in another process with the environment of this one."""
    with ProcessPoolExecutor(1, mp_context=FORKS) as pool:
        return pool.submit(_made, call, arguments, dict(os.environ)).result()


def convert_apart(request: ConvertRequest) -> None:
    """As `convert`, with its errors."""
    apart(_convert, request)


def _convert(request: ConvertRequest) -> None:
    from embedfleet.worker.converted.conversion import convert

    convert(request)


def _made(call: Callable[..., T], arguments: tuple[Any, ...], environment: Mapping[str, str]) -> T:
    os.environ.update(environment)
    return call(*arguments)
