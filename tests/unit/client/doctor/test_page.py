"""The screen of doctor: what docs/doctor.md shows is what is printed, and it fits 80 columns."""

from __future__ import annotations

import io
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from embedfleet.client.doctor import page
from embedfleet.client.doctor.cached_models import LocalModel
from embedfleet.client.doctor.diagnosis import Diagnosis, Facts, judge
from embedfleet.client.doctor.disks import Disk
from embedfleet.client.doctor.finding import GB
from embedfleet.client.doctor.gpus import Gpu, Gpus, GpuUser
from embedfleet.client.doctor.hub import Hub
from embedfleet.client.doctor.interpreter import Interpreter
from embedfleet.client.doctor.libraries import Library
from embedfleet.client.doctor.memory import Memory
from embedfleet.client.doctor.processor import Processor, measure_processor, processor_findings
from embedfleet.client.doctor.torch_build import TorchBuild
from embedfleet.client.output.console import SafeConsole
from embedfleet.protocol.host.free_cores import FreeCores

ROOT = Path(__file__).parents[4]

ALICE = GpuUser(4711, "python", "alice", 21_500_000_000)
FACTS = Facts(
    interpreter=Interpreter("0.1.0", "3.12.4", "/opt/venv/bin/python", "Linux-6.8.0-x86_64", container=True),
    libraries=(
        Library("msgspec", "0.19.0", "0.19"),
        Library("numpy", "1.26.4", "2.0"),
        Library("torch", "2.9.0+cu130", "2.6"),
    ),
    torch=TorchBuild("2.9.0+cu130", "13.0"),
    gpus=Gpus(1, "535.183.01", (12, 2), gpus=(Gpu("NVIDIA A100 (cuda:0)", "GPU-1", 85 * GB, 63 * GB, (ALICE,)),)),
    cores=FreeCores(tuple(range(16)), 16, 8.0),
    processor=Processor("AMD EPYC 9354", "x86_64", ("avx512_bf16", "avx2", "avx512f")),
    memory=Memory(52 * GB, 67 * GB),
    disks=(
        Disk("output", "/data", 640 * GB, 1_000 * GB),
        Disk("models", "/home/me/.cache/huggingface/hub", 80 * GB, 100 * GB),
    ),
    hub=Hub("https://huggingface.co", offline="HF_HUB_OFFLINE=1"),
    models=(LocalModel("BAAI/bge-m3", 2_292_000_000, flags=("--dense", "--heads")),),
    refused={},
    unchecked="",
    run=None,
)


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What is printed, in 80 columns."""
    made = io.StringIO()
    console = SafeConsole(file=made, width=80, soft_wrap=True)
    monkeypatch.setattr(page, "output_console", lambda: console)
    return made


def test_the_screen_of_the_page_is_what_is_printed(screen: io.StringIO) -> None:
    page.print_diagnosis(Diagnosis(FACTS, tuple(judge(FACTS))))
    lines = [line.rstrip() for line in screen.getvalue().splitlines()]
    assert max(map(len, lines)) <= 80
    assert "\n".join(lines) in (ROOT / "docs" / "doctor.md").read_text()


def test_a_host_without_faults(screen: io.StringIO) -> None:
    whole = replace(
        FACTS,
        libraries=(Library("numpy", "2.3.1", "2.0"),),
        torch=TorchBuild("2.9.0+cu126", "12.6"),
        gpus=replace(FACTS.gpus, gpus=(replace(FACTS.gpus.gpus[0], users=()),)),
        cores=FreeCores(tuple(range(16)), 16, math.inf),
    )
    diagnosis = Diagnosis(whole, tuple(judge(whole)))
    page.print_diagnosis(diagnosis)
    assert {one.level for one in diagnosis.findings} == {"ok"}
    assert screen.getvalue().splitlines()[-1].rstrip() == "nothing hinders a run"
    assert json.loads(json.dumps(diagnosis.to_json(), default=str))["ok"] is True


def test_a_name_does_not_control_the_terminal(screen: io.StringIO) -> None:
    odd = replace(FACTS, gpus=replace(FACTS.gpus, gpus=(Gpu("\x1b[31mred [b]", total=85 * GB, free=63 * GB),)))
    page.print_diagnosis(Diagnosis(odd, tuple(judge(odd))))
    assert "\x1b" not in screen.getvalue()
    assert "[b]" in screen.getvalue()


def test_what_a_processor_means_for_dtype(tmp_path: Path) -> None:
    file = tmp_path / "cpuinfo"
    for flags, words in (("avx2 amx_bf16 avx512_bf16", "bfloat16 by amx_bf16, avx512_bf16"), ("avx2", "no bfloat16")):
        file.write_text(f"processor\t: 0\nmodel name\t: Some CPU\nflags\t\t: fpu {flags}\n\nprocessor\t: 1\n")
        processor = replace(measure_processor(file), architecture="x86_64")
        (found,) = processor_findings(processor)
        assert (processor.name, words in found.text) == ("Some CPU", True)
    old = Processor("Old CPU", "x86_64", ("avx512f",))
    assert [one.name for one in processor_findings(old)] == ["no-avx2", "processor"]
