"""`embedfleet plan` against the run that follows it."""

from __future__ import annotations

import gzip
import json
import signal
from pathlib import Path
from typing import Any

import embedfleet
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytest.importorskip("qdrant_edge")

WORDS = "a fast queue of leases and frames sorted by length for every device in turn"
MODELS = "--dense fake:32 --dense second=fake:16 --ensemble concat --sparse bm25 --sparse fake:500 --multivector fake:8"
OTHERS = "--store int8 --max-tokens 60 --index none --devices cpu"
FLAGS = (*MODELS.split(), *OTHERS.split())
WITHIN = 0.02


def records(first: int, count: int) -> list[dict[str, Any]]:
    return [
        {
            "id": f"c{row}",
            "text": " ".join(WORDS.split()[(row * 7 + n * row) % 15] for n in range(1 + row % 70)),
            "page": row % 40,
        }
        for row in range(first, first + count)
    ]


def lines(found: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(one).encode() + b"\n" for one in found)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mixed")
    (folder / "a.jsonl").write_bytes(lines(records(0, 4_000)) + lines(records(0, 50)) + b"no json\n{}\n\n")
    with gzip.open(folder / "b.jsonl.gz", "wb") as packed:
        packed.write(lines(records(4_000, 3_000)))
    (folder / "c.json").write_text(json.dumps(records(7_000, 500)))
    pq.write_table(pa.Table.from_pylist(records(7_500, 2_500)), folder / "d.parquet", row_group_size=700)
    return folder


@pytest.fixture(scope="module")
def made(mixed: Path, tmp_path_factory: pytest.TempPathFactory, cli: Any) -> tuple[Path, Path, Any]:
    """The written plan, the run, and what the command printed."""
    folder = tmp_path_factory.mktemp("plan")
    written, out = folder / "plan.json", folder / "run"
    planned = cli("plan", mixed, *FLAGS, "--out", out, "--write", written, "--json")
    assert not out.exists(), "nothing is written there"
    cli("run", mixed, *FLAGS, "--out", out, code=3)
    return written, out, planned.json


def test_rows_tokens_and_bytes_are_those_of_the_run(made: tuple[Path, Path, Any], cli: Any) -> None:
    written, out, planned = made
    assert json.loads(written.read_bytes()) == planned
    compared = {one["name"]: one for one in cli("plan", written, "--compare", out, "--json").json}
    for name in ("rows", "rejected", "duplicates"):
        assert compared[name]["planned"] == compared[name]["real"] > 0
    vectors = ("dense-fake-32", "dense-second", "sparse-bm25", "sparse-fake-500", "multivector-fake-8")
    for name in ("bytes of chunks", "ensemble-concat: bytes", *(f"{one}: bytes" for one in vectors)):
        assert compared[name]["ratio"] == pytest.approx(1, abs=WITHIN), name
    for name in vectors:
        assert compared[f"{name}: tokens"]["planned"] == compared[f"{name}: tokens"]["real"]
    described = {one["vector"]: one for one in cli("info", out, "--json").json["vectors"]}
    dense = planned["passes"][0]
    assert dense["truncated_share"]["value"] == pytest.approx(described["dense-fake-32"]["truncated_share"], abs=1e-6)
    assert dense["tokens_cut_share"]["value"] == pytest.approx(described["dense-fake-32"]["tokens_cut_share"], abs=1e-6)


def test_every_figure_says_where_it_is_from(made: tuple[Path, Path, Any]) -> None:
    def figures(value: Any) -> list[Any]:
        if isinstance(value, dict):
            mine = [value] if "value" in value else []
            return mine + [one for each in value.values() for one in figures(each)]
        return [one for each in value for one in figures(each)] if isinstance(value, list) else []

    found = figures(made[2])
    assert len(found) > 20
    assert {one["basis"] for one in found} <= {"counted", "measured", "sampled", "published", "assumed"}


def test_a_page_for_people(made: tuple[Path, Path, Any], mixed: Path, cli: Any) -> None:
    written, out, _ = made
    page = cli("plan", mixed, *FLAGS, "--out", out, "--price", "2").out.decode()
    assert "10,000" in page
    assert "counted" in page
    assert "dense-fake-32: fake:32, float32" in page
    assert "cut" not in page or "truncated" in page
    table = cli("plan", written, "--compare", out).out.decode()
    assert "real / planned" in table
    assert "rows" in table


