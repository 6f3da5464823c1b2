"""A plan beside the run that it was made for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from ...protocol.errors import RunDirectoryError, UsageError
from ...protocol.run_directory.atomic_files import commit_bytes
from ...protocol.run_directory.json_bytes import decode_json
from ...protocol.run_directory.layout import RunLayout
from ...protocol.run_directory.records.stats import read_stats
from ..run_directory.info import describe_run
from .plan import Figure, Plan


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """One figure: as it was planned, and as it is."""

    name: str
    planned: float
    basis: str
    real: float

    @property
    def ratio(self) -> float | None:
        """The real figure divided by the planned one; None if nothing was planned."""
        return self.real / self.planned if self.planned else None


def write_plan(plan: Plan, path: Path) -> None:
    """Write a plan as JSON. UsageError if the file cannot be written."""
    try:
        commit_bytes(path, msgspec.json.format(msgspec.json.encode(plan), indent=2) + b"\n")
    except OSError as error:
        raise UsageError(f"--write {path}: {error.strerror or error}; name a file in a folder that is there") from error


def read_plan(path: Path) -> Plan:
    """Read a written plan. UsageError if the file holds none."""
    try:
        return decode_json(path.read_bytes(), Plan)
    except OSError as error:
        raise UsageError(
            f"{path}: {error.strerror or error}; with --compare, give the file that --write made"
        ) from error
    except ValueError as error:
        raise UsageError(
            f"{path}: is no plan ({error}); with --compare, give the file that `embedfleet plan SOURCE --write FILE` made"
        ) from error


def compare(plan: Plan, folder: Path) -> list[Compared]:
    """The figures of the plan beside those of the run in `folder`. RunDirectoryError for a run that is not done."""
    described = describe_run(folder)
    if described["status"] != "done":
        raise RunDirectoryError(f"{folder}: the run is {described['status']}; compare when it is done")
    return list(_compared(plan, folder))


def _compared(plan: Plan, folder: Path) -> Iterator[Compared]:
    described, stats = describe_run(folder), read_stats(RunLayout(folder))
    chunks, vectors = described["chunks"], {one["vector"]: one for one in described["vectors"]}
    yield _one("rows", plan.rows, chunks["rows"])
    yield _one("rejected", plan.rejected, chunks["rejected"])
    yield _one("duplicates", plan.duplicates, chunks["duplicates"])
    yield _one("bytes of chunks", plan.chunk_bytes, chunks["bytes"])
    timed = stats.by_vector()
    for one in plan.passes:
        for vector in one.vectors:
            if (real := vectors.get(vector.vector)) is not None:
                yield _one(f"{vector.vector}: bytes", vector.bytes, real["bytes"])
        if (real := vectors.get(one.vectors[0].vector)) is not None:
            yield _one(f"{one.vector}: tokens", one.tokens, real["tokens"])
        found = timed.get(one.vector)
        if one.tokens_per_second is not None and found is not None and found.seconds:
            yield _one(f"{one.vector}: tokens/s", one.tokens_per_second, found.tokens_per_second)
            yield _one(f"{one.vector}: seconds", one.seconds, found.seconds)
    if plan.collection_bytes is not None and described["index"]["bytes"]:
        yield _one("bytes of the collection", plan.collection_bytes, described["index"]["bytes"])
    for one in plan.ensembles:
        if (real := vectors.get(one.vector)) is not None:
            yield _one(f"{one.vector}: bytes", one.bytes, real["bytes"])
    if plan.seconds is not None and stats.seconds:
        yield _one("seconds of the last session", plan.seconds, stats.seconds)


def _one(name: str, planned: Figure | None, real: float) -> Compared:
    value, basis = (planned.value, planned.basis) if planned is not None else (0.0, "assumed")
    return Compared(name=name, planned=value, basis=basis, real=real)
