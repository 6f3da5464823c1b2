"""What the shards of a directory agree on, written by the first of them."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest
from embedfleet.client.shards import agreement
from embedfleet.client.shards.agreement import agree, shard_spec
from embedfleet.protocol.errors import RunDirectoryError, SourceError, SpecMismatch
from embedfleet.protocol.finished_run.shard_states import is_done
from embedfleet.protocol.object_storage.objects import StoredObject
from embedfleet.protocol.object_storage.spool import SpoolRecord
from embedfleet.protocol.run_directory.layout import RunLayout
from embedfleet.protocol.run_directory.records.shards import ShardsRecord, read_shards
from embedfleet.protocol.source.corpus import Corpus
from embedfleet.protocol.source.source_file import SourceFile
from embedfleet.protocol.spec.run_spec import PassSpec, RunSpec
from embedfleet.protocol.spec.shard import Shard

DENSE = PassSpec(vector="dense-fake-8", kind="dense", model="fake:8")
MORE = PassSpec(vector="dense-fake-4", kind="dense", model="fake:4")


@pytest.fixture
def layout(tmp_path: Path) -> RunLayout:
    (tmp_path / "c.jsonl").write_text(json.dumps({"text": "one"}) + "\n")
    return RunLayout(tmp_path / "run")


def spec_of(layout: RunLayout, *passes: PassSpec, **fields: Any) -> RunSpec:
    return RunSpec(source=str(layout.root.parent / "c.jsonl"), passes=passes or (DENSE,), **fields)


def begin(layout: RunLayout, index: int = 0) -> None:
    """As if a shard had begun: from then on the record stands."""
    shard = layout.shard(index)
    shard.root.mkdir(parents=True, exist_ok=True)
    shard.spec.write_bytes(b"{}")


def test_the_first_shard_writes_and_the_others_find_it(layout: RunLayout) -> None:
    spec = spec_of(layout)
    record = agree(layout, spec, 4)
    assert read_shards(layout) == record == agree(layout, spec, 4)
    assert (record.shards, record.spec) == (4, spec)
    assert [one.path for one in record.files] == ["c.jsonl"]
    assert shard_spec(record, 3) == msgspec.structs.replace(spec, shard=Shard(3, 4), index="none")
    assert not is_done(layout, record, 3)


def test_many_shards_that_begin_at_once_agree(layout: RunLayout) -> None:
    found, spec, barrier = list[ShardsRecord](), spec_of(layout), threading.Barrier(8)

    def begin() -> None:
        barrier.wait()
        found.append(agree(layout, spec, 8))

    threads = [threading.Thread(target=begin) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [found[0]] * 8
    assert {path.name for path in layout.root.iterdir()} == {"shards.json"}


def test_a_shard_that_comes_second_compares_itself(layout: RunLayout, monkeypatch: pytest.MonkeyPatch) -> None:
    """It saw no record, and another one has written it since."""
    spec = spec_of(layout)
    agree(layout, spec, 4)
    begin(layout)
    seen = iter([None])
    monkeypatch.setattr(agreement, "read_shards", lambda one: next(seen, None) or read_shards(one))
    with pytest.raises(SpecMismatch, match="holds 4 shards and not 5"):
        agree(layout, spec, 5)


@pytest.mark.parametrize("name", ["notes.txt", "chunks"])
def test_a_folder_of_something_else_is_left_alone(layout: RunLayout, name: str) -> None:
    (layout.root / name).mkdir(parents=True)
    with pytest.raises(RunDirectoryError, match="is not empty and holds no shards"):
        agree(layout, spec_of(layout), 2)


def test_a_run_of_the_whole_source_is_left_alone(layout: RunLayout) -> None:
    layout.root.mkdir()
    layout.spec.write_bytes(b"{}")
    with pytest.raises(RunDirectoryError, match="holds a run of the whole source"):
        agree(layout, spec_of(layout), 2)


def test_another_spec_is_refused_by_its_fields(layout: RunLayout) -> None:
    agree(layout, spec_of(layout), 2)
    begin(layout)
    with pytest.raises(SpecMismatch, match="shards of another spec: text_field"):
        agree(layout, spec_of(layout, text_field="body"), 2)


def test_models_may_be_added(layout: RunLayout) -> None:
    agree(layout, spec_of(layout), 2)
    begin(layout)
    more = agree(layout, spec_of(layout, DENSE, MORE), 2)
    assert read_shards(layout) == more
    assert [one.vector for one in more.spec.passes] == ["dense-fake-8", "dense-fake-4"]
    with pytest.raises(SpecMismatch, match="dense-fake-8 is gone"):
        agree(layout, spec_of(layout, MORE), 2)


def test_other_files_are_refused(layout: RunLayout) -> None:
    spec = spec_of(layout)
    agree(layout, spec, 2)
    begin(layout, 1)
    Path(spec.source).write_text(json.dumps({"text": "another one"}) + "\n")
    with pytest.raises(SourceError, match=r"the source changed since the first of its shards began: c\.jsonl had"):
        agree(layout, spec, 2)


def test_a_wrong_first_command_does_not_keep_the_folder(layout: RunLayout) -> None:
    """Its model was refused, so that no shard has begun."""
    agree(layout, spec_of(layout, msgspec.structs.replace(DENSE, model="fak:8")), 3)
    Path(spec_of(layout).source).write_text(json.dumps({"text": "another one"}) + "\n")
    record = agree(layout, spec_of(layout), 2)
    assert (read_shards(layout), record.shards, record.spec) == (record, 2, spec_of(layout))
    begin(layout)
    with pytest.raises(SpecMismatch, match="holds 2 shards and not 3"):
        agree(layout, spec_of(layout), 3)


def test_a_shard_that_begins_anew_may_begin_otherwise_while_it_is_alone(layout: RunLayout) -> None:
    agree(layout, spec_of(layout, MORE), 3)
    begin(layout, 1)
    alone = (
        r"flags to all of them\. To begin anew with these: run shard 1, which alone stands in the way, with --restart"
    )
    with pytest.raises(SpecMismatch, match=alone):
        agree(layout, spec_of(layout), 3)
    with pytest.raises(SpecMismatch, match=alone):
        agree(layout, spec_of(layout), 3, restarted=[2])
    record = agree(layout, spec_of(layout), 2, restarted=[1])
    assert (read_shards(layout), record.shards, record.spec) == (record, 2, spec_of(layout))
    begin(layout, 0)
    with pytest.raises(SpecMismatch, match="run shard 0, which alone"):
        agree(layout, spec_of(layout, MORE), 2, restarted=[1])
    many = r"shards 0-1 have begun; run all with --shards N --restart, or delete \S+/run/shards and \S+/shards\.json yourself"
    with pytest.raises(SpecMismatch, match=many):
        agree(layout, spec_of(layout, MORE), 2)
    Path(spec_of(layout).source).write_text(json.dumps({"text": "another one"}) + "\n")
    with pytest.raises(SourceError, match=r"put it back as it was\. To begin anew with these: run shard 0"):
        agree(layout, spec_of(layout), 2, restarted=[1])
    assert agree(layout, spec_of(layout, MORE), 2, restarted=range(2)).spec == spec_of(layout, MORE)


def test_the_prompts_of_queries_may_change_and_stay_if_none_is_given(layout: RunLayout) -> None:
    prompted = spec_of(layout, msgspec.structs.replace(DENSE, query_prompt="q: "))
    agree(layout, spec_of(layout), 2)
    begin(layout)
    assert agree(layout, prompted, 2).spec == prompted
    assert agree(layout, spec_of(layout), 2).spec == prompted
    found = agree(layout, spec_of(layout, DENSE, MORE), 2).spec
    assert found.query_prompts == {"dense-fake-8": "q: ", "dense-fake-4": None}


@pytest.mark.parametrize("begun", [False, True])
def test_in_a_spool_the_store_knows_which_shards_have_begun(
    layout: RunLayout, monkeypatch: pytest.MonkeyPatch, *, begun: bool
) -> None:
    agree(layout, spec_of(layout), 3)
    spool = SpoolRecord(address="s3://bucket/run", folder=layout.root.name)
    (layout.root.parent / "spool.json").write_bytes(msgspec.json.encode(spool))
    begin(layout, 1)  # here alone: it was never put
    stored = ["shards/00002/intake/limits.json", "shards/00002/queries/spec.json", *["shards/00002/spec.json"] * begun]
    monkeypatch.setattr(agreement, "ObjectFolder", lambda _address: _Listed(stored))
    if not begun:
        assert agree(layout, spec_of(layout, MORE), 2).shards == 2
        return
    with pytest.raises(
        SpecMismatch,
        match=r"holds 3 shards and not 2; give the same number\. To begin anew with these: delete \S+/run/shards ",
    ):
        agree(layout, spec_of(layout, MORE), 2)
    assert agree(layout, spec_of(layout, MORE), 3, restarted=[2]).spec == spec_of(layout, MORE)


class _Listed:
    def __init__(self, names: list[str]) -> None:
        self._names = names

    def list(self, part: str) -> list[StoredObject]:
        assert part == "shards"
        return [StoredObject(name, 1) for name in self._names]


def test_many_shards_add_a_model_at_once(layout: RunLayout) -> None:
    agree(layout, spec_of(layout), 8)
    begin(layout)
    found, barrier = list[ShardsRecord](), threading.Barrier(8)

    def add() -> None:
        barrier.wait()
        found.append(agree(layout, spec_of(layout, DENSE, MORE), 8))

    threads = [threading.Thread(target=add) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [read_shards(layout)] * 8


def test_other_content_of_the_same_size_is_refused(layout: RunLayout, monkeypatch: pytest.MonkeyPatch) -> None:
    """By what the store says of it, as far as it says something."""
    spec = spec_of(layout)

    def stored(e_tag: str) -> None:
        file = SourceFile(None, "c.jsonl", "jsonl", size=9, url="s3://bucket/c.jsonl", e_tag=e_tag)
        monkeypatch.setattr(agreement, "survey", lambda *_: Corpus([file]))

    stored("one")
    record = agree(layout, spec, 2)
    begin(layout)
    stored("")
    assert agree(layout, spec, 2) == record
    stored("two")
    with pytest.raises(SourceError, match=r"the source changed since .*: c\.jsonl has other content"):
        agree(layout, spec, 2)