def test_a_larger_source_than_the_sample_is_within_the_bound(tmp_path: Path, cli: Any) -> None:
    source, written, out = tmp_path / "c.jsonl", tmp_path / "plan.json", tmp_path / "run"
    source.write_bytes(lines(records(0, 90_000)))
    flags = ("--dense", "fake:8", "--index", "none", "--devices", "cpu", "--out", out)
    planned = cli("plan", source, *flags, "--write", written, "--json").json
    assert planned["passes"][0]["tokens"]["basis"] == "sampled"
    assert 0 < planned["passes"][0]["tokens"]["error"] < 0.01
    cli("run", source, *flags)
    compared = {one["name"]: one for one in cli("plan", written, "--compare", out, "--json").json}
    for name in ("rows", "bytes of chunks", "dense-fake-8: tokens", "dense-fake-8: bytes"):
        assert compared[name]["ratio"] == pytest.approx(1, abs=WITHIN), name


def test_a_sample_is_embedded_to_measure_the_rate(mixed: Path, tmp_path: Path, cli: Any) -> None:
    flags = ("--dense", "fake:8,delay_ms=20", "--index", "none", "--devices", "cpu", "--out", tmp_path / "run")
    done = cli("plan", mixed, *flags, "--measure", "1", "--json")
    assert "measured: " in done.err
    planned = done.json
    assert planned["seconds"]["basis"] == planned["start_seconds"]["basis"] == "measured"
    assert planned["passes"][0]["tokens_per_second"]["value"] > 0
    assert not (tmp_path / "run").exists()
    cli("run", mixed, *flags, code=3)
    again = cli("plan", mixed, *flags, "--json").json
    assert again["rows"] == planned["rows"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--dense", "fake:8", "--gpus", "8xH1000"), "--gpus '8xH1000': give their count and kind"),
        (("--dense", "fake:8", "--gpus", "T4", "--devices", "cpu"), "--gpus and --devices: give one of them"),
        (("--dense", "fake:8", "--gpus", "T4", "--measure", "5"), "--measure embeds a sample on this host's devices"),
        (("--dense", "fake:8", "--price", "-1"), "--price -1: give a number above 0"),
        (("--dense", "fake:8", "--shards", "1000000"), "--shards 1000000: give 1 to 100,000 shards"),
        (("--dense", "fake:8", "--devices", "tpu"), "--devices 'tpu' is not a device"),
        (("--dense", "no-such-model"), "not a folder, not a hub id"),
        (("--dense", "fake:8", "--text-field", "body"), "the record has no field 'body'"),
        (("--dense", "fake:8", "--ensemble", "concat"), "give at least two different dense models"),
        (("--dense", "fake:8", "--write", "/no/such/folder/x.json"), "--write /no/such/folder/x.json: No such file"),
    ],
)
def test_bad_input_gets_one_line(flags: tuple[str, ...], message: str, tmp_path: Path, cli: Any) -> None:
    source = tmp_path / "c.jsonl"
    source.write_bytes(lines(records(0, 5)))
    assert message in cli("plan", source, *flags, code=2).error


def test_a_source_is_refused_as_by_a_run(tmp_path: Path, cli: Any) -> None:
    for source, message in ((tmp_path / "none.jsonl", "no such file or folder"), ("-", "a plan reads the source")):
        assert message in cli("plan", source, "--dense", "fake:8", code=2).error
    other = tmp_path / "other.json"
    other.write_text('{"text": "not a plan"}')
    assert "is no plan" in cli("plan", other, "--compare", tmp_path, code=2).error


def test_from_python(mixed: Path, tmp_path: Path) -> None:
    found = embedfleet.plan(mixed, dense="fake:8", gpus="2xL4", price=1.5, out=tmp_path / "run", index="none")
    assert found.rows.value == 10_000
    assert found.devices == ("L4", "L4")
    with pytest.raises(embedfleet.UsageError, match="Known: "):
        embedfleet.plan(mixed, dense="fake:8", gpus="2xABC")


def test_a_file_of_flags_counts_as_for_a_run(mixed: Path, tmp_path: Path, cli: Any) -> None:
    config = tmp_path / "run.toml"
    config.write_text('dense = ["fake:24"]\nindex = "none"\ngrace = 3\n')
    found = cli("plan", mixed, "--config", config, "--out", tmp_path / "run", "--json").json
    assert [one["vector"] for one in found["passes"]] == ["dense-fake-24"]


def test_an_interrupt_while_a_sample_is_embedded_ends_every_process(mixed: Path, tmp_path: Path, start: Any) -> None:
    flags = ("--dense", "fake:8,delay_ms=300", "--index", "none", "--devices", "cpu", "--out", tmp_path / "run")
    command = start("plan", mixed, *flags, "--measure", "60")
    command.child("embedfleet.worker")
    command.signal(signal.SIGINT)
    command.wait(130, 60)
    command.all_gone(30)
    assert "Traceback" not in command.err
    assert not (tmp_path / "run").exists()
