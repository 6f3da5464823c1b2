"""`embedfleet upload DIR --shard I/N` and `--finish` over real gRPC on loopback, to a server that keeps the messages as
they came.

Uploads that must be processes of their own are started by `start`; the others are made in this process, without pauses.
"""

from __future__ import annotations

import json
import re
import shlex
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from embedfleet.client.cli.app import app
from embedfleet.client.upload import retry, target
from embedfleet.protocol.errors import EmbedfleetError, RunDirectoryError, UsageError

pytest.importorskip("qdrant_client")
pytest.importorskip("tenacity")

from qdrant_client import grpc

from ..qdrant_server import faults
from ..qdrant_server.collection import DEFAULT_THRESHOLD, Collection
from ..qdrant_server.faults import silence
from ..qdrant_server.server import QdrantServer, serving
from ..run_copies import copied

MODELS = ("--dense", "fake:8,nan_on=poison", "--multivector", "fake:4", "--devices", "cpu")
ROWS, SHARDS, BATCH = 240, 4, 16
MARKS = {"shard": "Integer", "embedfleet.vectors": "Keyword"}

Upload = Callable[..., Any]


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(target, "POLL_SECONDS", 0)
    monkeypatch.setattr(retry, "FIRST_SECONDS", 0)


@pytest.fixture
def qdrant() -> Iterator[QdrantServer]:
    with serving() as store:
        yield store


@pytest.fixture(scope="module")
def command() -> Any:
    """`embedfleet`, as a function of its arguments."""
    return typer.main.get_command(app)


@pytest.fixture
def upload(command: Any, qdrant: QdrantServer, capsys: pytest.CaptureFixture[str]) -> Upload:
    """Runs `embedfleet upload` in this process; what it prints as JSON. An error is raised as it is."""

    def call(root: Path, *flags: str, code: int = 0) -> Any:
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            command(["upload", str(root), *where(qdrant), "--json", "--streams", "1", "--batch", str(BATCH), *flags])
        assert (end.value.code or 0) == code
        return json.loads(capsys.readouterr().out)

    return call


def where(qdrant: QdrantServer) -> tuple[str, ...]:
    return ("--url", "http://127.0.0.1", "--grpc-port", str(qdrant.port), "--collection", "docs")


def write(path: Path, records: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(one) + "\n" for one in records))
    return path


