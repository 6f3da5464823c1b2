"""Embedder: a run in steps, for notebooks. Load chunks, generate embeddings, export, look at what happened, search."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Literal

from ..protocol.control_messages import Progress, RunEnded
from ..protocol.errors import RunFailed, UsageError, revive
from ..protocol.layout import RunLayout
from ..protocol.run_options import Placement, RunOptions, check_options
from ..protocol.segments import FloatArray
from ..protocol.spec import RunSpec
from .chunk_source import ChunkSource, look_at_source
from .export_command import export_quietly
from .multivectors import Multivectors
from .progress import CallbackView
from .run_files import read_object
from .run_reader import Run, open_run
from .run_telemetry import RunTelemetry
from .search import Hit, search
from .session import open_session
from .sparse_vectors import SparseVectors
from .spec_flags import build_spec


class Embedder:
    """One run directory and the models that fill it; `options` are the other flags of `embedfleet run`, by name.

    The work is done by processes of their own, as for `embedfleet run`: nothing heavy is loaded here, and a notebook's
    event loop is not touched. Each step raises an EmbedfleetError that says what to do.
    """

    def __init__(
        self,
        out: str | PathLike[str],
        *,
        dense: Sequence[str] = (),
        sparse: Sequence[str] = (),
        multivector: Sequence[str] = (),
        heads: Sequence[str] = (),
        devices: str | None = None,
        restart: bool = False,
        otlp: str | None = None,
        batch_timeout: float | None = None,
        sparse_device: Placement = "auto",
        **options: Any,
    ) -> None:
        self.out = Path(out).expanduser().absolute()
        self._models = {"dense": list(dense), "sparse": list(sparse), "multivector": list(multivector)}
        self._models["heads"] = list(heads)
        self._devices, self._restart, self._otlp, self._options = devices, restart, otlp, options
        self._run_options = RunOptions(batch_timeout=batch_timeout, sparse_device=sparse_device)
        check_options(self._run_options)
        self._spec: RunSpec | None = None
        self.telemetry = RunTelemetry(RunLayout(self.out))

    def __repr__(self) -> str:
        models = ", ".join(model for named in self._models.values() for model in named)
        return f"Embedder({str(self.out)!r}: {models or 'no models'})"

    def load_chunks(self, source: str | PathLike[str]) -> ChunkSource:
        """Take a file or folder as the corpus; what it holds as far as that is cheap to tell.

        SourceError where it cannot be read, UsageError for models and options that no run can follow.
        """
        found = look_at_source(source, self.out)
        self._spec = build_spec(str(found.path), **self._models, **self._options)
        return found

    def generate_embeddings(self, progress: Callable[[Progress], None] | None = None) -> RunEnded:
        """Run all passes through a private coordinator; what each came to. `progress` is called about twice a second.

        What is committed already is not computed again. An interrupt of the kernel finishes the batches in flight and is
        then raised as KeyboardInterrupt; the next call resumes. An error that ends the run is raised as its own type.
        """
        if self._spec is None:
            raise UsageError("no chunks are loaded: call load_chunks(SOURCE) first")
        view = CallbackView(progress)
        share_stdin = self._spec.source == "-"
        where: dict[str, Any] = {"devices": self._devices, "otlp": self._otlp, "options": self._run_options}
        with open_session(share_stdin=share_stdin, views=lambda _about: view, **where) as session:
            ending = session.follow(self._spec, self.out, restart=self._restart)
        self._restart = False  # what this run wrote is to be resumed
        if ending is not None and ending.status == "failed":
            raise revive(ending.kind, ending.error)
        if ending is None or (session.received and ending.status == "interrupted"):
            raise KeyboardInterrupt("interrupted; what was committed stays, the same call resumes")
        if ending.status != "done":
            raise RunFailed(f"{self.out}: the run was {ending.status} ({ending.error}); call again to resume")
        return ending

    def export_for_local_qdrant(
        self, formats: Sequence[str] = (), quantization: Literal["none", "scalar"] | None = None
    ) -> dict[str, Path]:
        """Write points, vectors and the upload script to `export/`; the files there, by name. None named: all that apply.

        `quantization` None: as the last export had it.
        """
        return export_quietly(self.out, list(formats), quantization)

    @property
    def run(self) -> Run:
        """The run directory, read back: ids, chunks, quarantine, manifest."""
        return open_run(self.out)

    @property
    def processing_stats(self) -> dict[str, Any]:
        """From `stats.json`: `host` in the last session, and `passes` by vector and device, each in the last that computed it.

        Empty before the first session.
        """
        stats = read_object(RunLayout(self.out).stats) or {}
        return stats.get("processing_stats", {})

    def vectors(self, name: str | None = None) -> FloatArray | SparseVectors | Multivectors:
        """The vectors called `name`, as `Run.vectors` has them."""
        return self.run.vectors(name)

    def search(self, query: str, top_k: int = 10) -> list[Hit]:
        """The chunks that fit the query best, best first."""
        return search(self.out, query, top_k)
