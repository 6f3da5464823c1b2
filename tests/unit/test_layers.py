"""Which sub-package may import which of its siblings. Every package may import `protocol` besides, and no other package."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MOST_MODULES = 15
PACKAGES = ("protocol", "coordinator", "worker", "exporter", "client")

LAYERS: dict[str, dict[str, set[str]]] = {
    "protocol": {
        "errors": set(),
        "version": set(),
        "statistics": set(),
        "text": {"errors"},
        "host": set(),
        "process": {"errors"},
        "spec": {"errors", "text"},
        "vectors": {"text", "spec"},
        "run_directory": {"errors", "spec", "statistics", "vectors"},
        "wire": {"errors", "spec", "run_directory"},
        "planning": {"errors", "spec", "wire"},
        "object_storage": {"errors", "host", "run_directory"},
        "source": {"errors", "text", "spec", "run_directory", "object_storage"},
        "finished_run": {"errors", "spec", "run_directory"},
        "index": {"errors", "spec", "vectors", "run_directory", "finished_run"},
    },
    "coordinator": {
        "background": set(),
        "core": set(),
        "reading": set(),
        "intake": {"reading"},
        "hosts": {"core"},
        "telemetry": {"core"},
        "runs": {"background", "core", "intake", "telemetry"},
        "fitting": {"intake", "runs"},
        "planning": {"reading", "intake", "hosts", "runs"},
        "links": {"background", "core", "hosts", "telemetry", "runs"},
        "poll": {"hosts"},
        "loop": {"background", "core", "hosts", "telemetry", "runs", "links", "poll"},
        "__main__": {"hosts", "telemetry", "loop"},
    },
    "worker": {
        "formats": set(),
        "models": {"formats"},
        "hub": {"models"},
        "device": set(),
        "tokenizing": set(),
        "backends": {"tokenizing"},
        "encoders": {"models", "device", "tokenizing", "backends"},
        "converted": {"models", "device", "tokenizing", "backends", "encoders"},
        "token_budget": {"encoders"},
        "speed_climb": set(),
        "adaptive_batch": {"encoders", "speed_climb"},
        "micro_batches": {"encoders", "token_budget"},
        "outcomes": {"device"},
        "token_allowance": {"device", "adaptive_batch"},
        "second_attempt": {"encoders"},
        "compute_stream": {"device", "encoders", "micro_batches", "outcomes", "second_attempt", "token_allowance"},
        "model_manager": {"device", "encoders", "converted"},
        "pipeline": {
            *("device", "encoders", "adaptive_batch", "micro_batches", "outcomes", "token_allowance", "compute_stream"),
            "model_manager",
        },
        "plain": {"formats", "models", "tokenizing", "encoders"},
        "planning": {"formats", "models", "tokenizing", "encoders"},
        "query_model": {"models", "encoders", "token_budget", "adaptive_batch", "plain"},
        "query": {"encoders", "query_model"},
        "entry": {"device", "model_manager", "outcomes", "pipeline", "tokenizing"},
        "__main__": {"device", "entry"},
    },
    "exporter": {
        "run_directory": set(),
        "ledger": set(),
        "segments": {"run_directory", "ledger"},
        "reports": set(),
        "index": set(),
        "formats": set(),
        "ranking": {"run_directory", "index", "formats"},
        "merging": {"run_directory", "segments", "index"},
        "command_line": {"run_directory"},
        "commit_path": {"run_directory", "ledger", "reports", "segments", "index"},
        "export_runtime": {"run_directory", "reports", "segments", "formats", "command_line", "commit_path"},
        "commands": {"index", "formats", "ranking", "merging", "command_line", "export_runtime"},
        "entry": {"run_directory", "export_runtime"},
        "__main__": {"entry"},
    },
    "client": {
        "client": set(),
        "arguments": set(),
        "output": set(),
        "run_directory": {"arguments", "output"},
        "verify": {"arguments", "output", "run_directory"},
        "evaluation": {"output", "run_directory", "verify"},
        "options": {"arguments", "evaluation"},
        "config": {"arguments", "options"},
        "search": {"arguments", "output", "run_directory", "verify", "options"},
        "upload": {"arguments", "output"},
        "flags": {"output"},
        "steps": {"client", "arguments", "output", "run_directory", "evaluation", "options"},
        "planning": {"arguments", "output", "run_directory", "options", "steps"},
        "notebook": {"arguments", "output", "run_directory", "evaluation", "options", "search", "steps"},
        "shards": {"options", "run_directory"},
        "encoding": {"options", "steps"},
        "ray": {"output", "steps", "shards"},
        "completion": set(),
        "models": {"arguments", "output"},
        "doctor": {"arguments", "output", "run_directory", "models"},
        "cli": {
            *("arguments", "output", "run_directory", "verify", "evaluation", "options", "config", "search", "upload"),
            *("flags", "steps", "shards", "planning", "ray", "completion", "models", "doctor"),
        },
    },
}
"""A row comes after all that it names, so there is no circle."""


def imports(path: Path) -> Iterator[str]:
    """The dotted names, below the root, of what a module imports of ours: at any place, for the type checker too."""
    package = path.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.ImportFrom):
            continue
        if node.level:
            base = package[: len(package) - node.level + 1]
        elif (node.module or "").split(".")[0] == "embedfleet":
            base = ()
        else:
            continue
        module = tuple((node.module or "").removeprefix("embedfleet").strip(".").split(".")) if node.module else ()
        yield from (".".join([*base, *module, alias.name]) for alias in node.names)


def sub_package(package: str, path: Path) -> str:
    below = path.relative_to(ROOT / package)
    return below.parts[0] if len(below.parts) > 1 else below.stem


@pytest.mark.parametrize("package", PACKAGES)
def test_each_import_is_in_the_table(package: str) -> None:
    table, wrong = LAYERS[package], list[str]()
    for path in sorted((ROOT / package).rglob("*.py")):
        room = sub_package(package, path)
        for name in imports(path):
            target, _, rest = name.partition(".")
            sibling = rest.split(".")[0]
            if target == package and sibling != room:
                allowed = room != "__init__" and sibling in table[room]
            else:
                allowed = target in (package, "protocol")
            if not allowed:
                wrong.append(f"{path.relative_to(ROOT)} imports {name}")
    assert not wrong


@pytest.mark.parametrize("package", PACKAGES)
def test_the_table_names_each_sub_package_after_those_that_it_imports(package: str) -> None:
    here = {sub_package(package, path) for path in (ROOT / package).rglob("*.py")} - {"__init__"}
    assert set(LAYERS[package]) == here
    before = set[str]()
    for room, siblings in LAYERS[package].items():
        assert siblings <= before, f"{package}/{room} imports what comes after it"
        before.add(room)


def test_no_folder_has_more_modules_than_one_takes_in_at_a_glance() -> None:
    for package in PACKAGES:
        for folder in {path.parent for path in (ROOT / package).rglob("*.py")}:
            modules = [path.name for path in folder.glob("*.py") if path.name != "__init__.py"]
            assert len(modules) <= MOST_MODULES, folder.relative_to(ROOT)


def test_no_module_imports_one_that_imports_it() -> None:
    """Directly or through others, at the top or within a function: a circle would raise CycleError, which names it."""
    modules = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts): path
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
    }
    graph = dict[str, set[str]]()
    for name, path in modules.items():
        targets = {one if one in modules else one.rpartition(".")[0] for one in imports(path)}
        graph[name] = targets & modules.keys() - {name}
    assert len(list(TopologicalSorter(graph).static_order())) == len(modules)
    with pytest.raises(CycleError):
        list(TopologicalSorter(graph | {"protocol.errors": {"protocol.source.corpus"}}).static_order())
