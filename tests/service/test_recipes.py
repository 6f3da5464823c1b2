"""Each recipe of docs/recipes.md and docs/shards-readers.md, as it stands on the page, where its library is installed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from embedfleet import open_run

from ..run_copies import copied

DOCS = Path(__file__).parents[2] / "docs"
PAGE, SHARDS_PAGE = (DOCS / "recipes.md").read_text(), (DOCS / "shards-readers.md").read_text()
NAME = "dense-all-minilm-l6-v2"
ROWS, POISONED = 40, 3
CHECKS = {
    "pandas": (
        "pandas",
        "assert dict(zip(frame['id'], matrix.tolist())) == VECTORS\nassert frame['metadata'].iloc[7] == {'lang': 'en', 'n': 8}",
    ),
    "polars": (
        "polars",
        "assert dict(zip(frame['id'], frame['vector'].to_list())) == VECTORS\nassert set(lines['lang']) == {'en'}",
    ),
    "DuckDB": ("duckdb", "assert [one[0] for one in nearest] == NEAREST\nassert nearest[0][1] == 'row 7'"),
    "FAISS": ("faiss", f"assert (ids, index.ntotal) == (NEAREST, {ROWS})"),
    "LangChain": ("langchain_core", "assert (documents[0].id, documents[0].metadata['n']) == ('c7', 7)"),
    "LlamaIndex": ("llama_index.core", "assert found.ids == NEAREST"),
    "Haystack": ("haystack", "assert [one.id for one in found] == NEAREST\nassert found[0].meta['n'] == 7"),
    "datasets": (
        "datasets",
        f"assert (len(dataset), dataset[7]['id']) == ({ROWS}, 'c7')\nassert first.tolist() == VECTORS['c0']",
    ),
}
"""By heading of the page: the module to import, and what holds after the recipe. VECTORS has the vector of each id, NEAREST the
five ids that are nearest to c7."""
SHARDS_CHECKS = {
    "DuckDB": (
        "duckdb",
        "assert (twice, [one[0] for one in nearest]) == ([], NEAREST)\nassert nearest[0][1] == 'row 7'",
    ),
    "polars": (
        "polars",
        "assert list(zip(frame['id'], frame['vector'].to_list())) == list(VECTORS.items())\n"
        "assert frame['shard'].is_sorted() and frame['shard'].unique().to_list() == [0, 1, 2]",
    ),
    "pandas": ("pandas", "assert dict(zip(frame['id'], matrix.tolist())) == VECTORS"),
    "LanceDB": ("lancedb", "assert [one['id'] for one in found] == NEAREST\nassert table.count_rows() == len(VECTORS)"),
    "Spark": (
        "pyspark",
        "assert {one['id']: one['vector'] for one in frame.collect()} == VECTORS\nspark.stop()",
    ),
}
"""The same for the page on shards; rows of VECTORS are in the order of the source."""
MODELS = ("--dense", f"{NAME.removeprefix('dense-')}=fake:8,nan_on=poison", "--devices", "cpu")
QUIET = {"HF_HUB_OFFLINE": "1", "HAYSTACK_TELEMETRY_ENABLED": "false", "DO_NOT_TRACK": "1"}


def recipe(page: str, heading: str) -> str:
    """The Python of a section."""
    section = page.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    (code,) = re.findall(r"^```python\n(.*?)^```", section, re.DOTALL | re.MULTILINE)
    return code


Made = tuple[Path, str]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    texts = ["poison" if row == POISONED else f"row {row}" for row in range(ROWS)]
    lines = [{"id": f"c{row}", "text": text, "metadata": {"lang": "en", "n": row}} for row, text in enumerate(texts)]
    path = tmp_path_factory.mktemp("corpus") / "corpus.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in lines))
    return path


@pytest.fixture(scope="module")
def made(cli: Any, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A run with a row in quarantine and an exported table; and what the checks compare with, as Python."""
    pytest.importorskip("qdrant_edge")
    run = tmp_path_factory.mktemp("recipes") / "run"
    cli("run", corpus, "--out", run, *MODELS, "--sparse", "bm25", "--export", "parquet", code=3)
    vectors = np.asarray(open_run(run).vectors(NAME))
    by_id = {f"c{row}": vectors[row].tolist() for row in range(ROWS) if row != POISONED}
    nearest = [f"c{row}" for row in np.argsort(-np.nan_to_num(vectors @ vectors[7], nan=-2.0))[:5]]
    return run, f"VECTORS, NEAREST = {by_id!r}, {nearest!r}\n"


@pytest.fixture(scope="module")
def sharded(cli: Any, corpus: Path, made: Made, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The same corpus in three shards that are not merged."""
    run = tmp_path_factory.mktemp("shards") / "run"
    for index in range(3):
        cli("run", corpus, "--out", run, *MODELS, "--shard", f"{index}/3", code=3 if index == 0 else 0)
    return run, made[1]


@pytest.mark.parametrize(("page", "checks"), [(PAGE, CHECKS), (SHARDS_PAGE, SHARDS_CHECKS)], ids=["run", "shards"])
def test_the_page_has_a_recipe_for_each_library(page: str, checks: dict[str, tuple[str, str]]) -> None:
    assert re.findall(r"^## (.+)$", page, re.MULTILINE) == list(checks)


@pytest.mark.parametrize("heading", CHECKS)
def test_the_recipe_works(made: Made, tmp_path: Path, heading: str) -> None:
    follow(made, tmp_path, PAGE, heading, *CHECKS[heading])


@pytest.mark.parametrize("heading", SHARDS_CHECKS)
def test_the_recipe_for_shards_works(sharded: Made, tmp_path: Path, heading: str) -> None:
    follow(sharded, tmp_path, SHARDS_PAGE, heading, *SHARDS_CHECKS[heading])


def follow(made: Made, folder: Path, page: str, heading: str, module: str, check: str) -> None:
    """In a process of its own: these libraries warn, and leave threads behind."""
    pytest.importorskip(module)
    copied(made[0], folder / "run")
    command = [sys.executable, "-c", f"{recipe(page, heading)}\n{made[1]}{check}\n"]
    environment = {**os.environ, **QUIET, "HF_HOME": str(folder / "hub")}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
