"""Each recipe of docs/recipes.md, as it stands on the page, where its library is installed."""

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

PAGE = (Path(__file__).parents[2] / "docs" / "recipes.md").read_text()
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
QUIET = {"HF_HUB_OFFLINE": "1", "HAYSTACK_TELEMETRY_ENABLED": "false", "DO_NOT_TRACK": "1"}


def recipe(heading: str) -> str:
    """The Python of a section."""
    section = PAGE.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    (code,) = re.findall(r"^```python\n(.*?)^```", section, re.DOTALL | re.MULTILINE)
    return code


@pytest.fixture(scope="module")
def made(cli: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run with a row in quarantine and an exported table; and what the checks compare with, as Python."""
    pytest.importorskip("qdrant_edge")
    folder = tmp_path_factory.mktemp("recipes")
    texts = ["poison" if row == POISONED else f"row {row}" for row in range(ROWS)]
    lines = [{"id": f"c{row}", "text": text, "metadata": {"lang": "en", "n": row}} for row, text in enumerate(texts)]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))
    models = ("--dense", f"{NAME.removeprefix('dense-')}=fake:8,nan_on=poison", "--sparse", "bm25", "--devices", "cpu")
    cli("run", folder / "corpus.jsonl", "--out", folder / "run", *models, "--export", "parquet", code=3)
    vectors = np.asarray(open_run(folder / "run").vectors(NAME))
    by_id = {f"c{row}": vectors[row].tolist() for row in range(ROWS) if row != POISONED}
    nearest = [f"c{row}" for row in np.argsort(-np.nan_to_num(vectors @ vectors[7], nan=-2.0))[:5]]
    return folder / "run", f"VECTORS, NEAREST = {by_id!r}, {nearest!r}\n"


def test_the_page_has_a_recipe_for_each_library() -> None:
    assert re.findall(r"^## (.+)$", PAGE, re.MULTILINE) == list(CHECKS)


@pytest.mark.parametrize("heading", CHECKS)
def test_the_recipe_works(made: tuple[Path, str], tmp_path: Path, heading: str) -> None:
    """In a process of its own: these libraries warn, and leave threads behind."""
    module, check = CHECKS[heading]
    pytest.importorskip(module)
    copied(made[0], tmp_path / "run")
    command = [sys.executable, "-c", f"{recipe(heading)}\n{made[1]}{check}\n"]
    environment = {**os.environ, **QUIET, "HF_HOME": str(tmp_path / "hub")}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
