"""A source that is given again, through the command line: touched, gone, changed; another stream; names that are not read."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from embedfleet import open_run

ROWS = 40_000
DONE = "done"


def lines(word: str, rows: int = ROWS) -> bytes:
    return b"".join(b'{"id":"%s%d","text":"%s %d"}\n' % (word.encode(), n, word.encode(), n) for n in range(rows))


def run(source: Path | str, out: Path, *more: str, model: str = "fake:8") -> tuple[str, ...]:
    return ("run", str(source), "--out", str(out), "--dense", model, "--devices", "cpu", "--index", "none", *more)


def test_another_stream_is_not_mixed_in(cli: Any, start: Any, waiting: Any, tmp_path: Path) -> None:
    out, first, second = tmp_path / "run", lines("alpha"), lines("beta")
    (tmp_path / "first").write_bytes(first)
    slow = "fake:8,delay_ms=300"
    with (tmp_path / "first").open("rb") as stream:
        command = start(*run("-", out, model=slow), stdin=stream)
        waiting.eventually(lambda: (out / "chunks" / "00000.parquet").exists())
        command.process.send_signal(signal.SIGKILL)
        command.process.wait()
    waiting.eventually(lambda: not any(one.is_running() for one in command.look().values()))
    for other in (second, b"", first[:1000]):
        refused = cli(*run("-", out, model=slow), stdin=other, code=2)
        assert "standard input is another stream than the one that this run began with" in refused.error
        assert not (out / "manifest.json").exists()
    assert cli(*run("-", out, "--json", model=slow), stdin=first).json["status"] == DONE
    assert open_run(out).ids == [f"alpha{n}" for n in range(ROWS)]


def test_standard_input_over_a_run_that_is_done(cli: Any, tmp_path: Path) -> None:
    out, first = tmp_path / "run", lines("alpha", 100)
    cli(*run("-", out), stdin=first)
    manifest = (out / "manifest.json").read_bytes()
    for other in (lines("beta", 100), first + lines("beta", 1), first[:-30]):
        refused = cli(*run("-", out), stdin=other, code=2)
        assert "standard input is another stream" in refused.error
        assert (out / "manifest.json").read_bytes() == manifest
    for same in (first, b""):
        assert cli(*run("-", out, "--json"), stdin=same).json["committed"] == 100
    more = cli(*run("-", out, "--dense", "fake:4", "--json"), stdin=first).json
    assert [one["vector"] for one in more["passes"]] == ["dense-fake-8", "dense-fake-4"]
    assert cli(*run("-", out, "--restart", "--json"), stdin=lines("beta", 7)).json["committed"] == 7


def test_a_project_that_was_moved_goes_on_at_its_new_place(cli: Any, tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / "corpus.jsonl").write_bytes(lines("alpha", 100))
    cli(*run(project / "corpus.jsonl", project / "run"))
    there = project.rename(tmp_path / "elsewhere")
    done = cli(*run(there / "corpus.jsonl", there / "run", "--json")).json
    assert (done["status"], done["passes"][0]["computed"]) == (DONE, 0)
    assert json.loads((there / "run" / "spec.json").read_bytes())["source"] == str(there / "corpus.jsonl")
    assert cli("verify", there / "run", "--json").json["problems"] == []
    (tmp_path / "corpus.jsonl").write_bytes(lines("beta", 100))
    refused = cli(*run(tmp_path / "corpus.jsonl", there / "run"), code=2)
    assert "Give the source that it was made of by the path above (a link there will do)" in refused.error


def test_a_touched_source_and_one_that_is_gone(cli: Any, tmp_path: Path) -> None:
    source, out = tmp_path / "c.jsonl", tmp_path / "run"
    source.write_bytes(lines("alpha", 100))
    cli(*run(source, out))
    os.utime(source, ns=(5, 5))
    assert cli(*run(source, out, "--json")).json["status"] == DONE
    source.write_bytes(lines("gamma", 100))
    manifest = (out / "manifest.json").read_bytes()
    refused = cli(*run(source, out), code=2)
    assert "the source changed since its intake began: c.jsonl has other content" in refused.error
    assert (out / "manifest.json").read_bytes() == manifest
    source.unlink()
    assert cli(*run(source, out, "--json")).json["committed"] == 100
    more = cli(*run(source, out, "--dense", "fake:4", "--json")).json
    assert [one["committed"] for one in (more,)] == [100]
    assert len(more["passes"]) == 2
    assert cli("verify", out, "--json").json["ok"] is True
    assert "no such file or folder" in cli(*run(source, out, "--restart"), code=2).error
    assert "no such file or folder" in cli(*run(source, tmp_path / "new"), code=2).error


def test_what_is_not_read_is_said_in_one_line(cli: Any, tmp_path: Path) -> None:
    source, out = tmp_path / "corpus", tmp_path / "run"
    (source / "sub").mkdir(parents=True)
    (source / "a.jsonl").write_bytes(lines("a", 3))
    (source / "b.json").write_bytes(lines("b", 3))
    (source / "config.json").write_text('{"model_type": "x", "architectures": ["y"]}')
    (source / "t.tsv").write_text("id\ttext\n")
    (source / "gone.jsonl").symlink_to("nowhere")
    os.mkfifo(source / "sub" / "pipe.jsonl")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "c.jsonl").write_bytes(lines("c", 3))
    (source / "more").symlink_to("../elsewhere")
    done = cli(*run(source, out, "--json"))
    assert done.json["committed"] == 9
    (told,) = [line for line in done.err.splitlines() if "names in the source that are not read" in line]
    for what in ("1 .tsv (t.tsv)", "(config.json)", "(gone.jsonl)", "(sub/pipe.jsonl)"):
        assert what in told
    events = [json.loads(line) for line in (out / "events.jsonl").read_text().splitlines()]
    assert [one["names"] for one in events if one["event"] == "source_left_out"] == [told.partition("not read: ")[2]]


def test_what_is_not_read_is_said_too_where_nothing_can_be_used(cli: Any, tmp_path: Path) -> None:
    source, out = tmp_path / "corpus", tmp_path / "run"
    source.mkdir()
    (source / "a.jsonl").write_text('{"name": "no text"}\n')
    (source / "t.tsv").write_text("id\ttext\n")
    refused = cli(*run(source, out), code=2)
    assert "not one record in it can be used" in refused.error
    assert "names in the source that are not read: 1 .tsv (t.tsv)" in refused.err


@pytest.mark.parametrize("address", ["ftp://host/key", "hdfs://b", "file:///tmp/x"])
def test_an_address_of_another_kind_is_refused_wherever_a_path_is_asked_for(
    cli: Any, tmp_path: Path, address: str
) -> None:
    source = tmp_path / "c.jsonl"
    source.write_bytes(lines("alpha", 3))
    out = str(tmp_path / "run")
    local = ("run", str(source), "--out", out, "--dense", "fake:8")
    commands = [
        ("run", address, "--out", out, "--dense", "fake:8"),
        ("run", str(source), "--out", address, "--dense", "fake:8"),
        (*local, "--queries", address),
        (*local, "--queries", str(source), "--qrels", address),
        ("search", address, "words"),
        ("verify", address),
        ("info", address),
        ("export", address),
        ("upload", address, "--url", "http://localhost:1"),
    ]
    for command in commands:
        error = cli(*command, code=2, cwd=tmp_path).error
        assert "only local paths" in error or "give the path alone: /tmp/x" in error
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.jsonl"]


def test_a_stream_that_is_never_read_is_no_matter(cli: Any, tmp_path: Path) -> None:
    """Without --limit's rest: what was not read of a stream need not be the same."""
    out = tmp_path / "run"
    cli(*run("-", out, "--limit", "5"), stdin=lines("a", 50))
    assert cli(*run("-", out, "--limit", "5", "--json"), stdin=lines("a", 60)).json["committed"] == 5
    assert "another stream" in cli(*run("-", out, "--limit", "5"), stdin=lines("b", 50), code=2).error


