"""Embedder: a run in steps, for notebooks: load chunks, generate embeddings, rank, export, read statistics, search."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import msgspec

from ...protocol.errors import RunDirectoryError, RunFailed, UsageError, error_from_name
from ...protocol.run_directory.layout import RunLayout
from ...protocol.run_directory.records.manifest import read_manifest
from ...protocol.run_directory.records.stats import read_stats
from ...protocol.run_directory.tables import FloatArray
from ...protocol.spec.run_spec import Backend, RunSpec
from ...protocol.statistics.run_stats import as_values
from ...protocol.wire.control import Progress, RunEnded
from ...protocol.wire.run_options import Placement
from ..arguments import expand_path
from ..options.embedder_options import checked, names_in, run_options, spec_options
from ..options.query_prompts import keep_query_prompts
from ..options.retrieval_options import build_plan
from ..options.spec_builder import build_spec
from ..output.progress import CallbackView
from ..run_directory.files import read_spec
from ..run_directory.multivectors import Multivectors
from ..run_directory.reader import Run, open_run
from ..run_directory.sparse_vectors import SparseVectors
from ..search.filter_keys import Filters
from ..search.hybrid import Hit, search
from ..search.query_models import TIMEOUT
from ..steps.export import export_quietly
from ..steps.retrieval import Retrieval
from ..steps.session import Interrupted, Session, open_session
from .chunk_source import ChunkSource, look_at_source
from .ranking_reader import Ranking
from .run_telemetry import RunTelemetry, stage_layouts


class Embedder:
    """One run directory and the models that fill it.

    A single model may be given without a list. `rerank` is the cross-encoder that `rank` uses. `options` are the other flags
    of `embedfleet run`, by name, as in `store="int8"` or `no_fallback=True`.

    Child processes do the work, as for `embedfleet run`: this process loads no model, and a notebook's event loop is not
    used. Each step raises an EmbedfleetError that names the remedy.
    """

    def __init__(
        self,
        out: str | PathLike[str],
        *,
        dense: str | Sequence[str] = (),
        sparse: str | Sequence[str] = (),
        multivector: str | Sequence[str] = (),
        heads: str | Sequence[str] = (),
        rerank: str | None = None,
        devices: str | None = None,
        restart: bool = False,
        otlp: str | None = None,
        batch_timeout: float | None = None,
        load_timeout: float | None = None,
        sparse_device: Placement = "auto",
        backend: Backend = "auto",
        cpu_fallback: bool = False,
        **options: Any,
    ) -> None:
        self.out = expand_path(out, "out").absolute()
        models = {"dense": dense, "sparse": sparse, "multivector": multivector, "heads": heads}
        self._models = {name: names_in(name, names) for name, names in models.items()}
        self._options = spec_options(options)
        self._rerank = checked("rerank", rerank, str | None)
        self._devices, self._otlp = checked("devices", devices, str | None), checked("otlp", otlp, str | None)
        self._restart = checked("restart", restart, bool)
        self._run_options = run_options(
            batch_timeout=batch_timeout,
            load_timeout=load_timeout,
            sparse_device=sparse_device,
            backend=backend,
            cpu_fallback=cpu_fallback,
        )
        self._spec: RunSpec | None = None
        self.telemetry = RunTelemetry(RunLayout(self.out))

    def __repr__(self) -> str:
        models = ", ".join(model for named in self._models.values() for model in named)
        return f"Embedder({str(self.out)!r}: {models or 'no models'})"

    def load_chunks(self, source: str | PathLike[str]) -> ChunkSource:
        """Set the corpus to a file or folder, and describe it without reading all of it. The source may be missing if the run
        has read it to its end.

        SourceError if it cannot be read, UsageError for unusable models and options.
        """
        found = look_at_source(source, self.out, self._options.get("text_field"), fresh=self._restart)
        out = None if self._restart else self.out
        self._spec = build_spec(str(found.path), **self._models, out=out, **self._options)
        return found

    def generate_embeddings(self, progress: Callable[[Progress], None] | None = None) -> RunEnded:
        """Run all passes through a private coordinator, and return the result of each. `progress` is called twice a second.

        Committed rows are not computed again. Interrupting the kernel finishes the batches in flight and then raises
        KeyboardInterrupt; the next call resumes. An error that ends the run is raised with its own type.
        """
        if self._spec is None:
            raise UsageError("no chunks are loaded: call load_chunks(SOURCE) first")
        spec = self._spec if self._restart else keep_query_prompts(self._spec, RunLayout(self.out))
        with self._session(progress) as session:
            try:
                ending = session.follow(spec, self.out, restart=self._restart)
            finally:
                self._restart &= not session.submitted  # a later call resumes this run, even if it failed
        if ending is not None and ending.status == "failed":
            raise error_from_name(ending.kind, ending.error)
        if ending is None or (session.received and ending.status == "interrupted"):
            raise KeyboardInterrupt("interrupted; what was committed stays, the same call resumes")
        if ending.status != "done":
            raise RunFailed(f"{self.out}: the run was {ending.status} ({ending.error}); call again to resume")
        return ending

    def rank(
        self,
        queries: str | PathLike[str],
        qrels: str | PathLike[str] | None = None,
        *,
        candidates: int = 100,
        top_k: int = 10,
        signals: str | Sequence[str] = (),
        progress: Callable[[Progress], None] | None = None,
    ) -> Ranking:
        """Find the first `top_k` chunks for every query of a file, as `embedfleet run --queries` does, and read them back.

        The queries go through the run's models, `candidates` of each signal are fused, and the reranker, if there is one,
        orders them. `signals` are the vectors or forms to fuse, as in `search`; empty fuses all. `qrels`, a file of
        judgements, evaluates every ranking. Finished steps are not repeated. Interrupting the kernel raises KeyboardInterrupt,
        and the next call resumes.
        """
        layout = RunLayout(self.out)
        spec = read_spec(layout)
        if not self.run.complete:
            raise RunDirectoryError(f"{self.out}: the run is not done; call generate_embeddings() first")
        plan = build_plan(
            queries,
            qrels=qrels,
            rerank=self._rerank,
            candidates=checked("candidates", candidates, int),
            top_k=checked("top_k", top_k, int),
            spec=spec,
            signals=names_in("signals", signals),
            **{name: self._options[name] for name in ("dtype", "trust_remote_code") if name in self._options},
        )
        with self._session(progress) as session:
            retrieval = Retrieval(session, spec, self.out, plan, [])
            try:
                retrieval.run({})
            except Interrupted:
                raise KeyboardInterrupt("interrupted; what is done stays, the same call resumes") from None
        return Ranking(layout, retrieval.evaluation)

    def export_for_local_qdrant(
        self, formats: str | Sequence[str] = (), quantization: Literal["none", "scalar"] | None = None
    ) -> dict[str, Path]:
        """Write points, vectors and the upload script to `export/`, and return the files there, by name.

        `formats` empty: all that apply. `quantization` None: that of the last export.
        """
        return export_quietly(self.out, names_in("formats", formats), quantization)

    @property
    def run(self) -> Run:
        """The run directory, read back: ids, chunks, quarantine, manifest."""
        return open_run(self.out)

    @property
    def processing_stats(self) -> dict[str, Any]:
        """From `stats.json`: `host` in the last session, and `passes` by vector and device, each from its last session.

        After `rank`, `queries` and `rerank` hold the same for those two runs. Empty before the first session.
        """
        layouts = {stage: one for stage, one in stage_layouts(RunLayout(self.out)).items() if one.stats.exists()}
        found = {stage: as_values(read_stats(one).processing_stats) for stage, one in layouts.items()}
        return found.pop("corpus", {}) | found

    @property
    def sparse_vectors(self) -> dict[str, SparseVectors]:
        """The vectors of every sparse pass, by name, in row order. RunDirectoryError if one is incomplete."""
        run = self.run
        names = [one.vector for one in read_spec(RunLayout(self.out)).outputs if one.form == "sparse"]
        return {name: found for name in names if isinstance(found := run.vectors(name), SparseVectors)}

    @property
    def sparse_run(self) -> list[dict[str, Any]]:
        """The manifest's section of the sparse passes: rows computed live, from the metadata, and without weights; device,
        dtype, latency. Empty if there is none, or the run is not done.
        """
        manifest = read_manifest(RunLayout(self.out))
        return list(map(msgspec.to_builtins, manifest.sparse_run or ())) if manifest is not None else []

    @property
    def rerank_run(self) -> dict[str, Any] | None:
        """The manifest's section of the last `rank` with a reranker: coverage, batches, latency, peaks, fallbacks."""
        manifest = read_manifest(RunLayout(self.out))
        return msgspec.to_builtins(manifest.rerank_run or None) if manifest is not None else None

    def vectors(self, name: str | None = None) -> FloatArray | SparseVectors | Multivectors:
        """The vectors called `name`, as `Run.vectors` returns them."""
        return self.run.vectors(name)

    def search(
        self,
        query: str,
        top_k: int = 10,
        *,
        signals: str | Sequence[str] = (),
        filters: Filters = (),
        rerank: str | None = None,
        timeout: float = TIMEOUT,
        trust_remote_code: bool = False,
        candidates: int | None = None,
    ) -> list[Hit]:
        """The chunks that fit the query best, best first.

        `signals` are vectors to fuse, or forms (`dense`, `sparse`, `multivector`). `filters` are texts as `--filter` takes
        them, (key, value) pairs of the metadata, or a dict of such pairs; all must match. `rerank` is a cross-encoder that
        reorders the first hits; `trust_remote_code` lets it run code of its own. The models may take `timeout` seconds, and the
        cross-encoder as long again. The first `candidates` chunks of each signal are fused. A model that cannot encode the
        query is left out; `Hit.left_out` has the reason.
        """
        chosen = names_in("signals", signals)
        return search(
            self.out,
            query,
            top_k,
            signals=chosen,
            filters=filters,
            rerank=rerank,
            timeout=timeout,
            trust_remote_code=trust_remote_code,
            candidates=candidates,
        )

    @contextmanager
    def _session(self, progress: Callable[[Progress], None] | None) -> Generator[Session]:
        """A private coordinator that prints nothing."""
        view = CallbackView(progress)
        with open_session(
            devices=self._devices,
            otlp=self._otlp,
            options=self._run_options,
            share_stdin=False,
            views=lambda _unit: view,
        ) as session:
            yield session
