"""The record stored with a converted model: what an encoder needs to know about it, so that it starts without torch."""

from __future__ import annotations

from typing import Literal

import msgspec

from ...protocol.spec.fingerprint import Fingerprint
from ...protocol.spec.run_spec import Kind, PassSpec

FORMAT = 2
"""Raised when the graphs or records of this version differ from those of the one before."""


class TokenSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How texts become the input of the graph. The tokenizer itself is `tokenizer.json`."""

    limit: int
    """The most tokens of an input that the model takes."""
    pad: int
    truncates_left: bool
    types: bool
    """Whether the graph takes token types."""


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """A module of sentence-transformers that follows an ONNX graph. Weights are in `head.npz`, by its place in the steps."""

    name: Literal["Pooling", "SpladePooling", "Dense", "LayerNorm", "Normalize"]
    modes: tuple[str, ...] = ()
    """Modes of a pooling; the results of several are concatenated."""
    activation: str = ""
    epsilon: float = 0.0


class Exported(msgspec.Struct, frozen=True, kw_only=True):
    """The ONNX graph of the model's own repository."""

    path: str
    """In the model's folder."""
    output: str
    """The name of the output that is used."""
    steps: tuple[Step, ...] = ()
    """The modules that follow the output. Empty for dense vectors: the graph has computed them all."""


class ModelRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A converted model, without the options of a pass. Fields after `tokens` are for some kinds only."""

    kind: Kind
    fingerprint: Fingerprint
    described: str
    """The model's modules in words, with which the fingerprint's `pooling` begins."""
    prompt: str
    """The model's own prompt for documents."""
    parameters: int
    """Numbers in the weights."""
    tokens: TokenSettings
    most: int | None = None
    """Sparse: the model's own limit of weights."""
    activation: str = ""
    """Scores: the class of the activation, which the graph does not have."""
    skipped: tuple[int, ...] = ()
    """Multivectors: token ids without a vector."""
    kept: tuple[int, ...] | None = None
    """Multivectors: the only token ids with a vector, if they are listed."""
    normalizes: bool = False
    """Multivectors: whether the model's last step makes unit vectors."""
    special: tuple[int, ...] = ()
    """bge-m3: token ids without a term weight."""
    exported: Exported | None = None
    """The repository's ONNX graph; None if the conversion has its own graph."""


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """`done.json`, the last file of a conversion: either the SHA-256 of its files by name, or why it was refused."""

    files: dict[str, str] = {}
    refused: str = ""


class ConvertRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What the converting child is asked for. `spec` has no options that only concern a pass."""

    spec: PassSpec
    files: tuple[str, str, str]
    """The fields of ModelFiles."""
    key: str
    folder: str
    """The cache of conversions."""
    threads: int
