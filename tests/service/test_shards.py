"""A source in shards by the command line: what all shards share, what is refused, and that their merge is one run."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from embedfleet import open_run
from embedfleet.protocol.run_directory.directory_lock import drop_lock, take_lock
from embedfleet.protocol.run_directory.layout import RunLayout
from embedfleet.protocol.run_directory.run_json import read_spec

MODELS = ("--dense", "fake:8", "--sparse", "bm25", "--multivector", "fake:4", "--devices", "cpu")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of several formats: lines without ids, damaged ones, Parquet of several row groups, an array."""
    root = tmp_path_factory.mktemp("source")
    texts = [f"row {row} of the lines with {'many ' * (row % 7)}words" for row in range(900)]
    lines = [json.dumps({"text": text, "lang": "de" if row % 3 else "en"}) for row, text in enumerate(texts)]
    lines[100] = '{"text": '
    lines[500] = '{"text": null, "id": "nothing"}'
    (root / "a.jsonl").write_text("\n".join(lines) + "\n")
    table = pa.table(
        {"id": [f"p{row}" for row in range(400)], "text": [f"a row {row} of the table" for row in range(400)]}
    )
    pq.write_table(table, root / "b.parquet", row_group_size=50)
    (root / "c.json").write_text(json.dumps([{"id": f"j{row}", "text": f"element {row}"} for row in range(60)]))
    return root


