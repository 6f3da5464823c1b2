"""What the chaos tests share: the command, a corpus, and the result that an undisturbed run has."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from embedfleet.protocol.spec.run_spec import PassSpec
from embedfleet.tests.forked_commands import ForkedCommands
from embedfleet.worker.encoders.fake import FakeEncoder

COMMAND = str(Path(sys.executable).with_name("embedfleet"))
ROWS = 40_000
"""Three segments, ten batches."""


@pytest.fixture(scope="session")
def forked() -> Iterator[ForkedCommands]:
    made = ForkedCommands()
    yield made
    made.close()


@pytest.fixture(scope="session")
def texts() -> list[str]:
    return [f"row {row} of many" for row in range(ROWS)]


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> Path:
    path = tmp_path_factory.mktemp("chaos") / "corpus.jsonl"
    with path.open("w") as out:
        for row, text in enumerate(texts):
            out.write(json.dumps({"id": f"c{row}", "text": text}) + "\n")
        out.write("no json\n")
    return path


@pytest.fixture(scope="session")
def expected(texts: list[str]) -> dict[str, bytes]:
    """By vector."""

    def vectors(dim: int) -> np.ndarray[Any, Any]:
        encoder = FakeEncoder(PassSpec(vector="v", kind="dense", model=f"fake:{dim}"))
        return encoder.compute(encoder.prepare(texts), np.arange(len(texts), dtype=np.int32))

    return {f"dense-fake-{dim}": vectors(dim).tobytes() for dim in (32, 16)}
