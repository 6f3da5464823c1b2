"""`embedfleet run` and the commands that read its results, from the outside."""

from __future__ import annotations

import gzip
import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from embedfleet import open_run

KEYS = {"run", "chunks", "committed", "quarantined", "skipped_duplicates", "seconds", "passes"}
PASS_KEYS = {
    "vector",
    "model",
    "device",
    "chunks_per_second",
    "tokens_per_second",
    "padding",
    "rotation_gap_seconds",
}
TEXTS = [f"a text about number {row}" + " and more" * (row % 7) for row in range(200)] + ["the zebra of row 200"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory, corpus_of: Any) -> Path:
    return corpus_of(tmp_path_factory.mktemp("corpus") / "corpus.jsonl", TEXTS)


@pytest.fixture(scope="module")
def searchable(tmp_path_factory: pytest.TempPathFactory, cli: Any, corpus: Path) -> tuple[Path, Any]:
    """A run with a dense and a sparse pass and an index, and what it printed."""
    out = tmp_path_factory.mktemp("searchable") / "run"
    args = ("run", corpus, "--out", out, "--dense", "fake:48", "--sparse", "bm25", "--devices", "cpu", "--json")
    return out, cli(*args)


def run(source: Path | str, out: Path, *more: str) -> tuple[str, ...]:
    return ("run", str(source), "--out", str(out), "--devices", "cpu", "--index", "none", *more)


def test_json_lines_to_vectors(searchable: tuple[Path, Any], fake_vectors: Any) -> None:
    out, done = searchable
    printed = done.json
    assert printed.keys() >= KEYS
    assert all(one.keys() >= PASS_KEYS for one in printed["passes"])
    assert [one["vector"] for one in printed["passes"]] == ["dense-fake-48", "sparse-bm25"]
    assert (printed["chunks"], printed["committed"], printed["quarantined"]) == (201, 201, 0)
    assert "Traceback" not in done.err
    found = open_run(out)
    assert found.complete
    assert found.ids == [f"c{row}" for row in range(201)]
    np.testing.assert_array_equal(found.vectors("dense-fake-48"), fake_vectors(TEXTS, 48))
    assert found.chunks.column("text").to_pylist() == TEXTS
    assert found.manifest is not None
    assert found.manifest["index"]["points"] == 201


def test_verify_and_info(searchable: tuple[Path, Any], cli: Any) -> None:
    out, _ = searchable
    report = cli("verify", out, "--json").json
    assert report["ok"] is True
    assert (report["chunks"], report["points"], report["problems"]) == (201, 201, [])
    assert b"whole" in cli("verify", out).out
    described = cli("info", out, "--json").json
    assert described["status"] == "done"
    assert [(one["vector"], one["rows"], one["dim"]) for one in described["vectors"]] == [
        ("dense-fake-48", 201, 48),
        ("sparse-bm25", 201, None),
    ]
    assert b"dense-fake-48" in cli("info", out).out


def test_search_finds_the_exact_text(searchable: tuple[Path, Any], cli: Any) -> None:
    out, _ = searchable
    hits = cli("search", out, "the zebra of row 200", "--top-k", "3", "--json").json
    assert hits[0]["id"] == "c200"
    assert hits[0]["scores"]["dense-fake-48"] == pytest.approx(1.0, abs=1e-5)
    assert "sparse-bm25" in hits[0]["scores"]
    assert b"zebra" in cli("search", out, "zebra").out


def test_the_same_command_again_computes_nothing(searchable: tuple[Path, Any], cli: Any, corpus: Path) -> None:
    out, first = searchable
    segment = out / "vectors" / "dense-fake-48" / "00000.parquet"
    before = (segment.stat().st_ino, segment.stat().st_mtime_ns)
    args = ("run", corpus, "--out", out, "--dense", "fake:48", "--sparse", "bm25", "--devices", "cpu", "--json")
    again = cli(*args).json
    assert {name: again[name] for name in ("chunks", "committed", "quarantined")} == {
        name: first.json[name] for name in ("chunks", "committed", "quarantined")
    }
    assert (segment.stat().st_ino, segment.stat().st_mtime_ns) == before
    unknown = ("chunks_per_second", "tokens_per_second", "padding", "device")
    assert [one[key] for one in again["passes"] for key in unknown] == [None] * 8, "nothing was computed"
    assert open_run(out).manifest["index"]["points"] == 201
    assert cli("verify", out, "--json").json["ok"] is True


