"""Two micro-batches open on a GPU: copies that wait for nothing, and results that are those of each alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from embedfleet.protocol.spec.run_spec import Kind, PassSpec
from embedfleet.protocol.text.query_pairs import join_pair
from embedfleet.worker.encoders.choose import load_encoder

from .. import tiny_models
from ..tiny_models import TEXTS

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(900)]

KINDS: dict[Kind, Any] = {
    "dense": tiny_models.bert,
    "sparse": tiny_models.splade,
    "multivector": tiny_models.colbert,
    "bge-m3": tiny_models.bge_m3,
    "rerank": tiny_models.cross_encoder,
}


def encoder_of(kind: Kind, folder: Path) -> Any:
    encoder: Any = load_encoder(PassSpec(vector="v", kind=kind, model=str(KINDS[kind](folder))), "cuda", 2)
    encoder.hydrate()
    return encoder


def texts_of(kind: Kind) -> list[str]:
    return [join_pair("a query", text) for text in TEXTS] if kind == "rerank" else list(TEXTS)


def test_uploads_keep_their_numbers_while_the_ring_goes_round() -> None:
    import torch
    from embedfleet.worker.backends.staging import Staging

    staging = Staging(torch.device("cuda", 0), 3)
    parts = [[np.full(50_000, number, np.int32), np.arange(number, dtype=np.int32)] for number in range(40)]
    busy = torch.ones(4_096, 4_096, device="cuda")
    for _ in range(20):
        busy = busy @ busy / 4_096  # the copies below are behind it
    copies = [staging.upload(some) for some in parts]
    for some, one in zip(parts, copies, strict=True):
        np.testing.assert_array_equal(one.cpu().numpy(), np.concatenate(some))


def test_a_download_is_pinned_and_does_not_wait_for_what_was_launched_later() -> None:
    import torch
    from embedfleet.worker.backends.staging import Staging

    staging = Staging(torch.device("cuda", 0), 3)
    landing = staging.download({"a": torch.arange(1_000, device="cuda", dtype=torch.float16)})
    weights = torch.arange(6, device="cuda")
    mark = staging.mark()
    busy = torch.ones(8_192, 8_192, device="cuda")
    for _ in range(50):
        busy = busy @ busy / 8_192
    later = staging.mark()
    assert landing.tensors["a"].is_pinned()
    np.testing.assert_array_equal(landing.wait()["a"], np.arange(1_000, dtype=np.float16))
    with staging.behind(mark):
        assert weights.nonzero().flatten().tolist() == [1, 2, 3, 4, 5]
    assert isinstance(later, torch.cuda.Event)
    assert not later.query(), "the products above take longer than both copies"
    later.synchronize()


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_launched_before_the_other_is_collected_has_the_numbers_that_it_has_alone(
    tmp_path: Path, kind: Kind
) -> None:
    encoder = encoder_of(kind, tmp_path / "model")
    assert encoder.depth == 2
    texts = texts_of(kind)
    prepared = encoder.prepare(texts)
    halves = [np.array(rows, np.int32) for rows in (range(0, len(texts), 2), range(1, len(texts), 2))]
    alone = encoder.gather(len(texts), [(rows, encoder.compute(prepared, rows)) for rows in halves])
    for _ in range(20):  # the ring goes round several times
        launched = [encoder.launch(prepared, rows) for rows in halves]
        parts = [(rows, one.collect()) for rows, one in zip(halves, launched, strict=True)]
        assert all(encoder.fits(part, len(rows)) for rows, part in parts)
        for name, array in encoder.gather(len(texts), parts).items():
            np.testing.assert_array_equal(array, alone[name])


@pytest.mark.parametrize("kind", KINDS)
def test_a_second_attempt_leaves_the_weights_and_what_is_open_as_they_are(tmp_path: Path, kind: Kind) -> None:
    encoder = encoder_of(kind, tmp_path / "model")
    prepared, rows = encoder.prepare(texts_of(kind)), np.arange(len(TEXTS), dtype=np.int32)
    places = [one.data_ptr() for one in encoder._model.parameters()]
    alone = encoder.gather(len(rows), [(rows, encoder.compute(prepared, rows))])
    launched = encoder.launch(prepared, rows)
    again = encoder.recompute(prepared, rows)
    assert encoder.fits(again, len(rows))
    assert not encoder.unusable(again).any()
    for name, array in encoder.gather(len(rows), [(rows, launched.collect())]).items():
        np.testing.assert_array_equal(array, alone[name])
    assert [one.data_ptr() for one in encoder._model.parameters()] == places
    exact: Any = load_encoder(PassSpec(vector="v", kind=kind, model=str(tmp_path / "model"), dtype="float32"), "cpu", 2)
    if kind == "dense":
        ours = np.stack(again)
        theirs = exact.compute(exact.prepare(TEXTS), rows)
        assert np.einsum("ij,ij->i", ours, theirs).min() >= 0.999, "of weights that were rounded once"


def test_a_long_pass_is_compiled_and_has_the_same_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    spec = PassSpec(vector="v", kind="dense", model=str(tiny_models.bert(tmp_path / "model")))
    found: list[Any] = []
    for tokens in (0, 1 << 60):
        encoder: Any = load_encoder(msgspec.structs.replace(spec, expected_tokens=tokens), "cuda", 2)
        placement = encoder.hydrate()
        assert encoder.notes == ()
        assert ("compiled (" in placement) == bool(tokens), placement
        found.append(encoder.compute(encoder.prepare(TEXTS), np.arange(len(TEXTS), dtype=np.int32)))
    assert np.einsum("ij,ij->i", *found).min() >= 0.999
