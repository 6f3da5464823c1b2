"""The commit path, from source to manifest, in one process; and what has to hold of any folder that a cut leaves."""

from __future__ import annotations

import json
import random
import select
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from embedfleet.client.run_directory.reader import open_run
from embedfleet.client.verify.recount import verify_run
from embedfleet.coordinator.intake.loader import ChunkLoader, SegmentLimits
from embedfleet.exporter.export_runtime import ExportRuntime
from embedfleet.exporter.run_directory.owned_directory import RunDirectory
from embedfleet.protocol.errors import EmbedfleetError
from embedfleet.protocol.run_directory.layout import RunLayout, segments_in
from embedfleet.protocol.run_directory.segment_info import ChunkSegmentInfo, VectorSegmentInfo
from embedfleet.protocol.run_directory.tables import dense_vectors, digest, read_info
from embedfleet.protocol.spec.ensemble_spec import EnsembleSpec
from embedfleet.protocol.spec.fingerprint import Fingerprint
from embedfleet.protocol.spec.run_spec import PassSpec, RunSpec
from embedfleet.protocol.vectors.ensembles import combine
from embedfleet.protocol.wire import arrays
from embedfleet.protocol.wire.export import (
    ChunksDamaged,
    CloseRunMessage,
    Committed,
    ExportFailed,
    Rows,
    ScrubbedMessage,
    SourceRead,
)

ROWS, SEGMENTS, DIM = 4, 3, 8
ENSEMBLE = EnsembleSpec(vector="ensemble-average", method="average", members=("dense-a", "dense-b"), weights=(1.0, 1.0))
LOST = (0, 1)
"""Pass and segment of the file that a workload with an ensemble loses before its second session."""


class Workload:
    """A small corpus with two dense passes, one of them kept as int8 with ranges of its own, and a bad record.

    With `ensemble`, one of both, and `begin` makes a whole run of which a member's file is lost. It is computed again with
    other numbers, as a device in half precision may.
    """

    def __init__(self, folder: Path, *, ensemble: bool = False) -> None:
        self.ensemble = ensemble
        self._again = False
        source = folder / "corpus.jsonl"
        lines = [json.dumps({"id": f"c{row}", "text": f"text of row {row}"}) for row in range(ROWS * SEGMENTS)]
        lines.insert(5, "no json")
        source.write_text("\n".join(lines) + "\n")
        passes = (
            PassSpec(vector="dense-a", kind="dense", model=f"fake:{DIM}"),
            PassSpec(vector="dense-b", kind="dense", model=f"fake:{DIM}", storage="int8"),
        )
        self.spec = RunSpec(source=str(source), passes=passes, index="none", ensembles=(ENSEMBLE,) if ensemble else ())

    def begin(self, root: Path, rng: random.Random) -> None:
        """What stands before the session of which the power is cut."""
        if self.ensemble:
            self.run(root, lambda _what: None, rng)
            number, segment = LOST
            RunLayout(root).vector_segment(self.spec.passes[number].vector, segment).unlink()
            self._again = True

    def results(self, number: int, segment: int) -> dict[str, Any]:
        """What a worker computes for a segment of a pass."""
        return _results(number, segment, int(self._again and (number, segment) == LOST))

    def run(self, root: Path, mark: Callable[[Any], None], rng: random.Random) -> None:
        """One session to its end; what was committed before is left as it is. `mark` hears what is acknowledged."""
        directory = RunDirectory(root, self.spec, restart=False)
        runtime = ExportRuntime(directory, "r")
        try:
            self._work(runtime, directory.layout, mark, rng)
        finally:  # where a cut broke the run, `close` may not have come
            runtime._events.close()
            runtime._reports.close()

    def _work(self, runtime: ExportRuntime, layout: RunLayout, mark: Callable[[Any], None], rng: random.Random) -> None:
        put = runtime._reports.put

        def report(message: Any) -> None:
            if isinstance(message, Committed):
                mark(("vectors", message.number, message.segment))
            put(message)

        runtime._reports.put = report
        _wait_for_the_scrub(runtime)  # here and not beside the rest, so that a seed makes the same session again
        ChunkLoader(
            self.spec,
            layout,
            SegmentLimits(rows=ROWS),
            lambda one: mark(("chunks", one.segment)),
            lambda: False,
        ).load()
        for number in range(len(self.spec.passes)):
            runtime.begin_pass(number, _fingerprint())
        runtime.source_read(SourceRead(SEGMENTS))
        left = [(n, s) for n, done in enumerate(runtime.committed) for s in range(SEGMENTS) if s not in done]
        rng.shuffle(left)
        for number, segment in left:
            headers, frames = arrays.pack(self.results(number, segment))
            runtime.add(Rows(number, segment, ROWS, headers), [bytes(frame) for frame in frames])
        runtime.close(CloseRunMessage("done", "", {"passes": []}))
        mark("done")


