"""What each pass of a run is computed with: one model and one dtype for all of its workers, chosen once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from ...protocol.errors import DamagedChunks, SpecMismatch
from ...protocol.run_directory.layout import RunLayout
from ...protocol.spec.fingerprint import Fingerprint
from ...protocol.spec.output_dims import output_dims
from ...protocol.spec.run_spec import Output, PassSpec, RunSpec
from ...protocol.wire.devices import Device
from ...protocol.wire.run_options import RunOptions
from ..core.events import Event
from ..telemetry.tracker import TelemetryTracker
from .bm25_fit import Bm25Fit
from .metadata_weights import without_model
from .planner import BatchSizes, batch_sizes, choose_dtype


class PassSettings:
    """Settings of one run, by pass index. `report` gets the outcome of the BM25 count, from any thread."""

    def __init__(
        self,
        run: str,
        spec: RunSpec,
        layout: RunLayout,
        options: RunOptions,
        telemetry: TelemetryTracker,
        report: Callable[[Event | DamagedChunks], None],
    ) -> None:
        self._spec, self._options, self._telemetry = spec, options, telemetry
        self._fingerprints: dict[int, Fingerprint] = {}
        self._staged: dict[int, PassSpec] = {}
        """The pass as sent to its first worker: all its workers load the same, even if other devices join later."""
        self._batches: dict[int, tuple[int, int]] = {}
        """From the first worker: the usual tokens of a batch, and the bytes of a row's result."""
        self._sizes: dict[int, BatchSizes] = {}
        self.fit = Bm25Fit(run, spec, layout, report)

    def resume(self, fingerprints: Sequence[Fingerprint | None]) -> None:
        """Take over the fingerprints of earlier sessions, by pass index; None: no segment yet."""
        for pass_index, before in enumerate(fingerprints):
            if before is not None:
                self._fingerprints[pass_index] = before

    def begin_fit(self) -> None:
        """Start counting BM25 terms: chunks are there. Later calls do nothing."""
        self.fit.begin(self._fingerprints)

    def stage(self, pass_index: int, devices: Sequence[Device]) -> PassSpec:
        """The pass for its workers: with one dtype for all, and with BM25 fitted to the corpus."""
        if pass_index not in self._staged:
            self._staged[pass_index] = self._choose(pass_index, devices)
        return self._staged[pass_index]

    def _choose(self, pass_index: int, devices: Sequence[Device]) -> PassSpec:
        one, before = self._spec.passes[pass_index], self._fingerprints.get(pass_index)
        if one.needs_average_length:
            fitted = self.fit.fitted(one, before)
            self._telemetry.event("bm25_fitted", vector=one.vector, average_length=fitted.average_length)
            return fitted
        chosen = choose_dtype(one, before, devices, self._options)
        return msgspec.structs.replace(
            chosen,
            backend=self._options.backend,
            expected_tokens=self._options.expected_tokens,
            chosen_dtype=one.dtype == "auto" and before is None,
        )

    def staged(self, pass_index: int, fingerprint: Fingerprint, batch_tokens: int, row_bytes: int) -> None:
        """Take the fingerprint of a worker's loaded model, the usual tokens of its batches and the bytes of a row's result.

        SpecMismatch if the model is not the one of the committed segments, UsageError if its dimensions do not fit the run.
        """
        one, known = self._spec.passes[pass_index], self._fingerprints.get(pass_index)
        if known is not None and (found := fingerprint.differences(known)):
            raise SpecMismatch(
                f"{one.vector}: this model is not the one of the committed segments: {'; '.join(found)}. "
                "--restart starts over"
            )
        output_dims(self._spec, self._fingerprints | {pass_index: fingerprint})
        if known is None and fingerprint.assumed and one.side == "document":
            self._telemetry.event("model_assumed", vector=one.vector, what=fingerprint.assumed)
        self._fingerprints.setdefault(pass_index, fingerprint)
        self._batches.setdefault(pass_index, (batch_tokens, row_bytes))

    def hydrated(self, pass_index: int, *, fixed_batches: bool) -> None:
        """Take a worker's word on whether batches may be of any size; for all workers of the pass, that of the first counts."""
        if pass_index not in self._sizes:
            sizes = batch_sizes(self._spec.passes[pass_index], *self._batches[pass_index], fixed=fixed_batches)
            self._sizes[pass_index] = sizes

    def sizes(self, pass_index: int) -> BatchSizes:
        """Sizes of the batches of a pass that has a hydrated worker."""
        return self._sizes[pass_index]

    def outputs(self, pass_index: int) -> tuple[tuple[Output, int], ...]:
        """The outputs of a staged pass, each with its dimension; 0 if its form has none."""
        fingerprint = self._fingerprints[pass_index]
        return tuple((one, fingerprint.dim_of(one.form)) for one in self._spec.passes[pass_index].outputs)

    def fingerprint(self, pass_index: int) -> Fingerprint:
        """What the pass is computed with. If no worker computes it, the fingerprint of weights from the metadata."""
        return self._fingerprints.get(pass_index) or without_model(self._spec.passes[pass_index])

    def max_tokens(self, pass_index: int) -> int:
        """How many tokens of a text the model takes; 0: not known."""
        return self._fingerprints[pass_index].max_tokens if pass_index in self._fingerprints else 0
