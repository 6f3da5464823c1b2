from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from embedfleet.client.cli.search.hit_list import labelled_scores, print_hits
from embedfleet.client.cli.tables import print_info
from embedfleet.client.run_directory.info import describe_run
from embedfleet.client.search.hybrid import Hit


def hit(score: float, scores: dict[str, float], rerank: float | None = None, *, fused: bool = True) -> Hit:
    return Hit(id="c1", score=score, scores=scores, text="a text", metadata={}, row=1, fused=fused, rerank=rerank)


def test_what_orders_the_hits_stands_first_and_is_named() -> None:
    both = {"dense-x": 0.5, "sparse-y": 7.0}
    assert list(labelled_scores(hit(0.25, both)).items()) == [("fused", 0.25), *both.items()]
    assert list(labelled_scores(hit(0.25, both, 0.9)))[:2] == ["rerank", "fused"]
    assert labelled_scores(hit(0.5, {"dense-x": 0.5}, fused=False)) == {"dense-x": 0.5}, "a lone signal is not fused"
    assert list(labelled_scores(hit(0.5, both)).items()) == [("fused", 0.5), *both.items()], "equal by chance"


def test_a_hit_as_a_line(capsys) -> None:
    pytest.importorskip("qdrant_edge")
    print_hits([hit(1 / 9, {"dense-x": 0.5}, 0.9)], "text")
    assert capsys.readouterr().out == "  1. c1  rerank 0.9000  fused 0.1111  dense-x 0.5000\n     a text\n"
    print_hits([], "text")
    assert capsys.readouterr().out == "nothing found\n"


LONG = f"{'before ' * 90}the worker's lease\tends {'after ' * 90}\n\nLast line."
METADATA = {"module": "json", "line": 12, "tags": ["a", "b"], "odd\nkey": "\x1b[31m", "on": True, "long": "x" * 99}


def long_hit() -> Hit:
    scores = {"dense-all-minilm-l6-v2": 0.634712, "sparse-bm25": 11.3092, "multivector-colbert": 3.0}
    return Hit(id="docs/a\x1b.md#12", score=1.0, scores=scores, text=LONG, metadata=METADATA, row=1)


@pytest.mark.parametrize("columns", [40, 80, 120])
def test_a_hit_is_fitted_to_the_terminal(capsys, monkeypatch, columns: int) -> None:
    pytest.importorskip("qdrant_edge")
    monkeypatch.setenv("COLUMNS", str(columns))
    print_hits([long_hit()], "the lease of workers")
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= columns
    assert lines[0].startswith("  1. docs/a\\x1b.md#12  fused 1.0000")
    metadata = next(number for number, line in enumerate(lines) if "module=json" in line)
    assert " ".join(" ".join(lines[:metadata]).split()).endswith("sparse-bm25 11.3092 multivector-colbert 3.0000")
    assert lines[metadata].startswith("     module=json  line=12  tags=[")
    assert lines[metadata].endswith("…")
    passage = " ".join(line.strip() for line in lines[metadata + 1 :])
    assert 2 <= len(lines) - metadata - 1 <= 4
    assert "the worker's lease ends" in passage
    assert passage.startswith("… before")
    assert passage.endswith("after …")


def test_80_columns_where_the_width_is_not_known(capsys, monkeypatch) -> None:
    pytest.importorskip("qdrant_edge")
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setattr("os.get_terminal_size", _no_terminal)
    print_hits([long_hit()], "lease")
    assert 70 < max(map(len, capsys.readouterr().out.splitlines())) <= 80


def _no_terminal(_descriptor: int) -> Any:
    raise OSError("no terminal")


def test_full_is_the_whole_text(capsys) -> None:
    pytest.importorskip("qdrant_edge")
    print_hits([long_hit()], "lease", full=True)
    shown = capsys.readouterr().out.splitlines()
    assert [line.split() for line in shown[-3:]] == [line.split() for line in LONG.split("\n")], (
        "piped, it is not wrapped"
    )


@pytest.mark.parametrize("plain", [False, True])
def test_on_a_terminal_the_words_are_marked_but_for_no_color(capsys, monkeypatch, plain: bool) -> None:
    pytest.importorskip("qdrant_edge")
    for name, value in {"FORCE_COLOR": "1", "TERM": "xterm-256color", "COLUMNS": "80", "NO_COLOR": "1"}.items():
        monkeypatch.setenv(name, value)
    if not plain:
        monkeypatch.delenv("NO_COLOR")
    monkeypatch.delenv("TTY_COMPATIBLE", raising=False)
    print_hits([long_hit()], "lease", full=True)
    shown = capsys.readouterr().out
    if plain:
        assert "\x1b" not in shown
    else:
        assert "worker's \x1b[1;33mlease\x1b[0m" in shown
        assert "\x1b[31m" not in shown, "nothing of the corpus steers the terminal"
    text = re.sub(r"\x1b\[[0-9;]*m", "", shown)
    assert max(map(len, text.splitlines())) <= 80, "a terminal's lines are wrapped"
    assert " ".join(LONG.split()) in " ".join(text.split())


def test_what_a_run_was_fitted_to_and_what_is_float16_after_all(run_files: Any, tmp_path: Path, capsys) -> None:
    files = run_files.RunFiles(tmp_path / "run", index="none").write()
    described = describe_run(files.root)
    print_info(described)
    assert "average" not in capsys.readouterr().out
    dense, sparse = described["vectors"]
    dense["float16_segments"], sparse["settings"]["average_length"] = 2, 1234.5
    print_info(described)
    shown = capsys.readouterr().out
    assert f"{dense['vector']}: 2 segments stored as float16, since int8 would be too coarse\n" in shown
    assert f"{sparse['vector']}: fitted to an average length of 1,234.5 terms\n" in shown