@pytest.fixture(scope="module")
def whole(cli: Any, source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One run of all of it."""
    out = tmp_path_factory.mktemp("whole") / "run"
    cli("run", source, "--out", out, *MODELS, code=3)
    return out


def hits(cli: Any, out: Path, words: str) -> list[tuple[str, float]]:
    found = cli("search", out, words, "--json").json
    return [(one["id"], round(one["score"], 5)) for one in found]


def assert_equal(one: Path, other: Path) -> None:
    ours, theirs = open_run(one), open_run(other)
    assert ours.ids == theirs.ids
    assert ours.chunks.equals(theirs.chunks)
    assert ours.vector_names == theirs.vector_names
    for name in ours.vector_names:
        left, right = ours.vectors(name), theirs.vectors(name)
        if isinstance(left, np.ndarray):
            np.testing.assert_array_equal(left, right)
        else:
            fields = [field for field in ("indptr", "indices", "values") if hasattr(left, field)]
            for field in fields or ("indptr", "vectors"):
                np.testing.assert_array_equal(getattr(left, field), getattr(right, field))
    quarantines = [(one / "quarantine.jsonl").read_text(), (other / "quarantine.jsonl").read_text()]
    assert quarantines[0] == quarantines[1]


@pytest.mark.parametrize("count", [1, 3, 16])
def test_shards_in_turn_are_one_run(cli: Any, source: Path, whole: Path, tmp_path: Path, count: int) -> None:
    out = tmp_path / "run"
    done = cli("run", source, "--out", out, *MODELS, "--shards", str(count), "--json", code=3)
    assert done.json["status"] == "done"
    assert {path.name for path in (out / "shards").iterdir()} == {".lock", *(f"{index:05}" for index in range(count))}
    assert_equal(out, whole)
    assert cli("verify", out, "--json").json["problems"] == []
    for words in ("row words", "element 7", "table"):
        assert hits(cli, out, words) == hits(cli, whole, words)


def test_workers_stay_from_shard_to_shard(cli: Any, source: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    cli("run", source, "--out", out, *MODELS, "--shards", "4", code=3)
    leases: list[list[tuple[str, str]]] = []
    for folder in sorted((out / "shards").glob("0*")):
        lines = map(json.loads, (folder / "events.jsonl").read_text().splitlines())
        found = [(one["vector"], one["phase"]) for one in lines if one["event"] == "lease"]
        leases.append([one for one in found if one[1] in ("before", "kept")])
    assert not any(phase == "kept" for _, phase in leases[0])
    assert all(any(phase == "kept" for _, phase in shard) for shard in leases[1:])


def test_each_shard_by_itself_in_any_order(cli: Any, source: Path, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    refused = cli("run", source, "--out", out, *MODELS, "--shard", "0/3", code=2).error
    assert "embedfleet fit" in refused
    assert not out.exists()
    cli("fit", source, "--out", out, *MODELS)
    for index in (2, 0, 1):
        # The damaged records are in the first two parts.
        done = cli("run", source, "--out", out, *MODELS, "--shard", f"{index}/3", code=0 if index == 2 else 3)
        assert "embedfleet merge" in done.err
    cli("merge", out, code=3)
    assert_equal(out, whole)


def test_interrupted_shards_go_on(start: Any, cli: Any, waiting: Any, many: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = ("run", many, "--out", out, "--dense", "fake:8,delay_ms=300", "--index", "none", "--devices", "cpu")
    command = start(*words, "--shards", "4")
    waiting.eventually((out / "shards" / "00000" / "manifest.json").exists, 60.0, "the first shard")
    command.signal(signal.SIGINT)
    command.wait(130)
    assert "resumes in" in command.err
    first = (out / "shards" / "00000" / "manifest.json").stat().st_mtime_ns
    again = cli(*words, "--shards", "4")
    assert "done before" in again.err
    assert (out / "shards" / "00000" / "manifest.json").stat().st_mtime_ns == first
    assert open_run(out).rows == 40_000


def test_a_killed_command_goes_on(start: Any, cli: Any, waiting: Any, many: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = ("run", many, "--out", out, "--dense", "fake:8,delay_ms=300", "--index", "none", "--devices", "cpu")
    command = start(*words, "--shards", "4")
    waiting.eventually((out / "shards" / "00001" / "vectors" / "dense-fake-8" / "00000.parquet").exists, 60.0, "work")
    command.look()
    command.process.kill()
    command.all_gone(20.0)
    cli(*words, "--shards", "4")
    assert open_run(out).rows == 40_000
    assert open_run(out).ids == [f"c{row}" for row in range(40_000)]


FAKE = ("--dense", "fake:8", "--devices", "cpu")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--shard", "9/7"), "give 0/7 to 6/7"),
        (("--shard", "x"), "as in 17/64"),
        (("--shards", "0"), "give 1 to 100,000 shards"),
        (("--shard", "0/2", "--shards", "2"), "give one of them"),
        (("--shards", "2", "--limit", "5"), "--limit: counts the chunks of a whole source"),
        (("--shard", "0/2", "--export", "npy"), "a shard is a part of it"),
    ],
)
def test_what_cannot_be_is_refused(cli: Any, source: Path, tmp_path: Path, flags: Sequence[str], message: str) -> None:
    assert message in cli("run", source, "--out", tmp_path / "run", *FAKE, *flags, code=2).error
    assert not (tmp_path / "run").exists()


def test_shards_that_disagree(cli: Any, tmp_path: Path, corpus_of: Callable[..., Path]) -> None:
    source = corpus_of(tmp_path / "c.jsonl", [f"text {row}" for row in range(50)])
    out = tmp_path / "run"
    run = ("run", source, "--out", out)
    cli(*run, *FAKE, "--shard", "0/2")
    assert "holds 2 shards and not 3" in cli(*run, *FAKE, "--shard", "0/3", code=2).error
    other = cli(*run, "--dense", "fake:8", "--max-tokens", "4", "--devices", "cpu", "--shard", "1/2", code=2).error
    assert "shards of another spec" in other
    assert "max_tokens" in other
    corpus_of(source, [f"text {row}" for row in range(51)])
    changed = cli(*run, *FAKE, "--shard", "1/2", code=2).error
    assert "the source changed since the first of its shards began" in changed
    assert not (out / "shards" / "00001").exists()
    whole = tmp_path / "whole"
    cli("run", source, "--out", whole, *FAKE)
    for command in (("run", "--shards", "2"), ("fit",)):
        words = (command[0], source, "--out", whole, *FAKE, "--sparse", "bm25", *command[1:])
        assert "holds a run of the whole source" in cli(*words, code=2).error
    assert not (whole / "fit.json").exists()


def test_an_id_in_two_shards_is_decided_once(cli: Any, tmp_path: Path) -> None:
    source, out = tmp_path / "c.jsonl", tmp_path / "run"
    source.write_text(
        "".join(json.dumps({"id": f"c{row % 40}", "text": f"text {row % 40}"}) + "\n" for row in range(50))
    )
    run = ("run", source, "--out", out, *FAKE, "--shards", "2")
    assert f"`embedfleet merge {out} --on-duplicate first` keeps the first record" in cli(*run, code=2).error
    cli("merge", out, "--on-duplicate", "first")
    again = cli(*run, "--json").json
    assert (again["chunks"], again["skipped_duplicates"]) == (40, 10)


def test_after_a_fit_the_next_step_is_named(cli: Any, source: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    cli("fit", source, "--out", out, *FAKE, "--sparse", "bm25", "--progress", "plain", "--verbose")
    for command in ("info", "merge", "verify"):
        assert f"run them next: `embedfleet run SOURCE --out {out} --shard I/N`" in cli(command, out, code=2).error


def test_int8_ranges_are_those_of_the_whole_source(cli: Any, source: Path, tmp_path: Path) -> None:
    flags = ("--dense", "fake:8", "--store", "int8", "--index", "none", "--devices", "cpu")
    assert "embedfleet fit" in cli("run", source, "--out", tmp_path / "one", *flags, "--shard", "0/3", code=2).error
    for count in (3, 7):
        cli("run", source, "--out", tmp_path / f"{count}", *flags, "--shards", str(count), code=3)
    assert_equal(tmp_path / "3", tmp_path / "7")
    cli("run", source, "--out", tmp_path / "whole", *flags, code=3)
    ours, theirs = (np.asarray(open_run(tmp_path / name).vectors()) for name in ("3", "whole"))
    lengths = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
    assert (np.einsum("ij,ij->i", ours, theirs) / lengths).min() > 0.9995
    assert cli("verify", tmp_path / "3", "--json").json["problems"] == []


def test_one_command_hands_out_the_shards(cli: Any, tmp_path: Path, corpus_of: Callable[..., Path]) -> None:
    """A shard of another node, and a merge, are not refused meanwhile."""
    source = corpus_of(tmp_path / "c.jsonl", [f"text {row}" for row in range(20)])
    layout = RunLayout(tmp_path / "run")
    run = ("run", source, "--out", layout.root, *FAKE)
    layout.shards.mkdir(parents=True)
    lock = take_lock(RunLayout(layout.shards), "here")
    try:
        error = cli(*run, "--shards", "1", code=2).error
        assert f"--out {layout.root}: another run is writing there (process {os.getpid()} on " in error
        assert not layout.shards_record.exists()
        cli(*run, "--shard", "0/1")
        cli("merge", layout.root)
    finally:
        drop_lock(lock)
    assert open_run(layout.root).rows == 20


def test_a_model_may_be_added_to_all_shards(cli: Any, tmp_path: Path, corpus_of: Callable[..., Path]) -> None:
    source = corpus_of(tmp_path / "c.jsonl", [f"text {row}" for row in range(60)])
    out = tmp_path / "run"
    run = ("run", source, "--out", out, "--shards", "3", "--devices", "cpu", "--dense", "fake:8")
    cli(*run)
    cli(*run, "--dense", "more=fake:4")
    cli(*run, "--dense", "more=fake:4", "--query-prompt", "q: ")
    assert set(read_spec(RunLayout(out)).query_prompts.values()) == {"q: "}
    found = open_run(out)
    assert found.vector_names == ("dense-fake-8", "dense-more")
    assert found.rows == 60
    assert cli("verify", out, "--json").json["problems"] == []
