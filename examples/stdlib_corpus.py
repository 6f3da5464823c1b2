"""A retrieval corpus with judged queries, made from the docstrings of your own Python's standard library.

    python examples/stdlib_corpus.py OUT_DIR

writes corpus.jsonl (_id, text, metadata), queries.jsonl (_id, text) and qrels.tsv, as the BEIR benchmarks do. A chunk is
the signature and docstring of a module, class or function. A query is the first sentence of a docstring; the chunk that it
was taken from keeps only the rest, and is the one relevant answer: no label was given by hand or by a model. The same
Python gives the same files. The sources are parsed, never imported.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import re
import sysconfig
import tokenize
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

SKIPPED_FOLDERS = {"site-packages", "dist-packages", "test", "tests", "idle_test", "lib2to3", "idlelib", "turtledemo"}
MIN_DOCSTRING = 40
"""Characters; shorter docstrings say too little to be found by."""
MIN_REST = 200
"""Characters that must remain when the first sentence is held out."""
QUERY_WORDS = range(5, 41)

Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(slots=True)
class Chunk:
    """One documented object: `id` is its dotted name, `head` its signature."""

    id: str
    module: str
    kind: str
    line: int
    head: str
    docstring: str


def source_files(root: Path) -> Iterator[tuple[str, Path]]:
    """Module names and files of the library at `root`, sorted by path."""
    for path in sorted(root.rglob("*.py"), key=lambda path: path.relative_to(root).as_posix()):
        parts = path.relative_to(root).with_suffix("").parts
        if not SKIPPED_FOLDERS.intersection(parts) and all(part.isidentifier() for part in parts):
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def parse(path: Path) -> ast.Module | None:
    """The syntax tree of a file; None for one that is not valid Python, which template files are not."""
    try:
        with tokenize.open(path) as file, warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            return ast.parse(file.read())
    except (SyntaxError, UnicodeDecodeError):
        return None


def objects(node: ast.AST, name: str) -> Iterator[tuple[str, Documented]]:
    """The documented objects under `node`, called `name`: itself, its classes and functions, not functions in functions."""
    if isinstance(node, Documented):
        yield name, node
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield from objects(child, f"{name}.{child.name}")
        elif isinstance(child, ast.If | ast.Try | ast.ExceptHandler | ast.With):
            yield from objects(child, name)


def signature(name: str, node: Documented) -> str:
    """What stands above the docstring: `module json`, `class json.JSONEncoder(object)`, `json.dumps(obj, …)`."""
    if isinstance(node, ast.Module):
        return f"module {name}"
    if isinstance(node, ast.ClassDef):
        bases = ", ".join(ast.unparse(base) for base in node.bases)
        return f"class {name}({bases})" if bases else f"class {name}"
    return f"{name}({ast.unparse(node.args)})"


def kind_of(node: Documented) -> str:
    if isinstance(node, ast.Module):
        return "module"
    return "class" if isinstance(node, ast.ClassDef) else "function"


def read_chunks(root: Path) -> list[Chunk]:
    """Every documented object of the library; of equal docstrings the first, of equal names each with a number."""
    chunks: list[Chunk] = []
    seen: set[str] = set()
    names: dict[str, int] = {}
    for module, path in source_files(root):
        for name, node in objects(parse(path) or ast.Module(body=[], type_ignores=[]), module):
            docstring = (ast.get_docstring(node) or "").strip()
            flat = " ".join(docstring.split())
            if len(flat) < MIN_DOCSTRING or flat in seen:
                continue
            seen.add(flat)
            names[name] = names.get(name, 0) + 1
            unique = name if names[name] == 1 else f"{name}#{names[name]}"
            line = getattr(node, "lineno", 1)
            chunks.append(Chunk(unique, module, kind_of(node), line, signature(name, node), docstring))
    return chunks


def split_first_sentence(docstring: str) -> tuple[str, str]:
    """The first sentence on one line, and what follows it as it stands."""
    paragraph = re.split(r"\n\s*\n", docstring, maxsplit=1)[0]
    end = re.search(r"[.!?](?=\s)", paragraph)
    cut = end.end() if end else len(paragraph)
    return " ".join(docstring[:cut].split()), docstring[cut:].strip()


def askable(chunk: Chunk) -> bool:
    """Whether the first sentence is prose that asks for something, and the rest is enough to be found by."""
    sentence, rest = split_first_sentence(chunk.docstring)
    prose = re.fullmatch(r"[A-Z][^()<>=_|*`\\]*", sentence) and "copyright" not in sentence.lower()
    return bool(prose) and len(sentence.split()) in QUERY_WORDS and len(rest) >= MIN_REST


def choose_queries(chunks: Iterable[Chunk], most: int) -> dict[str, str]:
    """Up to `most` queries by the id of their one relevant chunk: sentences that stand nowhere else in the corpus."""
    chunks = list(chunks)
    everything = "\n".join(" ".join(chunk.docstring.split()) for chunk in chunks).lower()
    by_chance = sorted(filter(askable, chunks), key=lambda chunk: hashlib.sha256(chunk.id.encode()).digest())
    chosen: dict[str, str] = {}
    for chunk in by_chance:
        sentence, _ = split_first_sentence(chunk.docstring)
        if len(chosen) < most and everything.count(sentence.lower().rstrip(".!?")) == 1:
            chosen[chunk.id] = sentence
    return chosen


def write_lines(path: Path, records: Iterable[dict[str, object]]) -> None:
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8")


def write_corpus(root: Path, out: Path, most_queries: int) -> tuple[int, int]:
    """Write the three files for the library at `root` into `out`; returns the numbers of chunks and queries."""
    chunks = read_chunks(root)
    queries = choose_queries(chunks, most_queries)
    out.mkdir(parents=True, exist_ok=True)
    records: list[dict[str, object]] = []
    for chunk in chunks:
        body = split_first_sentence(chunk.docstring)[1] if chunk.id in queries else chunk.docstring
        about = {"module": chunk.module, "kind": chunk.kind, "name": chunk.id, "line": chunk.line}
        records.append({"_id": chunk.id, "text": f"{chunk.head}\n\n{body}", "metadata": about})
    write_lines(out / "corpus.jsonl", records)
    write_lines(out / "queries.jsonl", ({"_id": f"q:{name}", "text": text} for name, text in queries.items()))
    judged = "".join(f"q:{name}\t{name}\t1\n" for name in queries)
    (out / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\n" + judged, encoding="utf-8")
    return len(chunks), len(queries)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description="Build a judged retrieval corpus from the standard library's docstrings."
    )
    parser.add_argument("out", type=Path, metavar="OUT_DIR")
    parser.add_argument(
        "--queries", type=int, default=500, metavar="N", help="at most this many (default: %(default)s)"
    )
    parser.add_argument("--library", type=Path, default=Path(sysconfig.get_path("stdlib")), help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    chunks, queries = write_corpus(given.library, given.out, given.queries)
    print(f"{chunks} chunks and {queries} queries in {given.out}")


if __name__ == "__main__":
    main()
