"""What a person typed and no process could take is refused by name, never by a traceback."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
from embedfleet.client.arguments import LARGEST, check_number, check_text, expand_path
from embedfleet.client.client import Client
from embedfleet.client.notebook.chunk_source import look_at_source
from embedfleet.client.notebook.embedder import Embedder
from embedfleet.client.options.spec_builder import build_spec
from embedfleet.protocol.errors import SourceError, UsageError
from embedfleet.protocol.spec.run_spec import RunSpec


def test_a_path_is_expanded_and_need_not_exist(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert expand_path("~/none", "--out") == tmp_path / "none"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("~no-such-user/x", "no home folder of that name"),
        ("", "is empty"),
        ("x" * 300, "File name too long"),
        (os.fsdecode(b"a\xff"), "is not UTF-8"),
        ("a\0b", "holds a NUL character"),
    ],
)
def test_a_path_that_nobody_can_open(given: str, words: str) -> None:
    with pytest.raises(SourceError, match=words) as refused:
        expand_path(given, "--queries", SourceError)
    assert str(refused.value).startswith("--queries ")


@pytest.mark.parametrize("given", [5, None, b"bytes", ["a"], iter("a")])
def test_what_is_no_path_at_all(given: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run went into a folder named None before."""
    monkeypatch.chdir(tmp_path)
    for call in (
        lambda: expand_path(given, "out"),
        lambda: Embedder(given),
        lambda: look_at_source(given, tmp_path / "run"),
    ):
        with pytest.raises(UsageError, match=re.escape(f"={given!r}: give a path")):
            call()


def test_a_folder_that_may_not_be_entered(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Path) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "exists", refuse)  # root, whom nothing is refused to, runs tests too
    with pytest.raises(UsageError, match=r"--out /root/x: Permission denied"):
        expand_path("/root/x", "--out")


def test_texts_and_numbers() -> None:
    check_text("für", "--prompt")
    check_text(None, "--prompt")
    check_number(LARGEST, "--limit")
    check_number(None, "--limit")
    with pytest.raises(UsageError, match=r"--prompt .* is not UTF-8"):
        check_text("\udcff", "--prompt")
    with pytest.raises(UsageError, match="--limit 9007199254740993: give a smaller number"):
        check_number(LARGEST + 1, "--limit")


@pytest.mark.parametrize(
    ("option", "flag"), [({"max_tokens": 2**70}, "--max-tokens"), ({"prompt": "\udcff"}, "--prompt")]
)
def test_options_of_a_model_are_looked_at(option: dict[str, object], flag: str) -> None:
    with pytest.raises(UsageError, match=flag):
        build_spec("-", dense=["fake:8"], sparse=[], multivector=[], heads=[], **option)


def test_an_empty_out_is_not_the_folder_that_a_program_is_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Client, "_request", lambda _self, _message: None)
    with Client("ipc:///tmp/nobody-listens") as client, pytest.raises(UsageError, match="out '': is empty"):
        client.submit(RunSpec(source="s", passes=()), "")


def test_a_submission_that_is_not_utf_8(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(Client, "_request", lambda _self, _message: None)
        client = Client("ipc:///tmp/nobody-listens")
    for source, out in (("s\udcff", "/run"), ("s", "/run\udcff")):
        with pytest.raises(UsageError, match=r"udcff.*is not UTF-8"):
            client.submit(RunSpec(source=source, passes=()), out)
    client.close()
