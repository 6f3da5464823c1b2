"""How soon is a fault noticed, and how soon does a run go on? `python benchmarks/detection.py [--rounds 5] [--out FILE]`.

- death: a worker is killed; until the event `worker_lost` is written
- hang: a worker is stopped; from its deadline (`--batch-timeout`) until the event
- restart: from the kill until the next worker's lease
- rework: batches that the killed worker had in hand, which are computed again
- begin: from the command until its first lease; the same for a run that resumes behind many committed segments
- end: the coordinator is killed; until every process below the command has ended (when the system reaps it is its affair)

Medians and the worst of so many rounds, in seconds but for the rework.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
from make_corpus import write_corpus
from processes import embedfleet

DEADLINE = 2.0


class Running:
    """A run that is under way, and what it has written of itself."""

    def __init__(self, folder: Path, corpus: Path, model: str, *flags: str) -> None:
        self.out = folder / "run"
        command = embedfleet("run", str(corpus), "--out", str(self.out), "--dense", model, "--devices", "cpu", *flags)
        self.began = time.time()
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def events(self) -> list[dict[str, Any]]:
        path = self.out / "events.jsonl"
        lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
        return [json.loads(line) for line in lines]

    def wait_for(self, wanted: Callable[[dict[str, Any]], bool], seconds: float = 120.0) -> dict[str, Any]:
        """The first event of this session that is wanted."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            found = next((one for one in self.events() if one["time"] >= self.began and wanted(one)), None)
            if found is not None:
                return found
            time.sleep(0.005)
        raise TimeoutError(f"no such event within {seconds:.0f} s")

    def close(self) -> None:
        for one in [*psutil.Process(self.process.pid).children(recursive=True), self.process]:
            one.kill()
        self.process.wait()


def is_lease(event: dict[str, Any]) -> bool:
    return event["event"] == "lease" and event["phase"] == "before"


def is_working(event: dict[str, Any]) -> bool:
    return event["event"] == "lease" and event["phase"] == "hydrated"


def death(folder: Path, corpus: Path) -> dict[str, float]:
    """A killed worker: until the news, and until the next lease."""
    run = Running(folder, corpus, "fake:64,delay_ms=200", "--index", "none")
    pid = run.wait_for(is_lease)["pid"]
    begin = run.wait_for(is_lease)["time"] - run.began
    run.wait_for(is_working)
    time.sleep(0.3)
    killed = time.time()
    os.kill(pid, signal.SIGKILL)
    lost = run.wait_for(lambda one: one["event"] == "worker_lost")
    again = run.wait_for(lambda one: is_lease(one) and one["pid"] != pid)["time"]
    run.close()
    return {"death": lost["time"] - killed, "restart": again - killed, "begin": begin, "rework": lost["batches"]}


def hang(folder: Path, corpus: Path) -> dict[str, float]:
    """A stopped worker: how long after its deadline it is noticed. Its progress is at most a heartbeat old then."""
    run = Running(folder, corpus, "fake:64,delay_ms=200", "--index", "none", "--batch-timeout", str(DEADLINE))
    pid = run.wait_for(is_lease)["pid"]
    run.wait_for(is_working)
    time.sleep(0.3)
    stopped = time.time()
    os.kill(pid, signal.SIGSTOP)
    lost = run.wait_for(lambda one: one["event"] == "worker_lost")["time"]
    run.close()
    return {"hang": lost - stopped - DEADLINE}


def end(folder: Path, corpus: Path) -> dict[str, float]:
    """A killed coordinator: until nothing of the run is left."""
    run = Running(folder, corpus, "fake:64,delay_ms=200", "--index", "none")
    run.wait_for(is_working)
    family = psutil.Process(run.process.pid).children(recursive=True)
    coordinator = next(one for one in family if "embedfleet.coordinator" in one.cmdline())
    killed = time.monotonic()
    coordinator.kill()
    while not all(has_ended(one) for one in family):
        time.sleep(0.002)
    gone = time.monotonic() - killed
    run.process.wait()
    return {"end": gone}


def has_ended(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def resume(rows: int) -> dict[str, float]:
    """A run of so many rows of which the last segment is missing: until its first lease."""
    with tempfile.TemporaryDirectory(prefix="resume-") as name:
        folder = Path(name)
        corpus = folder / "corpus.jsonl"
        write_corpus(corpus, rows)
        flags = ("--dense", "fake:8", "--index", "none", "--devices", "cpu")
        subprocess.run(
            embedfleet("run", str(corpus), "--out", str(folder / "run"), *flags), check=True, capture_output=True
        )
        segments = sorted(
            (folder / "run" / "vectors" / "dense-fake-8").glob("*.parquet"), key=lambda path: int(path.stem)
        )
        segments[-1].unlink()
        run = Running(folder, corpus, "fake:8", "--index", "none")
        begin = run.wait_for(is_lease)["time"] - run.began
        run.process.wait()
        return {"resume": begin, "resume_segments": float(len(segments))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--resume-rows", type=int, default=10_000_000, help="0 leaves it out")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    found: dict[str, list[float]] = {}
    for _ in range(options.rounds):
        for measure in (death, hang, end):
            with tempfile.TemporaryDirectory(prefix="detection-") as folder:
                corpus = Path(folder) / "corpus.jsonl"
                write_corpus(corpus, 100_000)
                for name, seconds in measure(Path(folder), corpus).items():
                    found.setdefault(name, []).append(seconds)
    if options.resume_rows:
        for name, value in resume(options.resume_rows).items():
            found[name] = [value]
    report = {name: {"median": statistics.median(values), "worst": max(values)} for name, values in found.items()}
    for name, values in report.items():
        print(f"{name:<16} median {values['median']:8.3f}   worst {values['worst']:8.3f}")
    if options.out is not None:
        options.out.write_text(json.dumps({"rounds": options.rounds, **report}, indent=2) + "\n")


if __name__ == "__main__":
    main()
