"""What each pass of a run is computed with, once that is settled: the same model and dtype for all of its workers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

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
from .planner import choose_dtype, needs_fit


class PassSettings:
    """Of one run, by the numbers of its passes. `report` takes what the count of BM25's terms comes to, from any thread."""

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
        """As the first worker of each pass was told: the others load the same, whoever joins meanwhile."""
        self._batch_tokens: dict[int, int] = {}
        self.fit = Bm25Fit(run, spec, layout, report)

    def resume(self, fingerprints: Sequence[Fingerprint | None]) -> None:
        """Go on with what earlier sessions computed their segments with."""
        for number, before in enumerate(fingerprints):
            if before is not None:
                self._fingerprints[number] = before

    def begin_fit(self) -> None:
        """Chunks are there to be counted; only the first call counts."""
        self.fit.begin(self._fingerprints)

    def stage(self, number: int, devices: Sequence[Device]) -> PassSpec:
        """The pass as its workers are to load it: with one dtype for all, and BM25 fitted to the corpus."""
        if number not in self._staged:
            self._staged[number] = self._settle(number, devices)
        return self._staged[number]

    def _settle(self, number: int, devices: Sequence[Device]) -> PassSpec:
        one, before = self._spec.passes[number], self._fingerprints.get(number)
        if needs_fit(one):
            fitted = self.fit.fitted(one, before)
            self._telemetry.event("bm25_fitted", vector=one.vector, average_length=fitted.average_length)
            return fitted
        return choose_dtype(one, before, devices, self._options)

    def staged(self, number: int, fingerprint: Fingerprint, batch_tokens: int) -> None:
        """A worker has loaded the model.

        SpecMismatch where it is another one than before, UsageError where its dimensions do not suit the run.
        """
        one, known = self._spec.passes[number], self._fingerprints.get(number)
        if known is not None and (found := fingerprint.differences(known)):
            raise SpecMismatch(
                f"{one.vector}: this model is not the one of the committed segments: {'; '.join(found)}. "
                "--restart starts over"
            )
        output_dims(self._spec, self._fingerprints | {number: fingerprint})
        if known is None and fingerprint.assumed and one.side == "document":
            self._telemetry.event("model_assumed", vector=one.vector, what=fingerprint.assumed)
        self._fingerprints.setdefault(number, fingerprint)
        self._batch_tokens.setdefault(number, batch_tokens)

    def batch_tokens(self, number: int) -> int:
        """How large the batches of a staged pass are, in estimated tokens."""
        return self._batch_tokens[number]

    def outputs(self, number: int) -> tuple[tuple[Output, int], ...]:
        """What a staged pass gives, each with its dimensions; 0 where its form has none."""
        fingerprint = self._fingerprints[number]
        return tuple((one, fingerprint.dim_of(one.form)) for one in self._spec.passes[number].outputs)

    def fingerprint(self, number: int) -> Fingerprint:
        """What the pass is computed with; where no worker computes it, that its weights are those of the metadata."""
        return self._fingerprints.get(number) or without_model(self._spec.passes[number])

    def max_tokens(self, number: int) -> int:
        """How many tokens of a text the model takes; 0 where it is not known."""
        return self._fingerprints[number].max_tokens if number in self._fingerprints else 0
