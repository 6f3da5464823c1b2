"""The records against run directories of 0.1.0 and of a later state: read and written again, each has the same bytes."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import msgspec
import pytest
from embedfleet.exporter.run_directory.stats import merge_stats
from embedfleet.protocol.errors import RunDirectoryError
from embedfleet.protocol.finished_run.published import decode_published, encode_published
from embedfleet.protocol.run_directory.json_bytes import pretty_json, read_json
from embedfleet.protocol.run_directory.layout import RunLayout
from embedfleet.protocol.run_directory.records.candidates import CandidatesRecord
from embedfleet.protocol.run_directory.records.exports import ExportRecord, ReportRecord
from embedfleet.protocol.run_directory.records.intake import FileStamp, IntakeRecord, SegmentLimits
from embedfleet.protocol.run_directory.records.manifest import Manifest, commit_manifest, read_manifest
from embedfleet.protocol.run_directory.records.passes import PassRecord, read_pass
from embedfleet.protocol.run_directory.records.sections import CrossEncoderRerankRun
from embedfleet.protocol.run_directory.records.stats import read_stats
from embedfleet.protocol.spec.fingerprint import Fingerprint
from embedfleet.protocol.spec.run_spec import RunSpec
from embedfleet.protocol.statistics.pass_stats import PassStats
from embedfleet.protocol.statistics.run_stats import RunStats, SessionStats, as_values

from .....witness.kept import ARCHIVES, RUNS

COMPACT = msgspec.json.encode
RECORDS: dict[str, tuple[Any, Callable[[Any], bytes]]] = {
    "*/pass.json": (PassRecord, pretty_json),
    "*/chunks/intake.json": (IntakeRecord, COMPACT),
    "*/chunks/limits.json": (SegmentLimits, COMPACT),
    "*/chunks/source.json": (list[FileStamp], COMPACT),
    "*/export/export.json": (ExportRecord, pretty_json),
    "*/rerank/report.json": (ReportRecord, pretty_json),
    "*/rerank/candidates.json": (CandidatesRecord, pretty_json),
    "*/rerank/rerank_run.json": (CrossEncoderRerankRun, pretty_json),
    "*/spec.json": (RunSpec, pretty_json),
}
"""By name of the file: the record, and how it is written."""
LATER = {"export.json": ["ours"], "candidates.json": ["fused", "query_seconds", "pairs_sha256", "state", "left_out"]}
"""Fields that 0.1.0 did not write: a record that is written again has them."""


def json_files(release: str) -> Iterator[tuple[str, bytes]]:
    """Name and content of each JSON file of the runs of a release."""
    with tarfile.open(ARCHIVES / f"{release}.tar.xz") as packed:
        for one in packed:
            if one.name.endswith(".json") and "/qdrant/" not in one.name and (file := packed.extractfile(one)):
                yield one.name, file.read()


@pytest.fixture(scope="module", params=RUNS)
def files(request: pytest.FixtureRequest) -> tuple[str, dict[str, bytes]]:
    return request.param, dict(json_files(request.param))


def test_each_file_is_written_again_with_the_same_bytes(files: tuple[str, dict[str, bytes]]) -> None:
    release, contents = files
    seen = set[str]()
    for name, content in contents.items():
        for pattern, (kind, encode) in RECORDS.items():
            if not fnmatch(name, pattern):
                continue
            seen.add(pattern)
            again = encode(msgspec.json.decode(content, type=kind))
            later = LATER.get(Path(name).name, []) if release == "0.1.0" else []
            if later:
                value, before = json.loads(again), json.loads(content)
                assert {key: one for key, one in value.items() if key in before} == before, name
                assert {*value} - {*before} <= {*later}, name
            else:
                assert again == content, name
    assert seen == {*RECORDS}


def test_a_manifest_is_written_again_with_the_same_bytes(files: tuple[str, dict[str, bytes]], tmp_path: Path) -> None:
    layout = RunLayout(tmp_path)
    manifests = [content for name, content in files[1].items() if Path(name).name == "manifest.json"]
    assert len(manifests) >= 7
    for content in manifests:
        layout.manifest.write_bytes(content)
        manifest = read_manifest(layout)
        assert manifest is not None
        assert manifest.done
        assert manifest.to_json() == json.loads(content)
        commit_manifest(layout, manifest)
        assert layout.manifest.read_bytes() == content


def test_the_published_segments_are_written_again_with_the_same_bytes(files: tuple[str, dict[str, bytes]]) -> None:
    for name, content in files[1].items():
        if Path(name).name == "published.json" and files[0] != "0.1.0":
            assert encode_published(decode_published(content)) == content


def test_the_figures_have_no_field_that_the_record_lacks(files: tuple[str, dict[str, bytes]], tmp_path: Path) -> None:
    for name, content in files[1].items():
        if Path(name).name != "stats.json":
            continue
        (tmp_path / "stats.json").write_bytes(content)
        found, raw = read_stats(RunLayout(tmp_path)), json.loads(content)
        assert {*raw} <= {*RunStats.__struct_fields__}
        read = as_values(found)
        for one, said in zip(read["passes"], raw["passes"], strict=True):
            assert {*said} <= {*PassStats.__struct_fields__}
            assert {key: one[key] for key in said} == said
        assert merge_stats(found, SessionStats(run="next"), {}).run == "next"  # the next session takes it up


def test_a_pass_has_all_that_its_fingerprint_has_and_in_its_order() -> None:
    fields = [name for name in PassRecord.__struct_fields__ if name in Fingerprint.__struct_fields__]
    assert fields == list(Fingerprint.__struct_fields__)


def test_the_fingerprint_of_a_pass_is_read_back() -> None:
    made = Fingerprint(
        model="m", revision="1", weights="w", dtype="float32", max_tokens=8, prompt="", pooling="mean", dim=4,
        normalized=True, settings={"k": 1.0}, versions={"torch": "2"}, files={"config.json": "9"},
    )  # fmt: skip
    record = PassRecord(vector="v", kind="dense", **msgspec.structs.asdict(made))
    assert record.identity() == made
    with pytest.raises(msgspec.ValidationError, match="missing required field `model`"):
        PassRecord(vector="v").identity()


@pytest.mark.parametrize(("weights", "before", "hashes"), [("a", "", {"a"}), ("a", "b", {"a", "b"}), ("", "", {""})])
def test_a_pass_knows_the_hashes_that_its_weights_had(weights: str, before: str, hashes: set[str]) -> None:
    assert PassRecord(weights=weights, weights_before=before).weight_hashes == hashes
    assert PassRecord().weight_hashes == {""}


@pytest.mark.parametrize("content", [b"", b"[]", b'{"passes": 1}', b'{"status": "\xff"}', b"[" * 100_000])
def test_a_damaged_file_is_one_kind_of_error(content: bytes, tmp_path: Path) -> None:
    layout = RunLayout(tmp_path)
    layout.pass_file("v").parent.mkdir(parents=True)
    assert read_manifest(layout) is None
    assert read_pass(layout, "v") is None
    assert read_stats(layout) == RunStats()
    layout.manifest.write_bytes(content)
    with pytest.raises(RunDirectoryError, match=r"manifest\.json: damaged \(.*\); delete it and run the same command"):
        read_manifest(layout)
    layout.manifest.unlink()
    layout.manifest.mkdir()
    with pytest.raises(RunDirectoryError, match=r"manifest\.json: cannot be read \(Is a directory\)"):
        read_json(layout.manifest, Manifest)