def test_what_cannot_be_embedded_is_in_quarantine(cli: Any, tmp_path: Path) -> None:
    source, out = tmp_path / "corpus.jsonl", tmp_path / "run"
    lines = [json.dumps({"id": f"c{row}", "text": f"text {row}"}) for row in range(20)]
    lines[3] = "this is no json"
    lines[5] = json.dumps({"id": "c5", "title": "no text at all"})
    lines[7] = json.dumps({"id": "c7", "text": "a poison text"})
    lines += [lines[0], json.dumps({"id": "c1", "text": "another text under a used id"})]
    source.write_text("\n".join(lines) + "\n")
    done = cli(*run(source, out, "--dense", "fake:16,nan_on=poison", "--json"), code=3).json
    assert (done["chunks"], done["committed"], done["quarantined"]) == (21, 17, 4)
    assert done["skipped_duplicates"] == 1
    assert done["chunks"] == done["committed"] + done["quarantined"]
    reasons = [json.loads(line) for line in (out / "quarantine.jsonl").read_text().splitlines()]
    by_record = {one["record"]: one["reason"] for one in reasons if "record" in one}
    assert "not JSON" in by_record[4]
    assert "no text" in by_record[6]
    assert "'c1' was already used by row 1" in by_record[22]
    (bad,) = [one for one in reasons if "row" in one]
    assert (bad["id"], bad["vector"]) == ("c7", "dense-fake-16")
    assert "not finite" in bad["reason"]
    found = open_run(out)
    vectors = found.vectors("dense-fake-16")
    assert np.isnan(vectors[found.ids.index("c7")]).all()
    assert np.isnan(vectors).any(axis=1).sum() == 1
    assert cli("verify", out, "--json").json["ok"] is True


def test_two_models_rotate_with_the_second_staged_beforehand(
    cli: Any, tmp_path: Path, many: Path, many_texts: list[str], read_events: Any, fake_vectors: Any
) -> None:
    out = tmp_path / "run"
    models = ("--dense", "fake:16,delay_ms=200", "--dense", "fake:24,delay_ms=20")
    done = cli(*run(many, out, *models, "--json")).json
    first, second = done["passes"]
    assert first["rotation_gap_seconds"] is None
    assert 0 <= second["rotation_gap_seconds"] <= 1.0
    events = read_events(out)
    leases = [one for one in events if one["event"] == "lease"]
    for vector in ("dense-fake-16", "dense-fake-24"):
        phases = [one["phase"] for one in leases if one["vector"] == vector]
        assert phases == ["before", "staged", "hydrated", "peak", "after"]
    times = {(one["vector"], one["phase"]): one["time"] for one in leases}
    assert times["dense-fake-24", "staged"] < times["dense-fake-16", "peak"]  # loaded while the first one worked
    assert times["dense-fake-16", "after"] <= times["dense-fake-24", "hydrated"]  # and never two on the device
    assert all(one["memory"]["used"] > 0 for one in leases if one["phase"] in ("before", "hydrated", "peak", "after"))
    (rotation,) = [one for one in events if one["event"] == "rotation"]
    assert (rotation["from"], rotation["to"]) == ("dense-fake-16", "dense-fake-24")
    assert rotation["gap_seconds"] <= 1.0
    found = open_run(out)
    for dim in (16, 24):
        np.testing.assert_array_equal(found.vectors(f"dense-fake-{dim}"), fake_vectors(many_texts, dim))


def test_two_slots_make_the_same_vectors_as_one(
    cli: Any, tmp_path: Path, many: Path, many_texts: list[str], fake_vectors: Any
) -> None:
    out = tmp_path / "run"
    args = ("run", many, "--out", out, "--devices", "cpu:2", "--index", "none", "--dense", "fake:16,delay_ms=50")
    cli(*args)
    stats = json.loads((out / "stats.json").read_bytes())
    by_device = stats["passes"][0]["rows_by_device"]
    assert len(by_device) == 2
    assert sum(by_device.values()) == 40_000
    assert min(by_device.values()) > 0
    found = open_run(out)
    assert found.ids == [f"c{row}" for row in range(40_000)]
    assert found.vectors().tobytes() == fake_vectors(many_texts, 16).tobytes()


