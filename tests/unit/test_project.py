"""What must hold of the project as a whole: who imports whom, what is public, what is heavy, what is packaged."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import embedfleet
import pytest
from embedfleet.protocol import version
from embedfleet.protocol.spec import catalog

ROOT = Path(__file__).parents[2]
PACKAGES = ("protocol", "coordinator", "worker", "exporter", "client")
PUBLIC = [
    "Against", "Backend", "Basis", "ChunkSource", "Client", "Cost", "DeviceError", "DeviceState", "Difference", "Dtype",
    "Embedder", "EmbedfleetError", "EnsembleSpec", "Evaluation", "Event", "Figure", "Figures", "Filters", "FloatArray",
    "Form", "Hit", "Index", "Int8Ranges", "JudgedChunk", "Kind", "Metadata", "Method", "ModelError", "Multivectors", "NpyDtype",
    "OnlyIt", "Output", "PassProgress", "PassSpec", "PassSummary", "Placement", "Plan", "PlannedMemory", "PlannedPass",
    "PlannedVector", "Progress", "QuarantineLine", "QueryRanking",
    "QueryResult", "RankedChunk", "Ranking", "Recommendation", "Run", "RunDirectoryError", "RunEnded", "RunFailed",
    "RunOptions", "RunSpec", "RunState", "RunTelemetry", "SetFigures", "Setting", "Shard", "SignalFigures", "SignalModel",
    "SourceError", "SparseVectors", "SpecMismatch", "Status", "Storage", "Truncation", "TruncationRecord",
    "Unreachable", "UsageError", "__version__", "merge", "open_run", "plan",
]  # fmt: skip
HEAVY = {
    "torch",
    "openvino",
    "onnxruntime",
    "transformers",
    "sentence_transformers",
    "tokenizers",
    "huggingface_hub",
    "qdrant_client",
    "tenacity",
}
MOST_LINES = 400


def sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def packages_used(path: Path) -> Iterator[str]:
    """The packages of this project that a file imports, wherever in it."""
    inside = path.relative_to(ROOT).with_suffix("").parts
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [one.name.split(".") for one in node.names]
            yield from (name[1] for name in names if name[0] == "embedfleet" and len(name) > 1)
        elif isinstance(node, ast.ImportFrom) and node.level:
            base = [*inside[: len(inside) - node.level], *(node.module or "").split(".")]
            found = [one for one in base if one] or [one.name for one in node.names]
            yield from found[:1] if base[0] else found
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "embedfleet":
            parts = (node.module or "").split(".")[1:]
            yield from parts[:1] or [one.name for one in node.names]


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_imports_only_itself_and_protocol(package: str) -> None:
    allowed = {package, "protocol"}
    wrong = {
        f"{path.relative_to(ROOT)}: {used}"
        for path in sources(package)
        for used in packages_used(path)
        if used not in allowed
    }
    assert not wrong


def test_the_check_of_imports_sees_every_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    code = (
        "from ..a.x import y\nfrom .. import b\nfrom ...c import z\nimport embedfleet.d.x\nfrom embedfleet.e import x\n"
    )
    code += "from embedfleet import f\nfrom . import here\nfrom .x import y\ndef late():\n    from ..g import x\n"
    (tmp_path / "one" / "two").mkdir(parents=True)
    (tmp_path / "one" / "m.py").write_text(code.replace("from ...c import z\n", ""))
    (tmp_path / "one" / "two" / "m.py").write_text("from ...c import z\nfrom ..x import y\n")
    assert sorted(packages_used(tmp_path / "one" / "m.py")) == ["a", "b", "d", "e", "f", "g", "one", "one"]
    assert sorted(packages_used(tmp_path / "one" / "two" / "m.py")) == ["c", "one"]


def test_the_public_face_is_fixed_and_every_name_resolves() -> None:
    assert embedfleet.__all__ == PUBLIC
    assert dir(embedfleet) == sorted(PUBLIC)
    for name in PUBLIC:
        assert getattr(embedfleet, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'open'"):
        _ = embedfleet.open


LIGHT = (
    "embedfleet",
    "embedfleet.client.client",
    "embedfleet.client.notebook.embedder",
    "embedfleet.client.cli.app",
    "embedfleet.client.run_directory.reader",
    "embedfleet.coordinator.loop",
    "embedfleet.exporter.entry",
    "embedfleet.worker.entry",
)


def tied_to_their_parents() -> list[str]:
    """The modules that end with the process that started them once they have called `lifeline.hold`."""
    found = [path for path in sources(*PACKAGES) if "lifeline.hold()" in path.read_text()]
    return [".".join(("embedfleet", *path.relative_to(ROOT).with_suffix("").parts)) for path in found]


def test_what_is_imported_early_loads_nothing_heavy() -> None:
    """That takes seconds, in which a command shows nothing, and a child may outlive its parent."""
    tied = tied_to_their_parents()
    assert "embedfleet.worker.converted.convert" in tied
    code = (
        "import importlib, json, sys\n"
        "for name in sys.argv[1:]:\n"
        "    importlib.import_module(name)\n"
        "    print(json.dumps([name, [one for one in sys.modules if '.' not in one]]))"
    )
    names = [*LIGHT, *tied]
    done = subprocess.run([sys.executable, "-c", code, *names], capture_output=True, text=True, timeout=60, check=True)
    loaded = dict(json.loads(line) for line in done.stdout.splitlines())
    assert {name: found for name in names if (found := HEAVY.intersection(loaded[name]))} == {}


def test_importing_embedfleet_alone_loads_next_to_nothing() -> None:
    code = "import json, sys, embedfleet; print(json.dumps([one for one in sys.modules if '.' not in one]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert not {"zmq", "numpy", "pyarrow", "msgspec", "typer", "rich"}.intersection(json.loads(done.stdout))


def test_a_new_run_starts_its_coordinator_before_numpy_and_arrow_are_loaded(tmp_path: Path) -> None:
    (tmp_path / "c.jsonl").write_text('{"id": "a", "text": "one"}\n')
    code = (
        "import json, sys\n"
        "from embedfleet.client.cli.app import main\n"
        "from embedfleet.client.steps.private_coordinator import PrivateCoordinator as Private\n"
        "def start(self):\n"
        "    print(json.dumps([one for one in sys.modules if '.' not in one]))\n"
        "    raise SystemExit(0)\n"
        "Private.__enter__ = start\n"
        "sys.argv = ['embedfleet', 'run', 'c.jsonl', '--out', 'run', '--dense', 'fake:8']\n"
        "main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True, cwd=tmp_path
    )
    assert not {"numpy", "pyarrow"}.intersection(json.loads(done.stdout))


def test_the_face_for_ray_has_a_folder_that_hides_no_library(project: dict[str, Any]) -> None:
    assert project["tool"]["setuptools"]["package-dir"] == {"embedfleet": ".", "embedfleet.ray": "ray_api"}
    assert not (ROOT / "ray").exists()
    code = "import embedfleet.ray, sys; print('ray' in sys.modules, embedfleet.ray.__all__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "False ['Encode']\n"


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_the_version_is_the_same_everywhere(project: dict[str, Any]) -> None:
    assert project["project"]["version"] == version.__version__ == embedfleet.__version__
    assert f"[{version.__version__}]" in (ROOT / "CHANGELOG.md").read_text()


def test_every_package_is_listed_and_nothing_else(project: dict[str, Any]) -> None:
    folders = {path.parent for path in [ROOT / "__init__.py", *sources(*PACKAGES)] if path.name == "__init__.py"}
    found = {".".join(("embedfleet", *folder.relative_to(ROOT).parts)) for folder in folders}
    assert set(project["tool"]["setuptools"]["packages"]) == found | {"embedfleet.ray"}
    without = {path.parent for path in sources(*PACKAGES)} - folders
    assert not without, "folders with code and without __init__.py"


def test_data_files_of_the_packages_are_listed(project: dict[str, Any]) -> None:
    listed = {
        "/".join((*package.split(".")[1:], name))
        for package, names in project["tool"]["setuptools"]["package-data"].items()
        for name in names
    }
    kinds = {".py", ".pyc", ".md"}
    found = [
        path for one in PACKAGES for path in (ROOT / one).rglob("*") if path.is_file() and path.suffix not in kinds
    ]
    assert {path.relative_to(ROOT).as_posix() for path in found} <= listed
    assert all((ROOT / one).is_file() for one in listed)


def test_the_pinned_versions_fit_what_is_asked_for(project: dict[str, Any]) -> None:
    constraints = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line[:1] not in ("", "#")]
    assert all("==" in line for line in constraints)
    pinned = dict(line.split("==") for line in constraints)
    asked = [one for extra in project["project"]["optional-dependencies"].values() for one in extra]
    exact = dict(one.split("==") for one in asked if "==" in one and one.split("==")[0] in pinned)
    assert all(pinned[name] == wanted for name, wanted in exact.items())
    assert "torch" in pinned, "the Makefile installs the torch that is pinned there"


def test_the_table_of_sub_packages_is_whole_and_names_files_that_are_there() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    rows = text[text.index("| sub-package |") : text.index("## Where to change")].splitlines()[2:]
    table = {row.split("|")[1].strip().strip("`/"): row.split("|")[2] for row in rows if row}
    folders = {path.parent.relative_to(ROOT).as_posix() for path in sources(*PACKAGES) if path.name == "__init__.py"}
    assert set(table) == folders
    named = [(folder, name) for folder, what in table.items() for name in re.findall(r"`([\w/.]+\.(?:py|json))`", what)]
    assert len(named) > 20
    assert [f"{folder}/{name}" for folder, name in named if not (ROOT / folder / name).exists()] == []


def test_every_flag_is_documented() -> None:
    import typer.main
    from embedfleet.client.cli.app import app

    told = "".join(path.read_text() for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")))
    commands: dict[str, Any] = typer.main.get_command(app).commands  # pyright: ignore[reportAttributeAccessIssue] - a group
    options = [
        one
        for name in ("run", "plan", "search", "merge", "export", "upload", "verify", "info", "doctor")
        for one in commands[name].params
    ]
    spelled = [flags for one in options if (flags := [f for f in (*one.opts, *one.secondary_opts) if f[:2] == "--"])]
    absent = [flags for flags in spelled if not any(re.search(rf"{flag}(?![\w-])", told) for flag in flags)]
    assert absent == []


def test_the_page_of_the_command_line_is_what_typer_makes_of_it(tmp_path: Path) -> None:
    """`make docs` writes it anew."""
    made = tmp_path / "cli.md"
    command = [
        "-m",
        "typer",
        "embedfleet.client.cli.app",
        "utils",
        "docs",
        "--name",
        "embedfleet",
        "--title",
        "Command line",
    ]
    subprocess.run([sys.executable, *command, "--output", made], capture_output=True, timeout=60, check=True)
    assert (ROOT / "docs" / "cli.md").read_text() == made.read_text()


def test_coverage_is_measured_of_files_that_are_there_and_nothing_hides(project: dict[str, Any]) -> None:
    """A pattern that matches nothing would leave its file out of the report without a word."""
    coverage = project["tool"]["coverage"]
    assert (coverage["run"]["branch"], coverage["report"]["fail_under"]) == (True, 100)
    measured = [ROOT / pattern.removeprefix("*/") for pattern in coverage["run"]["include"]]
    assert [path for path in measured if not path.is_file()] == []
    assert [path for path in measured if "pragma: no cover" in path.read_text()] == []


def test_no_file_is_long() -> None:
    paths = [ROOT / "__init__.py", *sources(*PACKAGES, "examples", "deploy", "benchmarks")]
    lines = {path.relative_to(ROOT).as_posix(): len(path.read_text().splitlines()) for path in paths}
    assert {name: count for name, count in lines.items() if count > MOST_LINES} == {}


def test_every_module_says_what_it_is() -> None:
    silent = [
        path for path in sources(*PACKAGES, "examples", "deploy") if not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert not silent


def test_the_thin_client_is_short_and_needs_no_embedfleet() -> None:
    path = ROOT / "deploy" / "thin_client.py"
    text = path.read_text()
    assert len(text.splitlines()) < 60
    imported = {
        name.split(".")[0]
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [one.name for one in node.names])
    }
    assert imported - sys.stdlib_module_names == {"msgpack", "pyarrow", "zmq"}
    assert f"PROTOCOL = {version.PROTOCOL}\n" in text


class TestCatalogue:
    def test_every_entry_says_what_a_run_needs_to_know(self) -> None:
        entries = catalog.catalog()
        assert entries
        for alias, entry in entries.items():
            owner, _, name = entry.hub.partition("/")
            assert owner, alias
            assert name, alias
            assert "/" not in alias, "would be taken for a hub id"
            assert entry.dim > 0, alias
            assert entry.max_tokens > 0, alias

    def test_names_are_unique_in_any_case(self) -> None:
        entries = catalog.catalog()
        names = [alias.lower() for alias in entries] + [entry.hub.lower() for entry in entries.values()]
        assert len(set(names)) == len(names)

    def test_the_file_has_no_key_twice_and_none_that_is_not_read(self) -> None:
        def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
            assert len(dict(pairs)) == len(pairs)
            return dict(pairs)

        raw = json.loads((ROOT / "protocol" / "spec" / "models.json").read_text(), object_pairs_hook=once)
        assert {key for entry in raw.values() for key in entry} <= set(catalog.CatalogEntry.__struct_fields__)

    def test_a_model_is_found_by_alias_or_hub_id_in_any_case(self) -> None:
        entry = catalog.find("all-minilm-L6-V2")
        assert entry is not None
        assert entry.hub == "sentence-transformers/all-MiniLM-L6-v2"
        assert catalog.find("Sentence-Transformers/all-MiniLM-L6-v2") is entry
        assert catalog.find("nobody/nothing") is None
        of_all = [one for kind in ("dense", "sparse", "multivector", "rerank") for one in catalog.aliases(kind)]
        assert sorted(of_all) == sorted(catalog.catalog())
