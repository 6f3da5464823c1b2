"""What cannot be merged is named before anything is written, each shard with the command that completes it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as pq
import pytest
from embedfleet.exporter.merging.all_shards import shards_of
from embedfleet.exporter.merging.merge import merge_shards
from embedfleet.protocol.errors import RunDirectoryError
from embedfleet.protocol.run_directory.directory_lock import STORE_LOCK
from embedfleet.protocol.run_directory.layout import RunLayout
from embedfleet.protocol.run_directory.records.shards import read_shards
from embedfleet.protocol.spec.run_spec import RunSpec

from ....run_copies import copied
from ....shard_runs import DENSE, MULTI, SPARSE, make_shards, write_files


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    corpus = write_files(folder / "files", 8, 5)
    make_shards(RunSpec(source=str(corpus), passes=(DENSE, SPARSE), index="none"), folder / "run", 8)
    return folder / "run"


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    return copied(made, tmp_path / "run")


def refusal(root: Path) -> str:
    """The message; nothing was written but for what was there."""
    with pytest.raises(RunDirectoryError) as caught:
        merge_shards(RunLayout(root), "fail", lambda _step, _done, _of: None)
    assert not (root / "manifest.json").exists()
    assert not (root / "merge.json").exists()
    assert not (root / "chunks").exists()
    return str(caught.value)


def command(root: Path, index: int) -> str:
    record = read_shards(RunLayout(root))
    assert record is not None
    return f"embedfleet run {record.spec.source} --out {root} --shard {index}/8"


def test_shards_that_are_missing_or_unfinished(root: Path) -> None:
    shutil.rmtree(root / "shards" / "00002")
    (root / "shards" / "00005" / "manifest.json").unlink()
    message = refusal(root)
    assert "2 of 8 shards cannot be merged" in message
    assert f"shard 2 was not begun ({command(root, 2)})" in message
    assert f"shard 5 was not finished ({command(root, 5)})" in message
    assert f"then `embedfleet merge {root}`" in message


def test_of_many_the_first_are_named(root: Path) -> None:
    for index in range(7):
        shutil.rmtree(root / "shards" / f"{index:05d}")
    message = refusal(root)
    assert "7 of 8 shards" in message
    assert message.count("--shard") == 5
    assert "and 2 more (5-6)" in message


def test_no_shards_at_all(root: Path) -> None:
    (root / "shards.json").unlink()
    assert "is not made of shards" in refusal(root)


def test_a_shard_that_runs_is_waited_for(root: Path) -> None:
    (root / "shards" / "00002" / "manifest.json").unlink()
    (root / "shards" / "00002" / STORE_LOCK).write_bytes(b"{}")
    assert f"shard 2 is running now. Wait for them, then `embedfleet merge {root}`" in refusal(root)
    shutil.rmtree(root / "shards" / "00005")
    message = refusal(root)
    assert "shard 2 is running now; shard 5 was not begun (embedfleet" in message


def test_a_shard_without_a_model_that_was_added_keeps_its_vectors(root: Path) -> None:
    record = read_shards(RunLayout(root))
    assert record is not None
    spec = msgspec.structs.replace(record.spec, passes=(*record.spec.passes, MULTI))
    (root / "shards.json").write_bytes(msgspec.json.encode(msgspec.structs.replace(record, spec=spec)))
    message = refusal(root)
    assert (
        f"shard 0 lacks multivector-fake, which another shard has: run it with all models ({command(root, 0)});"
        in message
    )
    assert "--restart" not in message


def test_a_fit_alone(tmp_path: Path) -> None:
    (tmp_path / "fit.json").write_text("{}")
    with pytest.raises(RunDirectoryError, match="no shard has begun; run them next"):
        shards_of(RunLayout(tmp_path))


def _other_index(shard: RunLayout) -> None:
    spec = json.loads(shard.spec.read_bytes())
    spec["shard"]["index"] = 1
    shard.spec.write_text(json.dumps(spec))


def _other_spec(shard: RunLayout) -> None:
    spec = json.loads(shard.spec.read_bytes())
    spec["title_field"] = "headline"
    shard.spec.write_text(json.dumps(spec))


def _other_model(shard: RunLayout) -> None:
    about = json.loads(shard.pass_file(DENSE.vector).read_bytes())
    shard.pass_file(DENSE.vector).write_text(json.dumps({**about, "weights": "ff", "fingerprint": "abc"}))
    for path in shard.vector_folder(DENSE.vector).glob("*.parquet"):
        from embedfleet.protocol.run_directory.segment_info import VectorSegmentInfo
        from embedfleet.protocol.run_directory.tables import read_info, with_info

        info = msgspec.structs.replace(read_info(path, VectorSegmentInfo), fingerprint="abc")
        pq.write_table(with_info(pq.read_table(path), info), path)


def _other_source(shard: RunLayout) -> None:
    stamps = json.loads(shard.source.read_bytes())
    stamps[0]["size"] += 1
    shard.source.write_text(json.dumps(stamps))


def _unknown_file(shard: RunLayout) -> None:
    shard.source.write_text(shard.source.read_text().replace("03.jsonl", "new.jsonl"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_other_index, "shard 3 is shard 1/8 by its spec.json, not 3/8"),
        (_other_spec, "shard 3 is of another spec: title_field: None → 'headline'"),
        (_other_model, "shard 3 has another model for dense-fake-8 than shard 0: weights: '' → 'ff'"),
        (_other_source, "shard 3 read 03.jsonl with "),
        (_unknown_file, "shard 3 read new.jsonl, which the source did not have"),
    ],
)
def test_shards_that_do_not_belong_together(root: Path, change: Callable[[RunLayout], None], words: str) -> None:
    change(RunLayout(root).shard(3))
    message = refusal(root)
    assert words in message
    assert f"{command(root, 3)} --restart" in message


def _torn(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


DAMAGE: dict[str, Callable[[RunLayout], Any]] = {
    "chunks": lambda shard: _torn(shard.chunk_segment(0)),
    "vectors": lambda shard: _torn(shard.vector_segment(SPARSE.vector, 1)),
    "lost": lambda shard: shard.vector_segment(DENSE.vector, 0).unlink(),
    "counts": lambda shard: shard.intake.unlink(),
    "damaged counts": lambda shard: shard.intake.write_text("{"),
    "source": lambda shard: shard.source.unlink(),
    "pass": lambda shard: shard.pass_file(DENSE.vector).unlink(),
    "spec": lambda shard: shard.spec.write_text("{}"),
    "swapped": lambda shard: shutil.copy(shard.chunk_segment(1), shard.chunk_segment(0)),
    "swapped vectors": lambda shard: shutil.copy(
        shard.vector_segment(DENSE.vector, 1), shard.vector_segment(DENSE.vector, 0)
    ),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_damage_that_a_footer_or_a_record_shows(root: Path, what: str) -> None:
    DAMAGE[what](RunLayout(root).shard(6))
    message = refusal(root)
    assert "1 of 8 shards cannot be merged: shard 6 " in message
    assert command(root, 6) in message


def test_a_changed_byte_is_found_when_it_is_copied(root: Path) -> None:
    """In the ids before anything is written; elsewhere, nothing that could be taken for a run is left."""
    layout = RunLayout(root)
    for index in (1, 4):
        path = layout.shard(index).vector_segment(DENSE.vector, 0)
        column = pq.read_metadata(path).row_group(0).column(2)
        data = bytearray(path.read_bytes())
        data[column.data_page_offset + column.total_compressed_size - 1] ^= 0x10
        path.write_bytes(data)
    with pytest.raises(RunDirectoryError, match="2 of 8 shards cannot be merged: shard 1 is damaged") as caught:
        merge_shards(layout, "fail", lambda _step, _done, _of: None)
    assert f"shard 4 is damaged: {layout.shard(4).vector_segment(DENSE.vector, 0)}" in str(caught.value)
    assert not layout.manifest.exists()
    assert not layout.spec.exists()


def test_a_changed_id_is_found_before_anything_is_written(root: Path) -> None:
    path = RunLayout(root).shard(1).chunk_segment(0)
    column = pq.read_metadata(path).row_group(0).column(1)
    data = bytearray(path.read_bytes())
    data[column.data_page_offset + column.total_compressed_size - 1] ^= 0x10
    path.write_bytes(data)
    assert "shard 1 is damaged" in refusal(root)
