"""`embedfleet run` with few flags, with flags from a file, and with flags from variables."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from embedfleet.client.cli.app import app
from embedfleet.client.cli.run import run_command
from embedfleet.client.cli.run.request import RunRequest
from embedfleet.client.options import run_defaults
from embedfleet.protocol.errors import UsageError
from embedfleet.protocol.spec.run_spec import RunSpec

Ran = dict[str, Any]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("EMBEDFLEET_")]:
        monkeypatch.delenv(name)
    (tmp_path / "corpus.jsonl").write_text('{"id": "a", "text": "one"}\n')


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ran]:
    """What a command line would run."""
    found: list[Ran] = []

    def note(request: RunRequest) -> int:
        found.append({field.name: getattr(request, field.name) for field in fields(request)})
        return 0

    monkeypatch.setattr(run_command, "run", note)

    def call(*words: str) -> Ran:
        with pytest.raises(SystemExit, match="0"):
            app(["run", *words])
        return found[-1]

    return call


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit, match="2"):
        app(["run", *words])
    return " ".join(capsys.readouterr().err.replace("│", " ").split())


def models(spec: RunSpec) -> list[str]:
    return [one.vector for one in spec.passes]


def test_a_source_alone(ran: Callable[..., Ran], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_defaults, "find_spec", lambda name: name)
    found = ran("corpus.jsonl")
    assert found["out"] == tmp_path / "corpus.embedfleet"
    assert models(found["spec"]) == ["dense-all-minilm-l6-v2", "sparse-bm25"]
    assert found["notes"] == [
        "without --out, the run directory is corpus.embedfleet",
        "no model is named: taking --dense all-MiniLM-L6-v2, which needs no hub, and --sparse bm25",
    ]
    found = ran("corpus.jsonl", "--sparse", "bm25", "--out", "x")
    assert (models(found["spec"]), found["out"], found["notes"]) == (["sparse-bm25"], tmp_path / "x", [])


def test_a_source_alone_without_the_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_defaults, "find_spec", lambda _name: None)
    with pytest.raises(UsageError, match=r"Type pip install 'embedfleet\[torch,qdrant,demo\]'"):
        app(["run", "corpus.jsonl"])


def test_standard_input_needs_a_folder() -> None:
    with pytest.raises(UsageError, match="--out is missing: no folder is beside standard input"):
        app(["run", "-", "--dense", "fake:8"])


def test_flags_win_over_variables_and_these_over_the_file(
    ran: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("run.toml").write_text(
        'source = "corpus.jsonl"\nlimit = 1\nmax-tokens = 2\nid-field = "a"\n[dense]\nmodels = ["fake:8"]\nstore = "int8"\n'
    )
    monkeypatch.setenv("EMBEDFLEET_RUN_LIMIT", "10")
    monkeypatch.setenv("EMBEDFLEET_RUN_MAX_TOKENS", "20")
    monkeypatch.setenv("EMBEDFLEET_DEVICES", "cpu:2")
    found = ran("--config", "run.toml", "--limit", "100")
    (one,) = found["spec"].passes
    assert (found["spec"].limit, one.max_tokens, found["spec"].id_field) == (100, 20, "a")
    assert (one.vector, one.storage, found["devices"]) == ("dense-fake-8", "int8", "cpu:2")
    found = ran("--config", "run.toml", "--dense", "fake:9")
    assert models(found["spec"]) == ["dense-fake-9"]
    monkeypatch.setenv("EMBEDFLEET_RUN_CONFIG", "run.toml")
    monkeypatch.setenv("EMBEDFLEET_RUN_DENSE", "fake:5 fake:6")
    assert models(ran()["spec"]) == ["dense-fake-5", "dense-fake-6"]


def test_a_bad_value_names_the_place_that_it_is_from(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("run.toml").write_text("grace = -1\n")
    assert "greater than or equal to 0 (from run.toml)" in refused(capsys, "corpus.jsonl", "--config", "run.toml")
    monkeypatch.setenv("EMBEDFLEET_RUN_DTYPE", "float8")
    said = refused(capsys, "corpus.jsonl")
    assert "Invalid value for '--dtype'" in said
    assert "(from EMBEDFLEET_RUN_DTYPE)" in said
    assert "from EMBEDFLEET" not in refused(capsys, "corpus.jsonl", "--dtype", "float9")


def test_no_variable_restarts_a_run(ran: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMBEDFLEET_RUN_RESTART", "1")
    assert ran("corpus.jsonl", "--dense", "fake:8")["restart"] is False


COMMANDS = (
    ("corpus.jsonl", "--dense", "fake:8", "--sparse", "bm25", "--limit", "3"),
    (
        "corpus.jsonl",
        "--dense",
        "a=fake:8",
        "--dense",
        "fake:9",
        "--ensemble",
        "concat",
        "--weights",
        "2,1",
        "--out",
        "x",
    ),
    (
        "corpus.jsonl",
        "--sparse",
        "bm25",
        "--dtype",
        "float16",
        "--queries",
        "q.jsonl",
        "--rerank",
        "fake:8",
        "--top-k",
        "3",
    ),
    ("corpus.jsonl", "--heads", "bge-m3", "--no-fallback", "--pool-factor", "2", "--export", "all", "--json"),
    ("corpus.jsonl", "--dense", "./model", "--sparse-device", "cpu", "--batch-timeout", "5", "--devices", "cpu:2"),
)


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: "-".join(words[1::2]))
def test_a_written_file_gives_the_same_run_from_everywhere(
    words: tuple[str, ...],
    ran: Callable[..., Ran],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "q.jsonl").write_text('{"id": "q", "text": "one"}\n')
    (tmp_path / "model").mkdir()
    before = ran(*words)
    capsys.readouterr()
    with pytest.raises(SystemExit, match="0"):
        app(["run", *words, "--write-config"])
    (tmp_path / "run.toml").write_text(capsys.readouterr().out)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert ran("--config", "../run.toml") == before | {"notes": []}
    assert ran("--config", "../run.toml", "--restart") == before | {"notes": [], "restart": True}


def test_write_config_shows_what_was_chosen(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_defaults, "find_spec", lambda name: name)
    with pytest.raises(SystemExit, match="0"):
        app(["run", "corpus.jsonl", "--limit", "5", "--restart", "--write-config"])
    assert capsys.readouterr().out == (
        f'source = "{tmp_path}/corpus.jsonl"\n'
        f'out = "{tmp_path}/corpus.embedfleet"\n'
        "limit = 5\n\n"
        '[dense]\nmodels = ["all-MiniLM-L6-v2"]\n\n'
        '[sparse]\nmodels = ["bm25"]\n'
    )


@pytest.mark.parametrize("command", ["run", "search", "verify", "info", "export", "upload", "serve", "worker"])
def test_every_command_takes_the_short_flag_for_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        app([command, "-h"])
    assert "--help" in capsys.readouterr().out


def test_the_version_by_its_short_flag(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        app(["-V"])
    assert capsys.readouterr().out.startswith("embedfleet ")


def test_words_of_a_query_are_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str | None] = []
    monkeypatch.setattr(
        "embedfleet.client.cli.search.search_command.search",
        lambda _folder, query, *_rest, **_how: asked.append(query) or 0,
    )
    for words in (["return", "the", "version", "--top-k", "3"], ["one  query"], [""], []):
        app(["search", "run", *words], standalone_mode=False)
    assert asked == ["return the version", "one  query", "", None]


def test_one_variable_has_the_address_for_both_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    became: list[list[str]] = []
    monkeypatch.setattr(
        "embedfleet.client.cli.daemons._become", lambda _module, arguments: became.append(arguments) or 0
    )
    monkeypatch.setenv("EMBEDFLEET_COORDINATOR", "ipc:///tmp/fleet")
    for command in ("serve", "worker"):
        with pytest.raises(SystemExit, match="0"):
            app([command])
    assert [arguments[0] for arguments in became] == ["--bind=ipc:///tmp/fleet", "--connect=ipc:///tmp/fleet"]


def test_the_file_in_the_documentation_is_read(ran: Callable[..., Ran], tmp_path: Path) -> None:
    pytest.importorskip("ir_measures")
    page = (Path(__file__).parents[4] / "docs" / "configuration.md").read_text()
    (tmp_path / "run.toml").write_text(page.partition("```toml\n")[2].partition("```")[0])
    (tmp_path / "queries.jsonl").write_text('{"id": "q", "text": "one"}\n')
    (tmp_path / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\nq\ta\t1\n")
    found = ran("--config", "run.toml")
    spec, retrieval = found["spec"], found["after"].retrieval
    assert models(spec) == ["dense-bge-m3", "dense-gte-large", "sparse-bm25"]
    assert [(one.method, one.weights) for one in spec.ensembles] == [("concat", (2.0, 1.0))]
    assert {(one.max_tokens, one.truncate_dim, one.storage) for one in spec.passes[:2]} == {(512, 512, "int8")}
    assert (retrieval.rerank.model, retrieval.qrels, found["out"]) == (
        "bge-reranker-base",
        str(tmp_path / "qrels.tsv"),
        tmp_path / "run",
    )
