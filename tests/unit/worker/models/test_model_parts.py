"""Model folders that people really have: what loads passes the look at its files, and what does not is refused by name."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from embedfleet.protocol.errors import ModelError
from embedfleet.protocol.spec.run_spec import Kind, PassSpec
from embedfleet.worker.models.check import check_model

from ....model_folders import TENSORS, WIDTH, config, file, safetensors, save

ST = "sentence_transformers.sentence_transformer.modules"
POOLING = {"embedding_dimension": WIDTH, "pooling_mode": "mean"}
LEARNED = {"weight": (WIDTH, WIDTH)}


def spec_of(folder: Path, kind: Kind = "dense", **options: bool) -> PassSpec:
    return PassSpec(vector="v", kind=kind, model=str(folder), **options)


def refused(folder: Path, kind: Kind = "dense", **options: bool) -> str:
    with pytest.raises(ModelError) as caught:
        check_model(spec_of(folder, kind, **options))
    message = str(caught.value)
    assert "\n" not in message
    assert str(folder) in message
    return message


def put(folder: Path, path: str, content: Any) -> None:
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    file(path, content if isinstance(content, bytes | str) else json.dumps(content))(folder)


def with_modules(folder: Path, *modules: tuple[str, str]) -> Path:
    """A `modules.json` of (class, path)."""
    folder.mkdir(parents=True, exist_ok=True)
    listed = [
        {"idx": n, "name": str(n), "path": path, "type": one if "." in one else f"{ST}.{one}"}
        for n, (one, path) in enumerate(modules)
    ]
    put(folder, "modules.json", listed)
    return folder


def static(folder: Path, path: str = "") -> Path:
    with_modules(folder, ("StaticEmbedding", path), ("Normalize", "1_Normalize"))
    put(folder, f"{path}/tokenizer.json".lstrip("/"), {"model": {"type": "WordPiece", "vocab": {}}})
    put(folder, f"{path}/model.safetensors".lstrip("/"), safetensors({"embedding.weight": (12, WIDTH)}))
    return folder


def pooled(folder: Path, *more: tuple[str, str]) -> Path:
    save(folder)
    put(folder, "1_Pooling/config.json", POOLING)
    return with_modules(folder, ("Transformer", ""), ("Pooling", "1_Pooling"), *more)


class TestWhatLoads:
    """modules.json says where the parts lie, and a part needs what its class is loaded from."""

    @pytest.mark.parametrize("path", ["", ".", "0_StaticEmbedding"])
    def test_static_vectors_without_a_config(self, tmp_path: Path, path: str) -> None:
        check_model(spec_of(static(tmp_path / "m", path)))

    def test_static_vectors_that_model2vec_saved(self, tmp_path: Path) -> None:
        folder = static(tmp_path / "m", ".")
        put(folder, "config.json", {"model_type": "model2vec", "architectures": ["StaticModel"]})
        check_model(spec_of(folder))

    def test_a_transformer_in_a_folder_of_its_own(self, tmp_path: Path) -> None:
        folder = with_modules(tmp_path / "m", ("Transformer", "0_Transformer"), ("Pooling", "1_Pooling"))
        put(folder, "1_Pooling/config.json", POOLING)
        save(folder / "0_Transformer")
        check_model(spec_of(folder))

    def test_word_vectors(self, tmp_path: Path) -> None:
        folder = with_modules(tmp_path / "m", ("WordEmbeddings", "0_WordEmbeddings"), ("Pooling", "1_Pooling"))
        put(
            folder,
            "0_WordEmbeddings/wordembedding_config.json",
            {"tokenizer_class": f"{ST}.tokenizer.WhitespaceTokenizer"},
        )
        put(folder, "0_WordEmbeddings/whitespacetokenizer_config.json", {"vocab": ["a"]})
        put(folder, "0_WordEmbeddings/model.safetensors", safetensors({"emb_layer.weight": (1, WIDTH)}))
        put(folder, "1_Pooling/config.json", {"word_embedding_dimension": WIDTH})
        check_model(spec_of(folder))

    @pytest.mark.parametrize(
        ("module", "settings"),
        [
            ("WeightedLayerPooling", {"word_embedding_dimension": WIDTH}),
            ("Dense", {"in_features": WIDTH, "out_features": WIDTH}),
            ("LayerNorm", {"dimension": WIDTH}),
        ],
    )
    def test_modules_with_weights(self, tmp_path: Path, module: str, settings: dict[str, int]) -> None:
        folder = pooled(tmp_path / "m", (module, f"2_{module}"))
        put(folder, f"2_{module}/config.json", settings)
        put(folder, f"2_{module}/model.safetensors", safetensors(LEARNED))
        check_model(spec_of(folder))

    def test_a_router_leads_to_its_modules(self, tmp_path: Path) -> None:
        folder = with_modules(tmp_path / "m", ("sentence_transformers.base.modules.router.Router", ""))
        kinds = {"query_0_StaticEmbedding": f"{ST}.StaticEmbedding", "document_0_Transformer": f"{ST}.Transformer"}
        routes = {"query": ["query_0_StaticEmbedding"], "document": ["document_0_Transformer"]}
        put(folder, "router_config.json", {"types": kinds, "structure": routes, "parameters": {}})
        save(folder / "document_0_Transformer")
        put(folder, "query_0_StaticEmbedding/tokenizer.json", {"model": {}})
        put(folder, "query_0_StaticEmbedding/model.safetensors", safetensors(LEARNED))
        check_model(spec_of(folder))
        (folder / "query_0_StaticEmbedding" / "model.safetensors").write_bytes(b"torn")
        assert "query_0_StaticEmbedding/model.safetensors is damaged" in refused(folder)
        shutil.rmtree(folder / "document_0_Transformer")
        assert "document_0_Transformer/config.json, which is not there" in refused(folder)

    def test_a_normalize_needs_no_folder(self, tmp_path: Path) -> None:
        check_model(spec_of(pooled(tmp_path / "m", ("Normalize", "2_Normalize"))))

    def test_bytes_need_no_vocabulary(self, tmp_path: Path) -> None:
        folder = save(tmp_path / "m")
        (folder / "tokenizer.json").unlink()
        put(folder, "tokenizer_config.json", {"tokenizer_class": "ByT5Tokenizer"})
        check_model(spec_of(folder))

    def test_its_own_code_knows_what_it_loads(self, tmp_path: Path) -> None:
        folder = save(tmp_path / "m")
        with_modules(folder, ("custom_st.Transformer", ""), ("custom_st.Pooling", "1_Pooling"))
        check_model(spec_of(folder, trust_remote_code=True))


class TestWhatDoesNotMatter:
    """The reference takes a whole file before an index, and looks into no folder that no module names."""

    @pytest.mark.parametrize("index", ['{"weight_map":{"a":"model-00001-of-00002.safetensors"}}', "{}", "torn"])
    def test_a_stale_index(self, tmp_path: Path, index: str) -> None:
        folder = save(tmp_path / "m")
        put(folder, "model.safetensors.index.json", index)
        check_model(spec_of(folder))

    @pytest.mark.parametrize(
        ("path", "content"),
        [
            ("checkpoint-500/model.safetensors", b"torn"),
            ("checkpoint-500/pytorch_model.bin", "pickled"),
            ("checkpoint-500/model.safetensors.index.json", "{}"),
            ("onnx/tokenizer.json", "{"),
            ("onnx/config.json", '{"auto_map": {"AutoModel": "m.M"}}'),
            ("openvino/openvino_model.xml", "<net/>"),
            ("2_Dense/config.json", "{"),
            ("2_Dense/pytorch_model.bin", "pickled"),
            ("other.safetensors", b"torn"),
        ],
    )
    def test_what_no_module_names(self, tmp_path: Path, path: str, content: bytes | str) -> None:
        folder = pooled(tmp_path / "m")
        put(folder, path, content)
        check_model(spec_of(folder))

    def test_weights_elsewhere_are_none(self, tmp_path: Path) -> None:
        folder = save(tmp_path / "m")
        (folder / "onnx").mkdir()
        (folder / "model.safetensors").rename(folder / "onnx" / "model.safetensors")
        assert "has no safetensors weights" in refused(folder)

    def test_a_tokenizer_elsewhere_is_none(self, tmp_path: Path) -> None:
        folder = save(tmp_path / "m")
        (folder / "onnx").mkdir()
        (folder / "tokenizer.json").rename(folder / "onnx" / "tokenizer.json")
        assert "has no tokenizer" in refused(folder)


def gone(path: str) -> Callable[[Path], None]:
    return lambda folder: shutil.rmtree(folder / path)


class TestWhatIsMissing:
    """What modules.json names is there, and says what its module needs."""

    @pytest.mark.parametrize(
        ("spoil", "words"),
        [
            (gone("1_Pooling"), "names the module Pooling in 1_Pooling, and {folder}/1_Pooling is not there"),
            (lambda folder: (folder / "1_Pooling/config.json").unlink(), "{folder}/1_Pooling has no config.json"),
            (lambda folder: put(folder, "1_Pooling/config.json", "{"), "{folder}/1_Pooling/config.json is not JSON"),
            (
                lambda folder: put(folder, "1_Pooling/config.json", []),
                "{folder}/1_Pooling/config.json is not a JSON object",
            ),
            (
                lambda folder: put(folder, "1_Pooling/config.json", {}),
                "config.json has no embedding_dimension or word_",
            ),
            (
                lambda folder: put(folder, "sentence_bert_config.json", "{"),
                "{folder}/sentence_bert_config.json is not JSON",
            ),
            (
                lambda folder: put(folder, "config_sentence_transformers.json", []),
                "transformers.json is not a JSON object",
            ),
            (gone("2_Dense"), "names the module Dense in 2_Dense"),
            (
                lambda folder: (folder / "2_Dense/model.safetensors").unlink(),
                "{folder}/2_Dense has no safetensors weights",
            ),
            (lambda folder: put(folder, "modules.json", []), "{folder}/modules.json is an empty list"),
            (lambda folder: put(folder, "modules.json", {}), "{folder}/modules.json is not a list"),
            (lambda folder: put(folder, "modules.json", [{"type": f"{ST}.Pooling"}]), "a module without a path"),
            (lambda folder: put(folder, "modules.json", [{"path": ""}]), "a module without a type"),
            (
                lambda folder: put(folder, "modules.json", [{"type": "a.B", "path": "../x"}]),
                "outside of the model's folder",
            ),
            (
                lambda folder: with_modules(folder, ("Transformer", ""), ("Poolign", "1_Pooling")),
                "Poolign, which the inst",
            ),
            (lambda folder: with_modules(folder, ("Transformer", ""), ("mine.Mine", "")), "--trust-remote-code"),
        ],
    )
    def test_is_refused_by_name(self, tmp_path: Path, spoil: Callable[[Path], object], words: str) -> None:
        folder = pooled(tmp_path / "m", ("Dense", "2_Dense"))
        put(folder, "2_Dense/config.json", {"in_features": WIDTH, "out_features": WIDTH})
        put(folder, "2_Dense/model.safetensors", safetensors(LEARNED))
        check_model(spec_of(folder))
        spoil(folder)
        assert words.format(folder=folder) in refused(folder)

    def test_sparse_pooling_too(self, tmp_path: Path) -> None:
        folder = with_modules(
            save(tmp_path / "m", "BertForMaskedLM"), ("Transformer", ""), ("SpladePooling", "1_SpladePooling")
        )
        assert "names the module SpladePooling in 1_SpladePooling" in refused(folder, "sparse")

    @pytest.mark.parametrize("model_type", ["clip", "siglip"])
    def test_models_for_images_have_one_refusal(self, tmp_path: Path, model_type: str) -> None:
        folder = save(tmp_path / "m")
        config(model_type=model_type)(folder)
        assert "for images and their captions" in refused(folder)

    def test_an_old_clip_in_a_folder_of_its_own(self, tmp_path: Path) -> None:
        folder = with_modules(tmp_path / "m", ("sentence_transformers.models.CLIPModel", "0_CLIPModel"))
        save(folder / "0_CLIPModel")
        assert "for images and their captions" in refused(folder)


class TestAdapters:
    """An adapter is no model without its base."""

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        folder = save(tmp_path / "m")
        (folder / "config.json").unlink()
        (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")
        put(folder, "adapter_config.json", {"peft_type": "LORA", "base_model_name_or_path": "someone/base"})
        return folder

    @pytest.mark.skipif(importlib.util.find_spec("peft") is not None, reason="peft is installed")
    def test_is_refused_by_what_it_is(self, folder: Path) -> None:
        message = refused(folder)
        assert "is an adapter (LORA) for someone/base" in message
        assert "merge it into its base" in message
        assert "pip install peft" in message
        with_modules(folder, ("Transformer", ""), ("Pooling", "1_Pooling"))
        put(folder, "1_Pooling/config.json", POOLING)
        assert "is an adapter (LORA) for someone/base" in refused(folder)

    @pytest.mark.skipif(importlib.util.find_spec("peft") is not None, reason="peft is installed")
    def test_one_beside_weights_that_are_whole(self, tmp_path: Path) -> None:
        folder = save(tmp_path / "m")
        put(folder, "adapter_config.json", {"peft_type": "LORA"})
        assert "are merged already, delete adapter_config.json" in refused(folder)

    def test_with_peft_the_base_has_to_be_here(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        known = importlib.util.find_spec
        monkeypatch.setattr("importlib.util.find_spec", lambda name: known("json" if name == "peft" else name))
        monkeypatch.setenv("HF_HUB_CACHE", str(folder))
        assert "the base is not on this host. Fetch it (hf download someone/base)" in refused(folder)
        put(folder, "adapter_config.json", {"peft_type": "LORA", "base_model_name_or_path": str(save(folder / "base"))})
        check_model(spec_of(folder))


class TestSimilarity:
    """Vectors here are units, ranked by their cosine: a model that is not for that says so, and is taken so only on request."""

    def saying(self, folder: Path, similarity: str | None, *more: tuple[str, str]) -> Path:
        pooled(folder, *more)
        put(folder, "config_sentence_transformers.json", {"similarity_fn_name": similarity})
        return folder

    @pytest.mark.parametrize("similarity", ["dot", "euclidean", "manhattan"])
    def test_other_than_the_cosine_is_refused(self, tmp_path: Path, similarity: str) -> None:
        folder = self.saying(tmp_path / "m", similarity)
        message = refused(folder)
        assert "comparison by dot product" in message if similarity == "dot" else f"{similarity} distance" in message
        assert f"{folder}/config_sentence_transformers.json" in message
        assert "--normalize" in message
        check_model(spec_of(folder, normalize=True))

    @pytest.mark.parametrize("similarity", [None, "cosine"])
    def test_the_cosine(self, tmp_path: Path, similarity: str | None) -> None:
        check_model(spec_of(self.saying(tmp_path / "m", similarity)))

    @pytest.mark.parametrize("similarity", ["dot", "euclidean"])
    def test_of_units_the_ranking_is_the_same(self, tmp_path: Path, similarity: str) -> None:
        check_model(spec_of(self.saying(tmp_path / "m", similarity, ("Normalize", "2_Normalize"))))

    def test_of_units_the_sum_of_differences_ranks_otherwise(self, tmp_path: Path) -> None:
        folder = self.saying(tmp_path / "m", "manhattan", ("Normalize", "2_Normalize"))
        assert "manhattan distance" in refused(folder)

    def test_what_follows_a_normalize_undoes_it(self, tmp_path: Path) -> None:
        folder = self.saying(tmp_path / "m", "dot", ("Normalize", "2_Normalize"), ("LayerNorm", "3_LayerNorm"))
        put(folder, "3_LayerNorm/config.json", {"dimension": WIDTH})
        put(folder, "3_LayerNorm/model.safetensors", safetensors(LEARNED))
        assert "--normalize" in refused(folder)

    @pytest.mark.parametrize("name", ["multi-qa-mpnet-base-dot-v1", "msmarco-bert-base-dot-v5", "my_dot_model"])
    def test_older_ones_are_named_after_it(self, tmp_path: Path, name: str) -> None:
        folder = pooled(tmp_path / name)
        assert f"according to the name of {folder}" in refused(folder)
        put(folder, "config_sentence_transformers.json", {"similarity_fn_name": "cosine"})
        check_model(spec_of(folder))

    def test_a_name_that_only_contains_it(self, tmp_path: Path) -> None:
        check_model(spec_of(pooled(tmp_path / "anecdote-v1")))


def test_shards_come_second(tmp_path: Path) -> None:
    folder = save(tmp_path / "m")
    (folder / "model.safetensors").rename(folder / "a.safetensors")
    put(
        folder,
        "model.safetensors.index.json",
        {"weight_map": dict.fromkeys(TENSORS, "a.safetensors") | {"x": "b.safetensors"}},
    )
    assert f"{folder}/b.safetensors is missing" in refused(folder)
