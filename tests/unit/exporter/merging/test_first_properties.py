"""`--on-duplicate first` on made-up sources: the run that one command over the whole source makes."""

from __future__ import annotations

import tempfile
from pathlib import Path

import orjson
from embedfleet.client.run_directory.reader import open_run
from embedfleet.client.verify.recount import verify_run
from embedfleet.exporter.merging.merge import merge_shards
from embedfleet.protocol.run_directory.layout import RunLayout
from embedfleet.protocol.run_directory.records.manifest import read_manifest
from embedfleet.protocol.spec.run_spec import RunSpec
from hypothesis import given, settings
from hypothesis import strategies as st

from ....shard_runs import DENSE, SPARSE, embed, make_shards, put

RECORDS = st.dictionaries(
    st.sampled_from("abcdefgh"), st.sampled_from(["", "one", "two", "three unusable"]), min_size=1
)
"""The records of a file, each id once: what a shard does about ids of its own, it keeps."""


def outcome(root: Path) -> tuple[object, ...]:
    run, manifest = open_run(root), read_manifest(RunLayout(root))
    assert manifest is not None
    quarantine = [orjson.loads(line) for line in (root / "quarantine.jsonl").read_bytes().splitlines()]
    return run.chunks.to_pylist(), run.vectors().tobytes(), quarantine, manifest.counts


@settings(max_examples=15)
@given(files=st.lists(RECORDS, min_size=2, max_size=4))
def test_it_is_the_run_of_the_whole_source(files: list[dict[str, str]]) -> None:
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        (folder / "files").mkdir()
        for number, records in enumerate(files):
            lines = [{"id": id_, "text": text} for id_, text in records.items()]
            put(folder / "files" / f"{number}.jsonl", [{"id": f"own{number}", "text": "one"}, *lines])
        spec = RunSpec(source=str(folder / "files"), passes=(DENSE, SPARSE), index="none")
        make_shards(spec, folder / "run", len(files))
        merge_shards(RunLayout(folder / "run"), "first", lambda _step, _done, _of: None)
        assert verify_run(folder / "run").problems == []
        assert outcome(folder / "run") == outcome(embed(spec, folder / "whole"))
