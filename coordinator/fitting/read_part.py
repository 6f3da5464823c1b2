"""Count the chunks of a part of a source, and their BM25 terms, and take a sample of them, as a child process of a client.

    python -m embedfleet.coordinator.fitting.read_part SPEC I/N FOLDER

reads part I of N by the fields of SPEC (JSON), and prints a line with a TermCount. FOLDER is for temporary files; only one
segment of chunks is there at any time. If SPEC needs int8 ranges, FOLDER.sample.jsonl gets a sample.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import msgspec

from ...protocol.errors import EXIT_DONE, EXIT_FAILED, EXIT_USAGE, EmbedfleetError, UsageError
from ...protocol.process import lifeline
from ...protocol.process.arrow import leave_out_pandas
from ...protocol.process.child import ERROR_MARK
from ...protocol.process.stop_signals import ignore_stop_signals
from ...protocol.run_directory.chunk_columns import read_chunk_columns
from ...protocol.run_directory.layout import RunLayout
from ...protocol.run_directory.records.fit import SAMPLE_SUFFIX, TermCount
from ...protocol.run_directory.records.intake import SegmentLimits
from ...protocol.spec.run_spec import RunSpec
from ...protocol.spec.shard import Shard, parse_shard
from ..intake.failure import intake_failure
from ..intake.loader import ChunkLoader, SpooledSegment
from ..runs.bm25_count import TermCounter
from .sample import Sample


def read_part(spec: RunSpec, part: Shard, folder: Path) -> TermCount:
    """The chunks and terms of a part of the source. SourceError if it cannot be read."""
    layout, terms = RunLayout(folder), 0
    counter = TermCounter() if any(one.needs_average_length for one in spec.passes) else None
    sample = Sample() if any(one.needs_int8_ranges for one in spec.passes) else None

    def take(segment: SpooledSegment) -> None:
        nonlocal terms
        table = read_chunk_columns(layout, segment.segment, ("id", "text"))
        ids: list[str] = table.column("id").to_pylist()
        texts: list[str] = table.column("text").to_pylist()
        if counter is not None:
            terms += sum(map(counter.count, texts))
        if sample is not None:
            sample.add(ids, texts)
        layout.chunk_segment(segment.segment).unlink()

    ours = msgspec.structs.replace(spec, shard=part)
    # Only a sample depends on generated ids, and these on line numbers.
    loader = ChunkLoader(ours, layout, SegmentLimits(), take, lambda: False, numbered=sample is not None)
    counts = loader.load()
    if sample is not None:
        sample.write(folder.with_name(f"{folder.name}{SAMPLE_SUFFIX}"))
    return TermCount(chunks=counts.rows, terms=terms if counter is not None else None, rejected=counts.rejected)


def main() -> int:
    """Count for the arguments of the command line; an error is printed as other child processes do."""
    lifeline.hold()
    ignore_stop_signals()
    leave_out_pandas()
    spec, folder = msgspec.json.decode(sys.argv[1], type=RunSpec), Path(sys.argv[3])
    try:
        found = read_part(spec, parse_shard(sys.argv[2]), folder)
    except EmbedfleetError as error:
        sys.stderr.write(f"{ERROR_MARK}{error}\n")
        return EXIT_USAGE if isinstance(error, UsageError) else EXIT_FAILED
    except Exception as error:  # noqa: BLE001 - a full disk, a vanished source: one message
        sys.stderr.write(f"{ERROR_MARK}{intake_failure(error, spec.source, RunLayout(folder))}\n")
        return EXIT_FAILED
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    os.write(sys.stdout.fileno(), msgspec.json.encode(found) + b"\n")
    return EXIT_DONE


if __name__ == "__main__":
    sys.exit(main())