def test_standard_input_and_limit(cli: Any, tmp_path: Path, corpus: Path) -> None:
    piped = tmp_path / "piped"
    done = cli(*run("-", piped, "--dense", "fake:8", "--json"), stdin=corpus.read_bytes()).json
    assert done["committed"] == 201
    assert open_run(piped).ids[-1] == "c200"
    limited = tmp_path / "limited"
    assert cli(*run(corpus, limited, "--dense", "fake:8", "--limit", "7", "--json")).json["chunks"] == 7
    assert open_run(limited).ids == [f"c{row}" for row in range(7)]


def test_a_folder_of_chunk_files(cli: Any, tmp_path: Path, fake_vectors: Any) -> None:
    source, out = tmp_path / "Chunked", tmp_path / "run"
    texts: list[str] = []
    for collection in ("Docs", "Api"):
        for name in ("a", "b"):
            folder = source / collection
            folder.mkdir(parents=True, exist_ok=True)
            chunks = [
                {"text": f"{collection} {name} {n}", "metadata": {"chunk_id": f"{collection}-{name}-{n}"}}
                for n in range(3)
            ]
            (folder / f"{name}_chunks.json").write_text(json.dumps(chunks))
    cli(*run(source, out, "--dense", "fake:8"))
    found = open_run(out)
    texts = found.chunks.column("text").to_pylist()
    assert len(texts) == 12
    assert found.ids[0] == "Api-a-0"
    assert json.loads(found.chunks.column("metadata")[0].as_py())["collection"] == "Api"
    np.testing.assert_array_equal(found.vectors(), fake_vectors(texts, 8))


@pytest.mark.parametrize("form", ["gz", "zst", "parquet"])
def test_compressed_and_columnar_sources(cli: Any, tmp_path: Path, corpus: Path, fake_vectors: Any, form: str) -> None:
    data = corpus.read_bytes()
    source = tmp_path / ("corpus.parquet" if form == "parquet" else f"corpus.jsonl.{form}")
    if form == "gz":
        source.write_bytes(gzip.compress(data))
    elif form == "zst":
        with pa.output_stream(str(source), compression="zstd") as stream:
            stream.write(data)
    else:
        pq.write_table(pa.Table.from_pylist([json.loads(line) for line in data.splitlines()]), source)
    out = tmp_path / "run"
    cli(*run(source, out, "--dense", "fake:8"))
    found = open_run(out)
    assert found.ids == [f"c{row}" for row in range(201)]
    np.testing.assert_array_equal(found.vectors(), fake_vectors(TEXTS, 8))


def test_without_an_index_there_is_nothing_to_search(cli: Any, tmp_path: Path, corpus: Path) -> None:
    out = tmp_path / "run"
    cli(*run(corpus, out, "--dense", "fake:8"))
    assert not (out / "qdrant").exists()
    assert "--index none" in cli("search", out, "anything", code=2).error


def test_another_spec_is_refused_unless_restarted(cli: Any, tmp_path: Path, corpus: Path) -> None:
    out = tmp_path / "run"
    cli(*run(corpus, out, "--dense", "fake:8"))
    refused = cli(*run(corpus, out, "--dense", "fake:12", "--limit", "5"), code=2)
    for part in ("limit: None → 5", "dense-fake-12 is new", "dense-fake-8 is gone", "--restart"):
        assert part in refused.error
    assert open_run(out).rows == 201
    cli(*run(corpus, out, "--dense", "fake:12", "--limit", "5", "--restart"))
    assert open_run(out).vectors().shape == (5, 12)
    assert not (out / "vectors" / "dense-fake-8").exists()


def test_one_folder_has_one_run_at_a_time(start: Any, cli: Any, tmp_path: Path, many: Path, waiting: Any) -> None:
    out = tmp_path / "run"
    args = run(many, out, "--dense", "fake:8,delay_ms=500")
    first = start(*args)
    waiting.eventually(lambda: (out / "spec.json").exists(), what="the first run")
    assert "another run is writing there" in cli(*args, code=2).error
    first.signal(signal.SIGINT)
    first.wait(130)


