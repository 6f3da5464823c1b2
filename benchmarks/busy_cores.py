"""Ours and sentence-transformers on the same chunks and cores: quiet, beside busy loops, and under a quota of one core.

    python examples/stdlib_corpus.py /tmp/corpus
    python benchmarks/busy_cores.py /tmp/corpus/corpus.jsonl [--limit 300] [--rounds 3] [--only busy] [--out FILE]

The candidates run in turn, in another order each round, and medians count. `command` is the wall clock of all of it; `pass`
is that of the encoding alone: of ours from the first worker at work to the last result, of the reference `encode` with its
model loaded and warmed up. Beside them run as many loops as there are cores. The kernel shares cores among sessions first
("autogroup" in sched(7)), so each candidate and each loop has a session of its own, as programs of several users have. The
quota is that of a cgroup (version 1 or 2, or a scope of systemd) that this script makes and removes; where it may not, the
part is left out. Absolute figures move with the neighbours: ratios count.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from machine import machine
from processes import embedfleet

os.environ.setdefault("HF_HUB_OFFLINE", "1")
CORES = len(os.sched_getaffinity(0))
REFERENCE = "sentence-transformers"
LOOP = "while True: pass"
ENCODE = """
import json, sys, time
from embedfleet.protocol.spec.run_spec import PassSpec
from embedfleet.worker.models.locate import find_model
from sentence_transformers import SentenceTransformer
texts = json.load(open(sys.argv[1]))
folder = find_model(PassSpec(vector="reference", kind="dense", model=sys.argv[2])).folder
model = SentenceTransformer(str(folder), device="cpu")
model.encode(["warm up"] * 8)
start = time.monotonic()
model.encode(texts, normalize_embeddings=True, show_progress_bar=False)
print(time.monotonic() - start)
"""
Wrap = Callable[[list[str]], list[str]]


@dataclass(slots=True)
class Candidate:
    """One setting, and the seconds that it took in each round."""

    name: str
    command: list[str]
    environment: dict[str, str] = field(default_factory=dict[str, str])
    whole: list[float] = field(default_factory=list[float])
    encoding: list[float] = field(default_factory=list[float])


def candidates(options: argparse.Namespace, folder: Path) -> list[Candidate]:
    """Ours by default, with a worker for each core, and on one core; the reference, and the reference with one thread."""

    def ours(name: str, *before: str, devices: str) -> Candidate:
        command = embedfleet(
            "run", str(options.corpus), "--out", str(folder / "run"), "--dense", options.model, "--dtype", "float32",
            "--limit", str(options.limit), "--index", "none", "--devices", devices,
        )  # fmt: skip
        return Candidate(name, [*before, *command])

    reference = [sys.executable, "-c", ENCODE, str(folder / "texts.json"), options.model]
    found = [ours("default", devices="cpu"), ours(f"cpu:{CORES}", devices=f"cpu:{CORES}")]
    if shutil.which("taskset"):
        first = min(os.sched_getaffinity(0))
        found.append(ours("one core by affinity", "taskset", "-c", str(first), devices="cpu"))
    return [
        *found,
        Candidate(REFERENCE, reference),
        Candidate(f"{REFERENCE}, one thread", reference, {"OMP_NUM_THREADS": "1"}),
    ]


def measure(one: Candidate, folder: Path, wrap: Wrap) -> None:
    """Run a candidate once."""
    out = folder / "run"
    shutil.rmtree(out, ignore_errors=True)
    start = time.monotonic()
    environment = os.environ | one.environment
    done = subprocess.run(
        wrap(one.command), capture_output=True, text=True, check=False, env=environment, start_new_session=True
    )
    if done.returncode:
        raise RuntimeError(f"{one.name}: {done.stderr}")
    one.whole.append(time.monotonic() - start)
    if one.name.startswith(REFERENCE):
        one.encoding.append(float(done.stdout))
    else:
        one.encoding.append(json.loads((out / "stats.json").read_text())["passes"][0]["seconds"])


def compare(name: str, options: argparse.Namespace, folder: Path, wrap: Wrap = lambda command: command) -> object:
    """Run all candidates in turn, print their medians, and return the seconds."""
    found = candidates(options, folder)
    for number in range(options.rounds):
        for one in found[number % len(found) :] + found[: number % len(found)]:
            measure(one, folder, wrap)
    reference = next(one for one in found if one.name == REFERENCE)
    best = min(statistics.median(one.encoding) for one in found if not one.name.startswith(REFERENCE))
    print(f"\n{name}; load of the last minute {os.getloadavg()[0]:.1f}")
    print(f"{'':36}{'chunks/s':>10}{'x reference':>13}{'of our best':>13}{'whole, s':>10}")
    for one in found:
        took = statistics.median(one.encoding)
        print(
            f"{one.name:36}{options.limit / took:10.1f}{statistics.median(reference.encoding) / took:13.2f}"
            f"{best / took:13.2f}{statistics.median(one.whole):10.1f}",
            flush=True,
        )
    return {one.name: {"pass": one.encoding, "command": one.whole} for one in found}


@contextlib.contextmanager
def busy_loops(number: int) -> Iterator[None]:
    """Loops that compute for nothing, each in a process."""
    loops = [subprocess.Popen([sys.executable, "-c", LOOP], start_new_session=True) for _ in range(number)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


@contextlib.contextmanager
def quota_of_one_core() -> Iterator[Wrap | None]:
    """What makes a command run under the quota; None where this is not permitted."""
    root = Path("/sys/fs/cgroup")
    folder = _cgroup(root, {"cpu.max": "100000 100000"}) or _cgroup(
        root / "cpu", {"cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": "100000"}
    )
    scope = ["systemd-run", "--scope", "--quiet", "-p", "CPUQuota=100%"]
    if folder is not None:
        enter = f'echo $$ > {folder}/cgroup.procs; exec "$@"'
        try:
            yield lambda command: ["sh", "-c", enter, "sh", *command]
        finally:
            folder.rmdir()
    elif shutil.which(scope[0]) and not subprocess.run([*scope, "true"], capture_output=True, check=False).returncode:
        yield lambda command: [*scope, *command]
    else:
        yield None


def _cgroup(parent: Path, values: dict[str, str]) -> Path | None:
    """A new cgroup with these values in its files; None if it cannot be made."""
    folder = parent / f"embedfleet-bench-{os.getpid()}"
    try:
        folder.mkdir()
        for name, value in values.items():
            with (folder / name).open(
                "r+"
            ) as file:  # in another file system than that of cgroups there is no such file
                file.write(value)
    except OSError:
        with contextlib.suppress(OSError):
            folder.rmdir()
        return None
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--limit", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", default="all-MiniLM-L6-v2")
    parser.add_argument("--only", choices=("quiet", "busy", "quota"), action="append")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    wanted = options.only or ("quiet", "busy", "quota")
    seconds: dict[str, object] = {}
    shared = Path("/proc/sys/kernel/sched_autogroup_enabled")
    groups = f"autogroup {shared.read_text().strip()}" if shared.exists() else "no autogroup"
    print(
        f"{CORES} cores, {' '.join(machine()['flags'])}, {groups}; {options.limit:,} chunks, {options.model} in float32"
    )
    with tempfile.TemporaryDirectory(prefix="busy-cores-") as made:
        folder = Path(made)
        measure(candidates(options, folder)[0], folder, lambda command: command)  # warms the page cache
        from embedfleet import open_run

        texts = open_run(folder / "run").chunks.column("text").to_pylist()
        (folder / "texts.json").write_text(json.dumps(texts))
        if "quiet" in wanted:
            seconds["quiet"] = compare("without load of ours", options, folder)
        if "busy" in wanted:
            with busy_loops(CORES):
                seconds["busy"] = compare(f"beside {CORES} busy loops", options, folder)
        if "quota" in wanted:
            with quota_of_one_core() as wrap:
                if wrap is None:
                    print("\na quota of one core: not permitted here")
                else:
                    seconds["quota"] = compare("under a quota of one core", options, folder, wrap)
    if options.out is not None:
        report = {"machine": machine(), "chunks": options.limit, "seconds": seconds}
        options.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
