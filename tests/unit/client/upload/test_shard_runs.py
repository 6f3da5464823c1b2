from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from embedfleet.client.cli.upload_request import UploadRequest
from embedfleet.client.upload.collection_options import CollectionOptions
from embedfleet.client.upload.shards.shard_runs import OtherShards, ShardRuns, describe_shards
from embedfleet.protocol.errors import RunDirectoryError, UsageError
from embedfleet.protocol.run_directory.records.shards import ShardsRecord
from embedfleet.protocol.spec.shard import Shard


@pytest.fixture
def root(run_files: Any, tmp_path: Path) -> Path:
    """Two shards of five rows each."""
    for index in range(2):
        files = run_files.RunFiles(tmp_path / "shards" / f"{index:05d}", quarantined=(index,)).write()
        spec = msgspec.structs.replace(files.spec, shard=Shard(index, 2), index="none")
        files.layout.spec.write_bytes(msgspec.json.encode(spec))
        record = ShardsRecord(shards=2, spec=files.spec, files=())
    (tmp_path / "shards.json").write_bytes(msgspec.json.encode(record))
    return tmp_path


def test_the_points_of_a_shard_name_it(root: Path) -> None:
    runs = ShardRuns(root)
    run = runs.open(1)
    points = list(runs.points(run, 1))
    assert [(one.payload["shard"], one.payload["row"]) for one in points] == [(1, row) for row in range(5)]
    assert {one.payload["embedfleet"]["vectors"] for one in points} == runs.digests(1)
    assert runs.digests(0) != runs.digests(1)


def test_an_id_counts_as_another_shards_only_while_that_has_it(root: Path) -> None:
    runs = ShardRuns(root)
    point = next(runs.points(runs.open(1), 1))
    check = OtherShards(runs, 1).check
    theirs = {"shard": 0, "row": 3, "embedfleet": {"vectors": next(iter(runs.digests(0)))}}
    with pytest.raises(UsageError, match=r"the id 'c0' stands in two shards: 0/2, row 3 and 1/2, row 0"):
        check(point, theirs)
    others: list[dict[str, Any]] = [
        {},
        {"shard": 1, **{name: value for name, value in theirs.items() if name != "shard"}},
        {**theirs, "embedfleet": {"vectors": "of an earlier state"}},
        {**theirs, "embedfleet": "of another program"},
        {**theirs, "shard": 2},
        {**theirs, "shard": -1},
        {**theirs, "shard": "0"},
    ]
    for there in others:
        check(point, there)


def test_a_shard_of_another_host_has_no_digests(root: Path) -> None:
    (root / "shards" / "00000" / "vectors" / "dense-fake" / "00001.parquet").unlink()
    assert ShardRuns(root).digests(0) == frozenset()


def test_a_shard_without_a_model_that_was_added_since_is_not_done(root: Path, run_files: Any) -> None:
    runs = ShardRuns(root)
    more = run_files.RunFiles(root / "more", multivector=True).spec
    (root / "shards.json").write_bytes(msgspec.json.encode(msgspec.structs.replace(runs.record, spec=more)))
    with pytest.raises(
        RunDirectoryError, match=r"2 of 2 shards are not done; .*--shard 0/2`; `embedfleet run .*--shard 1/2`"
    ):
        ShardRuns(root).open_all()


def test_many_shards_are_named_in_few_words() -> None:
    left = [*range(4), 7, *range(10, 90), 99]
    assert describe_shards(left, str) == "0; 1; 2; 3; 7; and 81 more: 10-89, 99"
    assert describe_shards([5], str) == "5"


def request(**flags: Any) -> UploadRequest:
    plain: dict[str, Any] = {"root": Path("a run"), "url": "http://me:secret@host:6333", "collection": None}
    plain |= {"api_key_env": None, "grpc": True, "grpc_port": 6334, "streams": 4, "batch_points": 8, "max_request": 32}
    plain |= {"cut_payload": False, "quantization": None, "options": CollectionOptions(), "payload_index": ["n"]}
    plain |= {"replace": False, "prune": True, "green_seconds": 1.0, "as_json": True, "shard": None, "finish": True}
    return UploadRequest(**plain | flags)


def test_the_command_of_a_shard_has_what_it_needs_and_no_password() -> None:
    assert request().shard_command(Shard(3, 8)) == "embedfleet upload 'a run' --url http://host:6333 --shard 3/8"
    flags = {"collection": "docs", "api_key_env": "KEY", "grpc": False, "max_request": 8, "cut_payload": True}
    assert request(**flags, grpc_port=7).shard_command(Shard(3, 8)) == (
        "embedfleet upload 'a run' --url http://host:6333 --collection docs --api-key-env KEY --no-grpc --grpc-port 7 "
        "--max-request 8 --cut-payload --shard 3/8"
    )
