"""Exported files of a run that has changed since."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from embedfleet.client.verify.recount import verify_run
from embedfleet.exporter.export_runtime import ExportRuntime
from embedfleet.protocol.errors import RunDirectoryError
from embedfleet.protocol.finished_run.published import run_digest
from embedfleet.protocol.run_directory.layout import RunLayout


def export(files: Any, *formats: str, quantization: Any = None) -> set[str]:
    record = ExportRuntime.export_for_local_qdrant(files.root, formats, quantization, lambda _file: None)
    return {one.name for one in record.files}


def stale(files: Any) -> set[str]:
    """The files that `verify` tells to be of other vectors; it finds nothing else wrong with the exports."""
    problems = [one for one in verify_run(files.root).problems if str(files.layout.export) in one]
    assert all(f"export it again: embedfleet export '{files.root}'" in one for one in problems), problems
    return {Path(one.partition(": ")[0]).name for one in problems}


@pytest.fixture
def files(run_files: Any, tmp_path: Path) -> Any:
    """A run of a dense and a sparse model, exported."""
    files = run_files.RunFiles(tmp_path / "my run", sizes=(3, 4), index="none").write()
    export(files, "jsonl", "metadata", quantization="scalar")
    assert stale(files) == set()
    return files


def test_a_model_that_comes_later_makes_the_exports_old(files: Any, run_files: Any) -> None:
    more = run_files.RunFiles(files.root, sizes=(3, 4), index="none", multivector=True)
    more.layout.spec.write_bytes(msgspec.json.encode(more.spec))
    more.layout.vector_folder(run_files.MULTI).mkdir()
    about = {"fingerprint": run_files.FINGERPRINT, "dim": 4, "output_dim": 4}
    more.layout.pass_file(run_files.MULTI).write_text(json.dumps(about))
    assert stale(more) == set(), "what is missing is told of the vectors, and is not computed yet"
    for segment in range(2):
        more.vector_segment(run_files.MULTI, segment, more.multi_table(segment))
    more.write_manifest()
    assert stale(more) == {"collection.json", "metadata.jsonl", "points.jsonl"}
    assert export(more, "npy") == {"collection.json", "dense-fake.npy"}
    assert {path.name for path in more.layout.export.iterdir()} == {"collection.json", "dense-fake.npy", "export.json"}
    collection = json.loads(more.layout.collection.read_bytes())["create"]
    assert run_files.MULTI in collection["vectors"]
    assert "scalar" in collection["quantization_config"], "as the earlier export said"
    assert stale(more) == set()


def test_the_table_is_replaced_as_a_whole(files: Any, run_files: Any) -> None:
    folder = files.layout.table
    assert "table/00000.parquet" in export(files, "parquet")
    assert [path.name for path in folder.iterdir()] == ["00000.parquet"]
    (folder / "00000.parquet").write_bytes(b"damaged")
    assert any("table/00000.parquet: has 7 bytes" in one for one in verify_run(files.root).problems)
    export(files, "parquet")
    assert stale(files) == set()
    files.vector_segment(run_files.DENSE, 1, files.dense_table(1), digest="0" * 64)
    assert "00000.parquet" in stale(files)
    export(files, "npy")
    assert not folder.exists(), "it was made of other vectors"
    assert not any(path.name.startswith(".table") for path in files.layout.export.iterdir())


def test_the_folder_of_the_table_holds_nothing_else(files: Any, tmp_path: Path) -> None:
    folder = files.layout.table
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(RunDirectoryError, match=r"table/notes\.txt would be written over"):
        export(files, "parquet")
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]
    (folder / "notes.txt").unlink()
    folder.rmdir()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    folder.symlink_to(elsewhere)
    with pytest.raises(RunDirectoryError, match=r": table would be written over"):
        export(files, "parquet")
    assert list(elsewhere.iterdir()) == []
    folder.unlink()
    export(files, "parquet")


def test_so_do_vectors_that_are_computed_again(files: Any, run_files: Any) -> None:
    files.vector_segment(run_files.DENSE, 1, files.dense_table(1), digest="0" * 64)
    assert "points.jsonl" in stale(files)
    assert export(files, "upload-script") == {"collection.json", "points.jsonl", "upload_to_qdrant.py"}
    assert stale(files) == set()


@pytest.mark.parametrize(
    "name", ["points.jsonl", "dense-fake.npy", "collection.json", "stats.json", "upload_to_qdrant.py"]
)
def test_what_no_export_wrote_is_not_written_over(run_files: Any, tmp_path: Path, name: str) -> None:
    files = run_files.RunFiles(tmp_path / "run", sizes=(3, 4), index="none").write()
    mine = files.layout.export / name
    mine.parent.mkdir()
    mine.write_text("mine")
    with pytest.raises(
        RunDirectoryError, match=f"{name} would be written over, .*; move it away, and run the same command"
    ):
        export(files)
    assert [path.read_text() for path in files.layout.export.iterdir()] == ["mine"]
    mine.rename(tmp_path / "elsewhere")
    assert name in export(files) | {"stats.json"}
    export(files)  # over what it wrote itself


def test_an_export_that_was_killed_knows_what_it_was_about_to_write(files: Any) -> None:
    """The file has its name before the record says what is in it."""
    record = json.loads(files.layout.export_record.read_bytes())
    record["files"] = [one for one in record["files"] if one["name"] != "points.jsonl"]
    files.layout.export_record.write_text(json.dumps(record))
    assert "points.jsonl" in export(files, "jsonl")


def test_one_of_an_earlier_version_has_the_names_of_its_files(files: Any) -> None:
    record = json.loads(files.layout.export_record.read_bytes())
    del record["ours"]
    files.layout.export_record.write_text(json.dumps(record))
    export(files, "jsonl")
    (files.layout.export / "dense-fake.npy").write_text("mine")
    with pytest.raises(RunDirectoryError, match=r"dense-fake\.npy would be written over"):
        export(files)


def test_a_damaged_record_says_nothing_of_whose_the_files_are(files: Any) -> None:
    files.layout.export_record.write_text("{")
    with pytest.raises(
        RunDirectoryError, match=r"export\.json: not a record of files .*; move it away, and those of them"
    ):
        export(files)


def test_an_empty_corpus_tells_models_apart(tmp_path: Path) -> None:
    layout = RunLayout(tmp_path)
    assert run_digest(layout, ["dense-a"], ()) != run_digest(layout, ["dense-a", "dense-b"], ())
