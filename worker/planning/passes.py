"""The figures of a run's passes before the run, as a child process of `embedfleet plan`.

    python -m embedfleet.worker.planning.passes < request.json

reads a PassesRequest and writes a PassesAnswer or an error (`protocol/planning/answers.py`). It needs no torch and
loads no weights; models are checked as before a run, but for those of the catalogue that are not here.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pyarrow.parquet as pq

from ...protocol.planning.answers import answer
from ...protocol.planning.model_figures import PassesAnswer, PassesRequest, PassFigures, VectorFigures
from ...protocol.planning.survey import sample_table
from ...protocol.process import lifeline
from ...protocol.process.arrow import leave_out_pandas
from ...protocol.spec.output_dims import with_ensembles
from ...protocol.spec.run_spec import Output, RunSpec
from .matrix_rate import matrix_rate
from .pass_figures import Sample, figures_of
from .vector_bytes import dense_size


def figures(request: PassesRequest) -> PassesAnswer:
    """The figures of all passes. ModelError if a model cannot be used, UsageError if vectors do not fit together."""
    table = pq.read_table(sample_table(Path(request.folder)))
    ids, texts, metadata = (table.column(name).to_pylist() for name in ("id", "text", "metadata"))
    sample = Sample(ids, texts, metadata, request.segment_rows)
    passes = tuple(figures_of(one, sample) for one in request.spec.passes)
    return PassesAnswer(
        passes=passes,
        ensembles=_ensembles(request.spec, passes, sample),
        matrix_rate=matrix_rate() if request.matrix_rate else 0.0,
    )


def _ensembles(spec: RunSpec, passes: tuple[PassFigures, ...], sample: Sample) -> tuple[VectorFigures, ...]:
    known = {one.vector: one.dim for each in passes for one in each.vectors if one.form == "dense" and one.dim}
    dims = with_ensembles(spec, known)
    outputs = [Output(one.vector, "dense", "ensemble") for one in spec.ensembles if one.vector in dims]
    return tuple(dense_size(sample.rows, output, dims[output.vector]) for output in outputs)


def main() -> int:
    """Answer the request on standard input."""
    lifeline.hold()
    leave_out_pandas()
    return answer(PassesRequest, figures)


if __name__ == "__main__":
    sys.exit(main())
