"""Which tokenizer is opened for a model, and that it needs neither torch nor transformers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from embedfleet.worker.tokenizing.checked import CheckedTokenizer, first_difference
from embedfleet.worker.tokenizing.library import LibraryTokenizer
from embedfleet.worker.tokenizing.long_texts import CHARS_A_TOKEN
from embedfleet.worker.tokenizing.texts import Texts
from embedfleet.worker.tokenizing.tokenizer import open_tokenizer
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel

from ....tiny_tokenizers import bert

WORDS = "the cat sat on caf\u00e9s, running unable "


def never(reason: str) -> None:
    raise AssertionError(reason)


def byte_pairs() -> Tokenizer:
    alphabet = {one: number for number, one in enumerate(sorted(ByteLevel.alphabet()))}
    tokenizer: Any = Tokenizer(BPE({**alphabet, "at": len(alphabet)}, [("a", "t")]))
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    return tokenizer


def test_the_cache_where_it_is_exact_and_the_library_elsewhere(tmp_path: Path) -> None:
    bert().save(str(tmp_path / "tokenizer.json"))
    assert isinstance(open_tokenizer(tmp_path / "tokenizer.json", 8, on_difference=never), CheckedTokenizer)
    assert isinstance(open_tokenizer(byte_pairs(), 8, on_difference=never), LibraryTokenizer)


def test_the_tokenizer_is_left_as_it_is() -> None:
    tokenizer = bert()
    tokenizer.enable_truncation(3)
    tokenizer.enable_padding(length=5)
    opened = open_tokenizer(tokenizer, 8, on_difference=never)
    tokenizer.enable_truncation(2)
    assert opened.encode(Texts.of(["the cat sat the cat sat the cat"])).lengths.tolist() == [8]
    assert (tokenizer.truncation or {})["max_length"] == 2
    assert (tokenizer.padding or {})["length"] == 5


@pytest.mark.parametrize("side", ["left", "right"])
def test_only_a_part_of_a_very_long_text_is_tokenized(side: str) -> None:
    """Its cut tokens are estimated in proportion; the cache and the library do it alike."""
    tokenizer = bert()
    opened = open_tokenizer(tokenizer, 20, side=side, on_difference=never)
    library = LibraryTokenizer(tokenizer, 20, side)
    mixed = WORDS * 300 + "the\u00e9 " * 4_000
    texts = Texts.of(["the cat", mixed * 2, WORDS * 100, "x" * 40_000, (WORDS * 1_000)[: 4 * 20 * CHARS_A_TOKEN * 2]])
    for seconds in (None, Texts.of(texts[::-1])):
        found = opened.encode(texts, seconds, "a prompt: ")
        assert first_difference(found, library.encode(texts, seconds, "a prompt: ")) is None
        assert found.truncated.any()
    tokenizer.enable_truncation(20, direction=side)
    whole = tokenizer.encode_batch(texts[:])
    found = opened.encode(texts)
    assert found.rows() == [one.ids for one in whole]
    tokenizer.no_truncation()
    counted = len(tokenizer.encode(texts[1])) - 20
    assert found.cut[1] != counted  # estimated
    assert found.cut[1] == pytest.approx(counted, rel=0.5)


def test_a_limit_that_leaves_no_room() -> None:
    tokenizer = bert()
    for limit in range(4):
        library = LibraryTokenizer(tokenizer, limit)
        opened = open_tokenizer(tokenizer, limit, on_difference=never)
        texts = Texts.of(["the cat sat", "", "the"])
        for seconds in (None, Texts.of(texts[::-1])):
            assert first_difference(opened.encode(texts, seconds), library.encode(texts, seconds)) is None


def test_it_needs_neither_torch_nor_transformers(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    bert().save(str(path))
    code = (
        "import sys, json; import embedfleet.worker.entry, embedfleet.worker.query; "
        "early = sorted({'tokenizers', 'transformers'} & set(sys.modules)); "
        "from pathlib import Path; from embedfleet.worker.tokenizing.texts import Texts; "
        "from embedfleet.worker.tokenizing.tokenizer import open_tokenizer; "
        f"found = open_tokenizer(Path({str(path)!r}), 9, on_difference=print).encode(Texts.of(['the cat'])); "
        "print(json.dumps([early, found.rows(), sorted({'torch', 'transformers'} & set(sys.modules))]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(done.stdout) == [[], [bert().encode("the cat").ids], []]
