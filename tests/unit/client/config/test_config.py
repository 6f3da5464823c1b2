"""Flags in a file: what is read, what is refused and where, and that what is written reads back as the same."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, Literal

import pytest
from embedfleet.client.cli.flag_types import EnsembleName
from embedfleet.client.config.known_flags import Flag
from embedfleet.client.config.positions import line_of
from embedfleet.client.config.reader import read_config
from embedfleet.client.config.writer import config_text
from embedfleet.client.options.spec_builder import build_spec
from embedfleet.protocol.errors import UsageError
from embedfleet.protocol.run_directory.json_bytes import pretty_json

FLAGS = {
    "source": Flag("source", str),
    "dense": Flag("dense", list[str]),
    "sparse": Flag("sparse", list[str]),
    "truncate-dim": Flag("truncate_dim", int),
    "store": Flag("store", Literal["float32", "int8"]),
    "normalize": Flag("normalize", bool),
    "limit": Flag("limit", int),
    "grace": Flag("grace", float),
    "ensemble": Flag("ensemble", list[EnsembleName]),
    "weights": Flag("weights", str),
    "queries": Flag("queries", str),
    "qrels": Flag("qrels", str),
}


def read(folder: Path, text: str) -> dict[str, Any]:
    (folder / "run.toml").write_text(text)
    return read_config(folder / "run.toml", FLAGS)


def test_flags_stand_in_tables_or_above_them(tmp_path: Path) -> None:
    text = """
        source = "corpus.jsonl"
        sparse = "bm25"
        grace = 3
        [dense]
        models = ["bge-m3", "gte-base"]
        truncate_dim = 256
        store = "int8"
        [ensemble]
        methods = ["concat"]
        weights = [2, 0.5]
        [queries]
        file = "q.jsonl"
        qrels = "qrels.tsv"
    """
    assert read(tmp_path, text) == {
        "source": "corpus.jsonl",
        "sparse": ["bm25"],
        "grace": 3,
        "dense": ["bge-m3", "gte-base"],
        "truncate_dim": 256,
        "store": "int8",
        "ensemble": ["concat"],
        "weights": "2,0.5",
        "queries": "q.jsonl",
        "qrels": "qrels.tsv",
    }
    assert read(tmp_path, 'dense = "bge-m3"\ntruncate-dim = 8') == {"dense": ["bge-m3"], "truncate_dim": 8}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("limit = 5\n\nlimt = 3", r", line 3: unknown key 'limt'; did you mean 'limit'\?"),
        ("[dense]\nmodel = 'a'", r", line 2: unknown key 'model' in \[dense\]; did you mean 'models'\?"),
        (
            "[dense]\nmodels = ['a']\nstroe = 'int8'",
            r", line 3: unknown key 'stroe' in \[dense\]; did you mean 'store'\?",
        ),
        ("[dens]\nmodels = ['a']", r", line 1: unknown key 'dens'; did you mean 'dense'\?"),
        ("dense.trunc-dim = 3", r", line 1: unknown key 'trunc-dim' in \[dense\]; did you mean 'truncate-dim'\?"),
        ("xyzzy = 3", r", line 1: unknown key 'xyzzy'; the keys are the flags in embedfleet run --help"),
        ("[dense]\nlimit = 3", r", line 2: 'limit' does not belong in \[dense\]; move it above the first table"),
        ("restart = true", r", line 1: 'restart' is for the command line alone; give it there as --restart"),
        ("# x\nlimit = 'ten'", r", line 2: limit='ten': expected `int`, got `str`"),
        ("limit = true", r", line 1: limit=True: expected `int`, got `bool`"),
        ("[limit]\nx = 3", r", line 1: limit=.*: expected `int`, got `object`"),
        ("[dense]\nmodels = 3", r", line 2: models=3: expected `array`, got `int`"),
        ("store = 'int4'", r", line 1: store='int4': give float32 or int8"),
        ("ensemble = ['sum']", r", line 1: ensemble=\['sum'\]: give concat or average"),
        ("store = 'int8'\n[dense]\nmodels = ['a']\nstore = 'int8'", r", line 4: --store is there twice; leave one out"),
        ("limit\nx = 3", r": not TOML: .*\(at line 1, column 6\)"),
        ("{", r": not the spec\.json of a run"),
        ('{"source": "c.jsonl"}', r": not the spec\.json of a run \(.*missing required field `passes`"),
    ],
)
def test_what_cannot_be_used_is_refused_with_its_line(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(UsageError, match=rf"^--config .*run\.toml{why}"):
        read(tmp_path, text)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--config .*none\.toml: No such file or directory; give a TOML file"):
        read_config(tmp_path / "none.toml", FLAGS)
    with pytest.raises(UsageError, match=r"--config .*: is a folder; give a TOML file, or spec\.json of a run"):
        read_config(tmp_path, FLAGS)
    (tmp_path / "latin.toml").write_bytes('source = "é"'.encode("latin-1"))
    with pytest.raises(UsageError, match=r"latin\.toml: is not UTF-8 \(byte 10\)"):
        read_config(tmp_path / "latin.toml", FLAGS)


def test_a_spec_is_read_as_its_flags(tmp_path: Path) -> None:
    spec = build_spec("-", dense=["fake:8"], sparse=["bm25"], multivector=[], heads=[], storage="int8", limit=5)
    (tmp_path / "spec.json").write_bytes(pretty_json(spec))
    found = read_config(tmp_path / "spec.json", FLAGS)
    assert found == {"source": "-", "dense": ["fake:8"], "sparse": ["bm25"], "limit": 5, "store": "int8"}


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    values = {
        "source": tmp_path / 'a "b"\\\n\x7fü.jsonl',
        "dense": ["bge-m3"],
        "store": "int8",
        "normalize": True,
        "limit": None,
        "sparse": [],
        "grace": 2.5,
        "ensemble": [EnsembleName.concat],
    }
    text = config_text(values)
    assert tomllib.loads(text) == {
        "source": str(values["source"]),
        "grace": 2.5,
        "dense": {"models": ["bge-m3"], "store": "int8", "normalize": True},
        "ensemble": {"methods": ["concat"]},
    }
    assert read(tmp_path, text) == {
        "source": str(values["source"]),
        "grace": 2.5,
        "dense": ["bge-m3"],
        "normalize": True,
        "store": "int8",
        "ensemble": ["concat"],
    }


def test_lines_of_keys() -> None:
    text = 'a = 1\n["dense"]  # x\n"b" = 2\nc.d = 3\n'
    assert [
        line_of(text, *place) for place in (("", "a"), ("dense", "b"), ("", "dense"), ("dense", "x"), ("", "x"))
    ] == [
        1,
        3,
        2,
        2,
        None,
    ]
