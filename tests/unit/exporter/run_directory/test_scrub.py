"""Reading again what stands: damage is found wherever it is, told by segment and vector, and nothing else is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from embedfleet.exporter.run_directory import scrub as scrubbing
from embedfleet.exporter.run_directory.scrub import ScrubbedSegment, chunk_damage, scrub, vector_damage
from embedfleet.protocol.run_directory.segment_info import ChunkSegmentInfo, VectorSegmentInfo
from embedfleet.protocol.run_directory.tables import INFO_KEY, digest, read_info, with_info
from embedfleet.protocol.spec.run_spec import PassSpec, RunSpec

from ....export_bench import Bench


def never() -> bool:
    return False


@pytest.fixture
def files(run_files: Any, tmp_path: Path) -> Any:
    """Two segments of a dense and a sparse pass, all whole."""
    return run_files.RunFiles(tmp_path / "run").write()


def look(files: Any, *committed: set[int]) -> list[ScrubbedSegment]:
    return list(scrub(files.layout, files.spec, committed or ({0, 1}, {0, 1}), never))


def test_what_is_whole_is_found_whole_in_order(files: Any) -> None:
    assert look(files) == [ScrubbedSegment(0, "", ()), ScrubbedSegment(1, "", ())]


def test_damage_is_told_by_segment_pass_and_vector(files: Any, run_files: Any) -> None:
    dense, sparse = (files.layout.vector_segment(name, 1) for name in (run_files.DENSE, run_files.SPARSE))
    dense.write_bytes(dense.read_bytes()[:-40])
    sparse.write_bytes(b"PAR1" * 20)
    first, second = look(files)
    assert first.damaged == ()
    assert [(number, vector) for number, vector, _ in second.damaged] == [(0, run_files.DENSE), (1, run_files.SPARSE)]
    assert all("not a whole segment" in reason and str(files.root) not in reason for *_, reason in second.damaged)
    assert second.chunks == ""


def test_only_what_was_committed_is_looked_at(files: Any, run_files: Any) -> None:
    """The segment that this session is writing is nobody's damage; one of vectors without chunks is read as well."""
    files.layout.vector_segment(run_files.DENSE, 1).write_bytes(b"half")
    files.layout.chunk_segment(0).unlink()
    assert look(files, {0}, set()) == [ScrubbedSegment(0, "", ()), ScrubbedSegment(1, "", ())]


def test_it_stops_between_two_segments_when_asked(files: Any) -> None:
    asked: list[bool] = []
    found = scrub(files.layout, files.spec, ({0, 1}, {0, 1}), lambda: len(asked) > 0 or asked.append(True) is not None)
    assert [one.segment for one in found] == [0]


def test_of_a_pass_with_several_vectors_any_counts(files: Any) -> None:
    """The pass computes them together, so the first damaged one says it all."""
    heads = PassSpec(vector="heads-m3", kind="bge-m3", model="m")
    spec = RunSpec(source="s", passes=(heads,), index="none")
    for output, table in zip(heads.outputs, (files.dense_table, files.sparse_table, files.multi_table), strict=True):
        files.layout.vector_folder(output.vector).mkdir()
        files.vector_segment(output.vector, 0, table(0))
    before, _ = scrub(files.layout, spec, ({0},), never)
    assert before.damaged == ()
    path = files.layout.vector_segment("sparse-m3", 0)
    path.write_bytes(path.read_bytes()[:-40])
    after, _ = scrub(files.layout, spec, ({0},), never)
    ((number, vector, _),) = after.damaged
    assert (number, vector) == (0, "sparse-m3")


def test_the_digest_finds_what_reads_well(files: Any, run_files: Any) -> None:
    """A whole file with other numbers in it, as a disk that mixes up its blocks may leave."""
    path = files.layout.vector_segment(run_files.DENSE, 0)
    info = read_info(path, VectorSegmentInfo)
    table = pq.read_table(path)
    turned = pa.array(
        [vector[::-1] for vector in table.column("vector").to_pylist()], table.schema.field("vector").type
    )
    table = table.set_column(table.column_names.index("vector"), table.schema.field("vector"), turned)
    pq.write_table(with_info(table, info), path)
    assert digest(table) != info.digest
    assert vector_damage(files.layout, run_files.DENSE, 0) == "its content is not what its digest says"


