"""The diagnosis: all facts, and all findings."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ...protocol.host.free_cores import FreeCores, find_free_cores
from ...protocol.object_storage.address import STORES, is_address, parse_address
from ...protocol.object_storage.copies import cache_of
from ..arguments import expand_path
from .cached_models import (
    LocalModel,
    apply_refusals,
    check_findings,
    checks_for,
    client_is_here,
    list_local,
    model_findings,
    offline_findings,
)
from .cores import core_findings
from .disks import Disk, disk_findings, measure_disks
from .finding import Finding
from .gpus import Gpus, gpu_findings, measure_gpus
from .hub import Hub, HubProbe, hub_findings
from .interpreter import Interpreter, interpreter_findings, measure_interpreter
from .libraries import Library, library_findings, measure_libraries
from .memory import Memory, measure_memory, memory_findings
from .model_checks import ModelChecks
from .processor import Processor, measure_processor, processor_findings
from .run_folder import RUN, RunFolder, measure_address, measure_run, run_findings
from .torch_build import TorchBuild, measure_torch, torch_findings

NO_CLIENT = "huggingface_hub is not installed (of the extra torch)"


@dataclass(frozen=True, slots=True)
class Facts:
    """What was measured. `refused` has the refused models of the run by vector, `unchecked` why none could be checked."""

    interpreter: Interpreter
    libraries: tuple[Library, ...]
    torch: TorchBuild | None
    gpus: Gpus
    cores: FreeCores
    processor: Processor
    memory: Memory
    disks: tuple[Disk, ...]
    hub: Hub
    models: tuple[LocalModel, ...]
    refused: dict[str, str]
    unchecked: str
    run: RunFolder | None


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Facts and what follows from them."""

    facts: Facts
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing hinders a run."""
        return self.count("problem") == 0

    def count(self, level: str) -> int:
        """How many findings are of a level."""
        return sum(one.level == level for one in self.findings)

    def to_json(self) -> dict[str, Any]:
        findings = [asdict(one) for one in self.findings]
        counts = {"problems": self.count("problem"), "notes": self.count("note")}
        return {"ok": self.ok, **counts, "findings": findings, "facts": asdict(self.facts)}


def diagnose(folder: Path | None) -> Diagnosis:
    """Measure and judge this host, and `folder` if it is given: a run directory, or where one is to be. Changes nothing.

    Of an address in object storage, whether it can be read and written, for which an object is put there and deleted.
    """
    facts = measure(folder)
    return Diagnosis(facts, tuple(judge(facts)))


def measure(folder: Path | None) -> Facts:
    """All facts. Takes some seconds at most: the driver, the hub and the check of models have limits."""
    address = parse_address(folder, "DIR") if folder is not None and is_address(folder) else None
    place = expand_path(folder, "DIR").absolute() if folder is not None and address is None else Path.cwd()
    cores = find_free_cores()  # before any process is started here
    probe = HubProbe()
    run, needed = None, []
    if folder is not None:
        run, needed = measure_address(address) if address is not None else measure_run(place)
    local = list_local()
    checks = ModelChecks([*(checks_for(local) if client_is_here() else ()), *needed])
    interpreter, libraries, torch = measure_interpreter(), measure_libraries(), measure_torch()
    gpus, processor, memory = measure_gpus(), measure_processor(), measure_memory()
    if address is not None and address.scheme in STORES:
        disks = measure_disks(cache_of(address, "spools").parent, "spools")
    else:
        disks = measure_disks(place)
    refused, trouble = checks.result()
    unchecked = trouble or ("" if client_is_here() or not local else NO_CLIENT)
    return Facts(
        interpreter=interpreter,
        libraries=libraries,
        torch=torch,
        gpus=gpus,
        cores=cores,
        processor=processor,
        memory=memory,
        disks=disks,
        hub=probe.result(),
        models=tuple(apply_refusals(local, refused) if not unchecked else local),
        refused={vector: message for vector, message in refused.items() if vector.startswith(RUN)},
        unchecked=unchecked,
        run=run,
    )


def judge(facts: Facts) -> Iterable[Finding]:
    """All findings, by topic. A function of the facts alone."""
    yield from interpreter_findings(facts.interpreter)
    yield from library_findings(facts.libraries)
    yield from torch_findings(facts.torch, facts.gpus)
    yield from gpu_findings(facts.gpus)
    yield from core_findings(facts.cores)
    yield from processor_findings(facts.processor)
    yield from memory_findings(facts.memory)
    for disk in facts.disks:
        yield from disk_findings(disk)
    yield from hub_findings(facts.hub)
    yield from check_findings(facts.unchecked)
    for model in facts.models:
        yield from model_findings(model)
    yield from offline_findings(facts.models, facts.hub)
    if facts.run is not None:
        yield from run_findings(facts.run, facts.refused, facts.hub)
