"""A hub of models on this host, with what its client asks for: answers about repositories, and their small files."""

from __future__ import annotations

import json
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from .model_folders import WIDTH, safetensors

SHA = "0" * 40
FILES = {
    "good/model": {"config.json": {"model_type": "bert"}, "model.safetensors": None},
    "good/pickled": {"config.json": {"model_type": "bert"}, "pytorch_model.bin": None},
    "good/code": {"config.json": {"model_type": "bert", "auto_map": {"AutoModel": "m.M"}}, "model.safetensors": None},
    "good/tokenizer-code": {
        "config.json": {"model_type": "bert"},
        "tokenizer_config.json": {"auto_map": {"AutoTokenizer": ["m.T", None]}},
        "model.safetensors": None,
    },
    "good/module": {
        "config.json": {"model_type": "bert"},
        "modules.json": [
            {"path": "", "type": "sentence_transformers.models.Transformer"},
            {"path": "2_Dense", "type": "sentence_transformers.models.Dense"},
        ],
        "model.safetensors": None,
        "2_Dense/config.json": {"in_features": 8, "out_features": 8},
        "2_Dense/pytorch_model.bin": None,
    },
    "good/static": {
        "modules.json": [{"path": "0_Static", "type": "sentence_transformers.models.StaticEmbedding"}],
        "0_Static/model.safetensors": None,
        "0_Static/tokenizer.json": None,
    },
    "good/no-pooling": {
        "config.json": {"model_type": "bert"},
        "modules.json": [
            {"path": "", "type": "sentence_transformers.models.Transformer"},
            {"path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
        ],
        "model.safetensors": None,
    },
    "good/dot": {
        "config.json": {"model_type": "bert"},
        "config_sentence_transformers.json": {"similarity_fn_name": "dot"},
        "model.safetensors": None,
    },
    "good/adapter": {
        "adapter_config.json": {"peft_type": "LORA", "base_model_name_or_path": "good/model"},
        "adapter_model.safetensors": None,
    },
    "good/empty": {"README.md": None},
    "good/damaged": {"config.json": ["no object"], "model.safetensors": None},
    "good/whole": {
        "config.json": {"model_type": "bert", "architectures": ["BertModel"], "hidden_size": WIDTH},
        "tokenizer.json": {"version": "1.0", "model": {"type": "WordPiece", "vocab": {}}},
        "model.safetensors": safetensors(),
        "pytorch_model.bin": None,
        "onnx/model.onnx": None,
    },
}


@dataclass
class Hub:
    """What the hub was asked for."""

    url: str
    asked: list[str] = field(default_factory=list[str])


class _Handler(BaseHTTPRequestHandler):
    """Answers as the hub does."""

    hub: Hub

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        self.hub.asked.append(self.path)
        parts = self.path.split("?")[0].strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            self._about("/".join(parts[2:4]), parts[5] if len(parts) > 5 else "main", tree=parts[4:5] == ["tree"])
        else:
            self._file("/".join(parts[:2]), "/".join(parts[4:]))

    def _about(self, name: str, revision: str, *, tree: bool = False) -> None:
        if name not in FILES:
            self._send(404, b"", {"X-Error-Code": "RepoNotFound"})
        elif revision not in ("main", SHA):
            self._send(404, b"", {"X-Error-Code": "RevisionNotFound"})
        elif tree:
            files = [
                {"type": "file", "path": path, "size": len(_content(name, path)), "oid": SHA} for path in FILES[name]
            ]
            self._send(200, json.dumps(files).encode(), {})
        else:
            about = {"id": name, "sha": SHA, "siblings": [{"rfilename": one} for one in FILES[name]]}
            self._send(200, json.dumps(about).encode(), {})

    def _file(self, name: str, path: str) -> None:
        self._send(200, _content(name, path), {"ETag": f'"{name}{path}"', "X-Repo-Commit": SHA})

    def _send(self, code: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(code)
        for key, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *_args: Any) -> None:
        pass


def _content(name: str, path: str) -> bytes:
    content: Any = FILES[name][path]
    return content if isinstance(content, bytes) else json.dumps(content).encode()


@contextmanager
def serving() -> Generator[Hub]:
    """A hub with the repositories of FILES and the revision `main`."""

    class Handler(_Handler):
        """Of this hub."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Handler.hub = given = Hub(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield given
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