def test_a_large_file_is_read_through_page_by_page(files: Any, run_files: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not whole in memory: its pages have checksums of their own, and the digest is left to `verify`."""
    path = files.layout.vector_segment(run_files.DENSE, 0)
    table = pq.read_table(path)
    pq.write_table(table, path, compression="none", use_dictionary=False, write_page_checksum=True)
    monkeypatch.setattr(scrubbing, "WHOLE_BYTES", 0)
    monkeypatch.setattr(scrubbing, "digest", lambda _table: pytest.fail("the file was read whole"))
    assert vector_damage(files.layout, run_files.DENSE, 0) == ""
    data, needle = path.read_bytes(), np.float32(table.column("vector")[0].as_py()[0]).tobytes()
    at = data.index(needle)
    path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    assert "torn or unreadable" in vector_damage(files.layout, run_files.DENSE, 0)


def test_a_file_in_the_place_of_another_is_damage(files: Any, run_files: Any) -> None:
    first, second = (files.layout.vector_segment(run_files.DENSE, segment) for segment in (0, 1))
    second.write_bytes(first.read_bytes())
    assert vector_damage(files.layout, run_files.DENSE, 1) == f"it says that it is segment 0 of {run_files.DENSE}"
    first, second = (files.layout.chunk_segment(segment) for segment in (0, 1))
    second.write_bytes(first.read_bytes())
    assert chunk_damage(files.layout, 1) == "it says that it is segment 0"


def test_rows_that_are_missing_are_damage(files: Any) -> None:
    path = files.layout.chunk_segment(0)
    table = pq.read_table(path)
    pq.write_table(table.slice(1), path)
    assert read_info(path, ChunkSegmentInfo).rows == 3
    assert chunk_damage(files.layout, 0) == "has 2 rows and says 3"


def test_a_chunk_segment_that_is_damaged_is_told(files: Any) -> None:
    files.layout.chunk_segment(1).write_bytes(b"nothing of the kind")
    first, second = look(files)
    assert first.chunks == ""
    assert second.chunks.startswith("not a whole segment")


def test_a_chunk_segment_that_the_intake_removes_meanwhile_is_no_damage(
    files: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stood behind a gap, and the intake deletes it while it is being read."""
    read = scrubbing.read_info

    def removed(path: Path, kind: Any) -> Any:
        path.unlink()
        return read(path, kind)

    monkeypatch.setattr(scrubbing, "read_info", removed)
    assert chunk_damage(files.layout, 0) == ""


@pytest.mark.parametrize("content", [b"nothing of the kind", None])
def test_nor_is_one_that_the_intake_writes_anew_meanwhile(
    files: Any, monkeypatch: pytest.MonkeyPatch, content: bytes | None
) -> None:
    """What was read of the one before, or partly of the one before, says nothing of the one that stands."""
    path, read = files.layout.chunk_segment(0), scrubbing.read_info
    whole = path.read_bytes()
    path.write_bytes(files.layout.chunk_segment(1).read_bytes() if content is None else content)

    def replaced(path: Path, kind: Any) -> Any:
        try:
            return read(path, kind)
        finally:
            anew = path.with_name("anew")
            anew.write_bytes(whole)
            anew.replace(path)

    monkeypatch.setattr(scrubbing, "read_info", replaced)
    assert chunk_damage(files.layout, 0) == ""
    monkeypatch.setattr(scrubbing, "read_info", read)
    assert chunk_damage(files.layout, 0) == ""


def test_no_changed_byte_makes_a_segment_say_something_else(tmp_path: Path) -> None:
    """Wherever it is: it is found, or it is one that counts for nothing (of the encoding, say, or of what pyarrow notes)."""
    bench = Bench(tmp_path, segments=1)
    bench.finish()
    vectors, chunks = bench.layout.vector_segment("dense-a", 0), bench.layout.chunk_segment(0)
    found = 0
    for path, kind, damage in (
        (vectors, VectorSegmentInfo, lambda: vector_damage(bench.layout, "dense-a", 0)),
        (chunks, ChunkSegmentInfo, lambda: chunk_damage(bench.layout, 0)),
    ):
        data, info, table = path.read_bytes(), read_info(path, kind), pq.read_table(path)
        assert damage() == ""
        for at in range(len(data)):
            path.write_bytes(data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :])
            if damage():
                found += 1
            else:
                assert read_info(path, kind) == info, at
                assert pq.read_table(path).cast(table.schema).equals(table), at
        path.write_bytes(data)
    assert found > 1_000


def test_a_footer_that_was_written_before_there_were_checksums_is_read(files: Any, run_files: Any) -> None:
    path = files.layout.vector_segment(run_files.DENSE, 0)
    info, table = read_info(path, VectorSegmentInfo), pq.read_table(path)
    pq.write_table(table.replace_schema_metadata({INFO_KEY: msgspec.json.encode(info)}), path)
    assert read_info(path, VectorSegmentInfo) == info
    assert vector_damage(files.layout, run_files.DENSE, 0) == ""
    renamed = table.rename_columns(["Row", *table.column_names[1:]])
    pq.write_table(renamed.replace_schema_metadata({INFO_KEY: msgspec.json.encode(info)}), path)
    assert "row" in vector_damage(files.layout, run_files.DENSE, 0), "whatever the reader raises is damage"


def test_an_info_of_another_form_is_damage(files: Any, run_files: Any) -> None:
    path = files.layout.vector_segment(run_files.DENSE, 0)
    table = pq.read_table(path).replace_schema_metadata({INFO_KEY: msgspec.json.encode({"vector": 1})})
    pq.write_table(table, path)
    assert "not a whole segment" in vector_damage(files.layout, run_files.DENSE, 0)


def test_a_host_without_memory_is_no_damage(files: Any, run_files: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def without(_table: Any) -> str:
        raise MemoryError

    monkeypatch.setattr(scrubbing, "digest", without)
    with pytest.raises(MemoryError):
        vector_damage(files.layout, run_files.DENSE, 0)


def test_vectors_of_other_rows_than_the_chunks_are_damage(files: Any, run_files: Any) -> None:
    """As after chunks were read again with other limits."""
    other = run_files.RunFiles(files.root.parent / "other", sizes=(2, 3)).write()
    files.layout.chunk_segment(0).write_bytes(other.layout.chunk_segment(0).read_bytes())
    assert "its first row and rows are (0, 3), those of its chunks (0, 2)" in vector_damage(
        files.layout, run_files.DENSE, 0
    )