def run_shards(cli: Any, source: Path, out: Path, count: int, *flags: str, models: tuple[str, ...] = MODELS) -> Path:
    for index in range(count):
        words = ("run", source, "--out", out, *models, "--shard", f"{index}/{count}", *flags, "--json")
        cli(*words, code=3 if "poison" in source.read_text() and index == 1 else 0)
    return out


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    texts = ["poison" if row == 100 else f"text {row} of the corpus" for row in range(ROWS)]
    numbers: list[Any] = [row if row < ROWS // 2 else row + 0.5 for row in range(ROWS)]
    records = [{"id": f"c{row}", "text": text, "metadata": {"n": numbers[row]}} for row, text in enumerate(texts)]
    return write(tmp_path_factory.mktemp("source") / "corpus.jsonl", records)


@pytest.fixture(scope="module")
def shards(cli: Any, source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with all of its shards run; the record 100 is in quarantine, in shard 1."""
    return run_shards(cli, source, tmp_path_factory.mktemp("shards") / "run", SHARDS)


@pytest.fixture(scope="module")
def whole(cli: Any, source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One run of the same source."""
    out = tmp_path_factory.mktemp("whole") / "run"
    cli("run", source, "--out", out, *MODELS, "--index", "none", code=3)
    return out


def rows_by_shard(made: Collection) -> dict[int, list[int]]:
    """The rows of each shard in a collection, sorted."""
    found: dict[int, list[int]] = {}
    for payload, _ in made.rows().values():
        found.setdefault(payload["shard"], []).append(payload["row"])
    return {index: sorted(rows) for index, rows in sorted(found.items())}


def assert_one_run(made: Collection, whole: Collection) -> None:
    """The same points with the same vectors and payloads, apart from where the chunk lies and the digest of its segment."""
    ours, theirs = made.rows(), whole.rows()
    assert ours.keys() == theirs.keys()
    for key, (payload, vectors) in ours.items():
        assert vectors == theirs[key][1]
        assert {name: payload[name] for name in ("id", "text", "metadata")} == {
            name: theirs[key][0][name] for name in ("id", "text", "metadata")
        }
        assert payload.keys() == {"id", "row", "shard", "text", "metadata", "embedfleet"}
    assert made.config == whole.config
    assert made.indexes == whole.indexes


def finished(made: Collection) -> bool:
    return made.threshold == DEFAULT_THRESHOLD and not MARKS.keys() & made.indexes.keys()


def test_shards_that_are_uploaded_at_once_are_one_run(
    shards: Path, whole: Path, qdrant: QdrantServer, start: Any, upload: Upload
) -> None:
    words = [("upload", shards, *where(qdrant), "--shard", f"{index}/{SHARDS}") for index in range(SHARDS)]
    started = [start(*one, "--batch", "8", "--streams", "2") for one in words]
    for one in started:
        one.wait(0)
        assert "once all shards are uploaded, the same command with --finish in place of --shard" in one.err
    made = qdrant.collections["docs"]
    assert (len(made.points), made.threshold, made.indexes) == (ROWS, 0, MARKS)
    assert "Count" in {method for method, _ in qdrant.asked}
    done = upload(shards, "--finish", "--payload-index", "n")
    assert (done["points"], done["shards"], done["others"], done["left_out"]) == (ROWS, SHARDS, 0, [])
    assert done["payload_indexes"] == {"metadata.n": "float"}, "whole numbers in two shards, fractions in the others"
    assert finished(made)
    with serving() as other:
        flags = ("--grpc-port", str(other.port), "--payload-index", "n")
        assert upload(whole, *flags)["new"] == ROWS
        assert_one_run(made, other.collections["docs"])
    assert list(rows_by_shard(made)) == list(range(SHARDS))
    assert all(rows == list(range(len(rows))) for rows in rows_by_shard(made).values()), "rows begin at 0 in each"


def test_a_second_time_nothing_is_sent(shards: Path, qdrant: QdrantServer, upload: Upload) -> None:
    for index in range(SHARDS):
        upload(shards, "--shard", f"{index}/{SHARDS}")
    upload(shards, "--finish")
    made, sent = qdrant.collections["docs"], qdrant.times("Upsert")
    done = [upload(shards, "--shard", f"{index}/{SHARDS}") for index in range(SHARDS)]
    assert [one["new"] + one["replaced"] for one in done] == [0] * SHARDS
    assert (sum(one["present"] for one in done), qdrant.times("Upsert"), made.threshold) == (ROWS, sent, 0)
    assert [one["shard"] for one in done] == [f"{index}/{SHARDS}" for index in range(SHARDS)]
    for _ in range(2):
        assert upload(shards, "--finish")["points"] == ROWS
        assert finished(made)


def test_two_that_create_the_collection_at_once(shards: Path, qdrant: QdrantServer, upload: Upload) -> None:
    upload(shards, "--shard", f"2/{SHARDS}")

    def not_yet(_context: Any, _answer: Any) -> Any:
        return grpc.CollectionExistsResponse(result=grpc.CollectionExists(exists=False))

    qdrant.faults.plan("CollectionExists", not_yet)
    assert upload(shards, "--shard", f"3/{SHARDS}")["new"] > 0
    assert (qdrant.times("Create"), list(qdrant.collections)) == (2, ["docs"])


def command_in(message: str, shard: str) -> list[str]:
    """The arguments of the command that a message gives for a shard."""
    found = [one for one in re.findall(r"`embedfleet (.+?)`", message) if one.endswith(f"--shard {shard}")]
    assert len(found) == 1, message
    return shlex.split(found[0])


def test_a_shard_that_was_killed_is_named_and_completed(
    shards: Path, qdrant: QdrantServer, upload: Upload, start: Any, cli: Any, waiting: Any
) -> None:
    for index in (0, 3):
        upload(shards, "--shard", f"{index}/{SHARDS}")
    made = qdrant.collections["docs"]
    before = len(made.points)
    qdrant.faults.plan("Upsert", silence, spare=1)
    asked = qdrant.times("Upsert")
    words = ("upload", shards, *where(qdrant), "--shard", f"1/{SHARDS}", "--batch", str(BATCH), "--streams", "1")
    killed = start(*words)
    waiting.eventually(lambda: qdrant.times("Upsert") == asked + 2, seconds=60, what="the second request")
    killed.signal(signal.SIGKILL)
    killed.wait(-signal.SIGKILL)
    assert len(made.points) == before + BATCH
    with pytest.raises(EmbedfleetError) as caught:
        upload(shards, "--finish")
    message, rows = str(caught.value), {index: len(rows) for index, rows in rows_by_shard(made).items()}
    assert "docs: 2 of 4 shards are not there whole: " in message
    assert re.search(rf"1/4 has {BATCH} of \d+ points \(", message)
    assert "2/4 has 0 of " in message
    assert made.threshold == 0, "nothing is changed"
    for shard in ("1/4", "2/4"):
        cli(*command_in(message, shard))
    assert rows_by_shard(made)[0] == list(range(rows[0]))
    assert upload(shards, "--finish")["points"] == ROWS
    assert finished(made)


def test_points_of_an_earlier_state_are_not_those_of_the_shard(
    shards: Path, qdrant: QdrantServer, upload: Upload
) -> None:
    for index in range(SHARDS):
        upload(shards, "--shard", f"{index}/{SHARDS}")
    made = qdrant.collections["docs"]
    (old,) = [one for one in made.points.values() if one.payload["id"].string_value == "c3"]
    old.payload["embedfleet"].struct_value.fields["vectors"].string_value = "another"
    with pytest.raises(EmbedfleetError, match=r"1 of 4 shards are not there whole: 0/4 has \d+ of \d+ points"):
        upload(shards, "--finish")
    assert upload(shards, "--shard", "0/4")["replaced"] == 1
    upload(shards, "--finish")


def test_others_are_counted_and_pruned(shards: Path, qdrant: QdrantServer, upload: Upload) -> None:
    for index in range(SHARDS):
        upload(shards, "--shard", f"{index}/{SHARDS}")
    made = qdrant.collections["docs"]
    extra = next(iter(made.points.values()))
    for number, payload in ((7, {}), (8, extra.payload)):  # of another program, and of another run
        one = grpc.PointStruct(id=grpc.PointId(num=number), payload=payload)
        if payload:
            one.payload["embedfleet"].struct_value.fields["vectors"].string_value = "another"
        made.upsert([one])
    done = upload(shards, "--finish")
    assert (done["points"], done["others"], done["pruned"]) == (ROWS + 2, 1, 0)
    done = upload(shards, "--finish", "--prune", "--payload-index", "shard,row")
    assert (done["points"], done["others"], done["pruned"]) == (ROWS + 1, 0, 1)
    assert (made.indexes, made.threshold) == ({"shard": "Integer", "row": "Integer"}, DEFAULT_THRESHOLD)


@pytest.fixture(scope="module")
def few(cli: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two records in four shards, of which some have none; one record is larger than a mebibyte."""
    folder = tmp_path_factory.mktemp("few")
    records = [{"id": "small", "text": "a few words"}, {"id": "large", "text": "word " * 300_000}]
    source = write(folder / "corpus.jsonl", records)
    return run_shards(cli, source, folder / "run", 4, models=("--dense", "fake:8", "--devices", "cpu"))


def test_shards_without_chunks_and_chunks_that_are_too_large(few: Path, qdrant: QdrantServer, upload: Upload) -> None:
    rows = [json.loads((few / "shards" / f"{index:05d}" / "manifest.json").read_text()) for index in range(4)]
    held = [one["counts"]["committed"] for one in rows]
    assert sorted(held) in ([0, 0, 1, 1], [0, 0, 0, 2])
    for index, count in enumerate(held):
        if not count:
            assert upload(few, "--shard", f"{index}/4")["points"] == 0
    assert qdrant.collections == {}, "a shard without chunks cannot say which vectors there are"
    with pytest.raises(UsageError, match=r"--collection docs: is not there; upload the shards to it first"):
        upload(few, "--finish")
    small = ("--max-request", "1")
    for index, count in enumerate(held):
        if count:
            done = upload(few, "--shard", f"{index}/4", *small, code=3 if "large" in ids(few, index) else 0)
            assert done["left_out"] == (["large"] if "large" in ids(few, index) else [])
    with pytest.raises(EmbedfleetError, match="1 of 4 shards are not there whole"):
        upload(few, "--finish")
    done = upload(few, "--finish", *small, code=3)
    assert (done["points"], done["left_out"]) == (1, ["large"])
    index = next(index for index in range(4) if "large" in ids(few, index))
    assert upload(few, "--shard", f"{index}/4")["left_out"] == []
    assert upload(few, "--finish")["points"] == 2


def ids(out: Path, index: int) -> list[str]:
    from embedfleet import open_run

    return open_run(out / "shards" / f"{index:05d}").ids


def test_an_id_in_two_shards_is_named_with_both_places(
    cli: Any, tmp_path: Path, qdrant: QdrantServer, upload: Upload
) -> None:
    folder = tmp_path / "source"
    folder.mkdir()
    for name in ("a", "b"):
        write(folder / f"{name}.jsonl", [{"id": f"{name}{row}", "text": f"text {name} {row}"} for row in range(20)])
    path = folder / "b.jsonl"
    path.write_text(path.read_text().replace('"b7"', '"a3"'))
    out = tmp_path / "run"
    for index in range(2):
        cli("run", folder, "--out", out, "--dense", "fake:8", "--devices", "cpu", "--shard", f"{index}/2")
    upload(out, "--shard", "1/2")
    message = (
        r"the id 'a3' stands in two shards: 1/2, row 7 and 0/2, row 3\. `embedfleet merge .* --on-duplicate first`"
    )
    with pytest.raises(UsageError, match=message):
        upload(out, "--shard", "0/2")
    kept = {payload["id"]: payload["shard"] for payload, _ in qdrant.collections["docs"].rows().values()}
    assert kept["a3"] == 1, "not overwritten"
    with pytest.raises(EmbedfleetError, match=r"1 of 2 shards are not there whole: 0/2 has \d+ of 20 points"):
        upload(out, "--finish")


def test_a_collection_of_another_schema_is_left_alone(
    shards: Path, run_files: Any, tmp_path: Path, qdrant: QdrantServer, upload: Upload
) -> None:
    other = run_files.RunFiles(tmp_path / "other", sizes=(5,)).write()
    upload(other.root)
    asked = len(qdrant.asked)
    for flags in (("--shard", f"0/{SHARDS}"), ("--finish",)):
        with pytest.raises(
            UsageError, match=r"--collection docs: it differs from this run in vector dense-fake-8 .*missing"
        ):
            upload(shards, *flags)
    assert {method for method, _ in qdrant.asked[asked:]} == {"List", "CollectionExists", "Describe"}
    assert len(qdrant.collections["docs"].points) == 5


def test_shards_that_are_not_done_are_named_with_their_commands(
    shards: Path, source: Path, tmp_path: Path, qdrant: QdrantServer, upload: Upload
) -> None:
    out = copied(shards, tmp_path / "run")
    (out / "shards" / "00002" / "manifest.json").unlink()
    wanted = rf"run: 1 of 4 shards are not done; .*`embedfleet run {source} --out {out} --shard 2/4`"
    for flags in (("--shard", "2/4"), ("--finish",)):
        with pytest.raises(RunDirectoryError, match=wanted):
            upload(out, *flags)
    (out / "manifest.json").touch()
    with pytest.raises(RunDirectoryError, match=f"{wanted}; or, since the directory is merged, leave"):
        upload(out, "--finish")
    assert qdrant.asked == []


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--shard", "9/7"), r"--shard 9/7: shards are numbered from 0"),
        (("--shard", "1/8"), r"--shard 1/8: .* has 4 shards; give I/4, from 0/4 to 3/4"),
        (("--shard", "1/4", "--finish"), r"--shard and --finish: give one of them"),
        (("--shard", "1/4", "--prune"), r"--prune: .* with --finish"),
        (("--shard", "1/4", "--payload-index", "n"), r"--payload-index: .* with --finish"),
        (("--finish", "--replace"), r"--replace: --finish sends no points"),
        (("--finish", "--payload-index", "m"), r"--payload-index m: no chunk has a value of metadata.m; fields: n"),
        (
            (),
            r"its 4 shards are not merged\. `embedfleet merge .*` makes one run of them; or upload each with --shard I/4",
        ),
    ],
)
def test_flags_are_checked_before_a_server_is_asked(
    flags: tuple[str, ...], message: str, shards: Path, qdrant: QdrantServer, upload: Upload
) -> None:
    with pytest.raises(UsageError, match=message):
        upload(shards, *flags)
    assert qdrant.asked == []


def test_a_folder_of_one_shard_and_one_without_shards(
    shards: Path, whole: Path, qdrant: QdrantServer, upload: Upload
) -> None:
    with pytest.raises(UsageError, match=rf"is a shard; upload it by `embedfleet upload {shards} --shard 2/4`"):
        upload(shards / "shards" / "00002")
    for flags in (("--shard", "0/4"), ("--finish",)):
        with pytest.raises(RunDirectoryError, match=r"has no shards \(there is no shards.json\)"):
            upload(whole, *flags)
    assert qdrant.asked == []


def test_a_terminated_upload_leaves_indexing_off(
    shards: Path, qdrant: QdrantServer, start: Any, upload: Upload, waiting: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faults, "SECONDS", 3.0)  # the command waits for the request in flight
    qdrant.faults.plan("Upsert", silence, spare=1)
    words = ("upload", shards, *where(qdrant), "--shard", "1/4", "--batch", str(BATCH), "--streams", "1")
    stopped = start(*words)
    waiting.eventually(lambda: qdrant.times("Upsert") == 2, seconds=60, what="the second request")
    stopped.signal(signal.SIGTERM)
    stopped.wait(128 + signal.SIGTERM)
    assert "terminated; the same command sends what is missing" in stopped.err
    assert qdrant.collections["docs"].threshold == 0, "others still load their shards"
    assert upload(shards, "--shard", "1/4")["present"] == BATCH


def test_after_a_merge_the_points_have_the_rows_of_the_whole_source(
    cli: Any, shards: Path, tmp_path: Path, qdrant: QdrantServer, upload: Upload
) -> None:
    out = copied(shards, tmp_path / "run")
    for index in range(SHARDS):
        upload(out, "--shard", f"{index}/{SHARDS}")
    upload(out, "--finish")
    cli("merge", out, code=3)
    done = upload(out)
    assert (done["new"], done["replaced"], done["points"], done["others"]) == (0, ROWS, ROWS, 0)
    merged = {payload["id"]: payload for payload, _ in qdrant.collections["docs"].rows().values()}
    assert {chunk: payload["row"] for chunk, payload in merged.items()} == {f"c{row}": row for row in range(ROWS)}
    assert all("shard" not in payload for payload in merged.values())
    assert finished(qdrant.collections["docs"])