def _wait_for_the_scrub(runtime: ExportRuntime) -> None:
    ends = (ScrubbedMessage, ChunksDamaged, ExportFailed)
    while not any(isinstance(one, ends) for one in runtime.take()):
        select.select([runtime.wake_fd], [], [])


def check(root: Path, workload: Workload, marks: tuple[Any, ...]) -> str:
    """What is wrong with the folder that a cut left; empty where nothing is."""
    layout = RunLayout(root)
    finished = layout.manifest.exists()
    try:
        if wrong := _wrong_chunks(layout):
            return wrong
        directory = RunDirectory(root, workload.spec, restart=False)
    except (EmbedfleetError, OSError) as error:
        return f"the folder cannot be taken up again: {error}"
    try:
        standing = {(number, s) for number in range(2) for s in directory.committed(number)}
        if wrong := _wrong_vectors(directory, workload, standing):
            return wrong
    except (EmbedfleetError, OSError) as error:
        return f"a segment stands and cannot be read: {error}"
    finally:
        directory.release()
    if wrong := _lost(marks, set(segments_in(layout.chunks)), standing, finished=finished):
        return wrong
    if finished and len(standing) < 2 * SEGMENTS and not workload.ensemble:  # which has a manifest from before the loss
        return "the manifest stands and segments do not"
    return ""


def _wrong_chunks(layout: RunLayout) -> str:
    for segment in segments_in(layout.chunks) if layout.chunks.exists() else ():
        path = layout.chunk_segment(segment)
        info = read_info(path, ChunkSegmentInfo)
        texts = pq.read_table(path, page_checksum_verification=True).column("text").to_pylist()
        if texts != [f"text of row {row}" for row in range(info.first_row, info.first_row + ROWS)]:
            return f"chunk segment {segment} says something else"
    return ""


def _wrong_vectors(directory: RunDirectory, workload: Workload, standing: set[tuple[int, int]]) -> str:
    layout = directory.layout
    for number, segment in standing:
        path = layout.vector_segment(workload.spec.passes[number].vector, segment)
        if digest(pq.read_table(path)) != read_info(path, VectorSegmentInfo).digest:
            return f"{path.parent.name}/{path.name} stands and is not whole"
    for segment in directory.standing(ENSEMBLE.vector) if workload.ensemble else ():
        if {(0, segment), (1, segment)} <= standing and not _is_of_its_members(layout, segment):
            return f"segment {segment} of the ensemble is of other members than those that stand"
    return ""


def _lost(marks: tuple[Any, ...], chunks: set[int], standing: set[tuple[int, int]], *, finished: bool) -> str:
    """What was acknowledged and does not stand."""
    for one in marks:
        match one:
            case ("chunks", segment) if segment not in chunks:
                return f"chunk segment {segment} was acknowledged and is gone"
            case ("vectors", number, segment) if (number, segment) not in standing:
                return f"segment {segment} of pass {number} was acknowledged and is gone"
            case "done" if not finished:
                return "the run was done and its manifest is gone"
            case _:
                pass
    return ""


def completes(root: Path, workload: Workload, rng: random.Random) -> str:
    """Run the same again; what is wrong with the result, empty where it is as it would have been without a cut."""
    try:
        workload.run(root, lambda _what: None, rng)
    except (EmbedfleetError, OSError) as error:
        return f"the same run again fails: {error}"
    report = verify_run(root)
    if not report.ok:
        return f"after the same run again: {report.problems}"
    found = open_run(root)
    expected = np.concatenate([workload.results(0, segment)["vector"] for segment in range(SEGMENTS)])
    if found.vectors("dense-a").tobytes() != expected.tobytes():
        return "after the same run again the vectors are others"
    return "" if len(found.quarantine) == 1 else "after the same run again the quarantine is another"


def _is_of_its_members(layout: RunLayout, segment: int) -> bool:
    members = [dense_vectors(pq.read_table(layout.vector_segment(name, segment))) for name in ENSEMBLE.members]
    found = dense_vectors(pq.read_table(layout.vector_segment(ENSEMBLE.vector, segment)))
    return np.allclose(found, combine(ENSEMBLE, members), atol=1e-6)


def _results(number: int, segment: int, again: int) -> dict[str, Any]:
    vectors = np.random.default_rng([number, segment, again]).normal(size=(ROWS, DIM)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return {
        "positions": np.arange(ROWS, dtype=np.int32),
        "vector": vectors,
        "n_tokens": np.full(ROWS, 3, np.int32),
        "truncated": np.zeros(ROWS, np.uint8),
    }


def _fingerprint() -> Fingerprint:
    return Fingerprint(
        model="fake",
        revision="1",
        weights="",
        dtype="float32",
        max_tokens=8,
        prompt="",
        pooling="none",
        dim=DIM,
        normalized=True,
        versions={},
    )
