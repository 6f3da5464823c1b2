"""embedfleet: every retrieval signal for every chunk, over all GPUs, with nothing lost.

The public face. Nothing heavy is imported until a name is used: no torch, no zmq, no pyarrow.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .client.client import Client
    from .client.notebook.embedder import Embedder
    from .client.run_directory.reader import Run, open_run
    from .protocol.errors import EmbedfleetError
    from .protocol.spec.run_spec import PassSpec, RunSpec
    from .protocol.version import __version__

__all__ = ["Client", "Embedder", "EmbedfleetError", "PassSpec", "Run", "RunSpec", "__version__", "open_run"]

_HOME = {
    "Client": ".client.client",
    "Embedder": ".client.notebook.embedder",
    "EmbedfleetError": ".protocol.errors",
    "PassSpec": ".protocol.spec.run_spec",
    "Run": ".client.run_directory.reader",
    "RunSpec": ".protocol.spec.run_spec",
    "__version__": ".protocol.version",
    "open_run": ".client.run_directory.reader",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name], __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