REFUSED: dict[str, tuple[str, str]] = {
    "no such source": ("run nowhere.jsonl --dense fake:8", "no such file"),
    "empty source": ("run empty.jsonl --dense fake:8", "no record"),
    "unknown model": ("run corpus.jsonl --dense no-such-model", "catalogue"),
    "unknown sparse": (
        "run corpus.jsonl --sparse splade",
        "For sparse weights give bm25, metadata, or a SPLADE-style model",
    ),
    "model twice": (
        "run corpus.jsonl --dense fake:8 --dense fake:8,delay_ms=1",
        "as in NAME=fake:8,delay_ms=1",
    ),
    "bad dimension": ("run corpus.jsonl --dense fake:none", "dimension"),
    "bad option": ("run corpus.jsonl --dense fake:8,speed=9", "speed=9"),
    "bad limit": ("run corpus.jsonl --dense fake:8 --limit 0", "--limit 0"),
    "bad device": ("run corpus.jsonl --dense fake:8 --devices tpu:0", "not a device"),
    "absent GPU": ("run corpus.jsonl --dense fake:8 --devices cuda:99", "no such GPU"),
    "pickled weights": ("run corpus.jsonl --dense pickled", "no safetensors"),
    "code of its own": ("run corpus.jsonl --dense own-code", "--trust-remote-code"),
    "wrong field": ("run corpus.jsonl --dense fake:8 --text-field body", "The fields of that record: id, text"),
    "out is a file": ("run corpus.jsonl --dense fake:8 --out a-file", "is a file"),
    "out below a file": ("run corpus.jsonl --dense fake:8 --out a-file/run", "a-file"),
    "out is no run": ("run corpus.jsonl --dense fake:8 --out full", "holds no run"),
}
"""What a user may get wrong, in a folder that `mistaken` furnishes, and a word of what is said about it."""


@pytest.fixture(scope="module")
def mistaken(tmp_path_factory: pytest.TempPathFactory, corpus: Path) -> Path:
    folder = tmp_path_factory.mktemp("mistaken")
    (folder / "corpus.jsonl").write_bytes(corpus.read_bytes())
    (folder / "empty.jsonl").write_text("\n")
    (folder / "a-file").write_text("mine")
    for name in ("pickled", "own-code", "full"):
        (folder / name).mkdir()
    (folder / "full" / "thesis.tex").write_text("mine")
    (folder / "pickled" / "config.json").write_text('{"model_type": "bert"}')
    (folder / "pickled" / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    (folder / "own-code" / "config.json").write_text('{"auto_map": {"AutoModel": "evil.Model"}}')
    (folder / "own-code" / "model.safetensors").write_bytes(b"")
    return folder


@pytest.mark.parametrize("case", REFUSED)
def test_a_usage_error_is_one_message(cli: Any, tmp_path: Path, mistaken: Path, case: str) -> None:
    command, words = REFUSED[case]
    args = command.split()
    args += [] if "--out" in args else ["--out", str(tmp_path / "run")]
    args += [] if "--devices" in args else ["--devices", "cpu"]
    assert words in cli(*args, code=2, cwd=mistaken).error
    assert (mistaken / "a-file").read_text() == "mine"


@pytest.mark.parametrize("command", ["verify", "info", "search"])
def test_readers_of_a_folder_without_a_run(cli: Any, tmp_path: Path, command: str) -> None:
    more = ("words",) if command == "search" else ()
    assert str(tmp_path) in cli(command, tmp_path, *more, code=2).error


def test_verify_finds_a_flipped_byte(cli: Any, tmp_path: Path, corpus: Path) -> None:
    out = tmp_path / "run"
    cli(*run(corpus, out, "--dense", "fake:8"))
    path = out / "vectors" / "dense-fake-8" / "00000.parquet"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    report = cli("verify", out, "--json", code=1)
    assert report.json["ok"] is False
    assert str(path) in report.json["problems"][0]


def test_json_of_a_failed_run(cli: Any, tmp_path: Path, corpus: Path) -> None:
    done = cli(*run(corpus, tmp_path / "run", "--dense", "no-such-model", "--json"), code=2)
    assert done.json["status"] == "failed"
    assert "catalogue" in done.json["error"]


def test_no_process_of_a_run_imports_pandas(
    cli: Any, corpus_of: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pyarrow would, where it is installed: here it is a package that says so."""
    package, said = tmp_path / "modules" / "pandas", tmp_path / "imported"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(f"open({str(said)!r}, 'w').close()\n__version__ = '3.0'\n")
    monkeypatch.setenv("PYTHONPATH", str(package.parent))
    corpus, models = corpus_of(tmp_path / "c.jsonl", ["one text", "another"]), ("--dense", "fake:8", "--sparse", "bm25")
    cli("run", corpus, "--out", tmp_path / "run", *models, "--devices", "cpu", "--index", "none", "--export", "jsonl")
    assert not said.exists()