@pytest.mark.parametrize("packed", [False, True])
def test_zstd_with_a_long_window_names_the_remedy(cli: Any, tmp_path: Path, packed: bool) -> None:
    import pyarrow as pa

    source = tmp_path / "corpus"
    source.mkdir()
    path = source / "long.jsonl.zst"
    with pa.output_stream(str(path), compression="zstd") as stream:
        stream.write(lines("a", 5))
    data = bytearray(path.read_bytes())
    data[5] = 0xA8
    path.write_bytes(data)
    if packed:
        (source / "good.jsonl").write_bytes(lines("b", 5))
        done = cli(*run(source, tmp_path / "run", "--json"), code=3)
        assert (done.json["committed"], done.json["quarantined"]) == (5, 1)
        told = (tmp_path / "run" / "quarantine.jsonl").read_text()
    else:
        told = cli(*run(path, tmp_path / "run"), code=2).error
    assert "packed with a window above 128 MiB" in told
    assert f"zstd -d --long=31 {path}" in told
    assert "damaged" not in told


def test_a_closed_standard_input_over_a_run_that_is_done(cli: Any, tmp_path: Path) -> None:
    import sys

    out = tmp_path / "run"
    cli(*run("-", out), stdin=lines("a", 5))
    command = [str(Path(sys.executable).with_name("embedfleet")), *run("-", out)]
    done = subprocess.run(["sh", "-c", 'exec "$0" "$@" <&-', *command], capture_output=True, text=True, timeout=120)
    assert (done.returncode, "Traceback" in done.stderr) == (0, False)
