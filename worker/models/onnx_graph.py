"""Find the ONNX graph of a model's repository, and check it before anything computes it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ...protocol.errors import ModelError
from ..formats.onnx_file import OnnxContent, read_onnx
from .locate import ModelFiles, hub_errors
from .weights_digest import digest_files

PLACES = ("onnx/model.onnx", "model.onnx")
"""Where repositories have the graph. Other files, such as `model_quantized.onnx`, compute other numbers."""
HALF = {10: "float16", 16: "bfloat16", 17: "float8", 18: "float8", 19: "float8", 20: "float8"}
"""ONNX's numbers for types of weights with fewer bits than float32."""
QUANTIZED = re.compile("[Qq]uant|^QLinear|^QAttention|^QGemm|^QEmbed|^QMoE|Integer|NBits|Fp4")
"""Operators that compute in integers of few bits."""
POINTER = b"version https://git-lfs"
LEAVE = "leave --backend onnx out"
"""The remedy that always helps."""


@dataclass(frozen=True, slots=True)
class OnnxGraph:
    """The graph's path in the model's folder, and those of all its files."""

    path: str
    files: tuple[str, ...]

    def digest(self, folder: Path) -> str:
        """The SHA-256 of its files, cached."""
        return digest_files(folder, [folder / one for one in self.files])


def find_graph(files: ModelFiles, *, fetch: bool) -> OnnxGraph:
    """The model's graph, fetched from the hub if need be. ModelError if there is none, or if it is damaged, incomplete, or not
    of float32."""
    path = find_path(files.folder)
    if path is None and fetch and files.revision:
        path = _fetch(files)
    if path is None:
        others = [one.relative_to(files.folder).as_posix() for one in sorted(files.folder.rglob("*.onnx"))]
        raise _missing(str(files.folder), others)
    content = _read(files.folder / path)
    _check_numbers(path, content)
    return OnnxGraph(path, (path, *_external(files.folder, path, content)))


def check_listed(name: str, files: Iterable[str]) -> None:
    """Raise ModelError if none of these files of the repository `name` is its graph."""
    known = sorted(files)
    if not any(one in known for one in PLACES):
        raise _missing(f"the repository {name}", [one for one in known if one.endswith(".onnx")])


def _missing(where: str, others: Sequence[str]) -> ModelError:
    there = f"; {', '.join(others[:3])} is not taken by itself" if others else ""
    return ModelError(f"{where} has no {' or '.join(PLACES)}{there}: put the graph there, or {LEAVE}")


def find_path(folder: Path) -> str | None:
    """Where the model's folder has its graph; None if it has none."""
    return next((one for one in PLACES if (folder / one).is_file()), None)


def _fetch(files: ModelFiles) -> str | None:
    """Fetch the graph, and the files beside it that may have its weights, into the existing snapshot."""
    from huggingface_hub import snapshot_download

    for one in PLACES:
        with hub_errors(files.name, files.revision, "its ONNX graph is "):
            snapshot_download(files.name, revision=files.revision, allow_patterns=[one, f"{one}_data*", f"{one}.data*"])
        if (files.folder / one).is_file():
            return one
    return None


def _read(path: Path) -> OnnxContent:
    try:
        with path.open("rb") as file:
            if file.read(len(POINTER)) == POINTER:
                raise ModelError(f"{path} is a pointer of Git LFS, not the graph: fetch it with `git lfs pull`")
        return read_onnx(path)
    except ValueError as error:
        raise ModelError(f"{path} cannot be read as an ONNX graph ({error}): fetch it again, or {LEAVE}") from error
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror or error})") from error


def _check_numbers(path: str, content: OnnxContent) -> None:
    quantized = sorted(one for one in content.operators if QUANTIZED.search(one))
    if quantized:
        raise ModelError(f"{path} is quantized ({quantized[0]}): give a graph of float32, or {LEAVE}")
    half = sorted({HALF[one] for one in content.types if one in HALF})
    if half:
        raise ModelError(f"{path} has weights in {half[0]}: give a graph of float32, or {LEAVE}")


def _external(folder: Path, path: str, content: OnnxContent) -> Sequence[str]:
    """The files in which the graph's weights are. ModelError if one is missing, short, or outside the folder."""
    found: list[str] = []
    for name, end in sorted(content.external.items()):
        inside = PurePosixPath(name)
        if inside.is_absolute() or ".." in inside.parts:
            raise ModelError(f"{path} has its weights in {name}, outside the model's folder; this is refused")
        one = (PurePosixPath(path).parent / inside).as_posix()
        if not (folder / one).is_file():
            raise ModelError(f"{folder / one} is missing, where {path} has its weights: put it there, or {LEAVE}")
        if (folder / one).stat().st_size < end:
            raise ModelError(f"{folder / one} is cut short, where {path} has its weights: fetch it again, or {LEAVE}")
        found.append(one)
    return found
