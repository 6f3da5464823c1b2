"""The Slurm scripts against a stand-in for its contract: variables, dependencies, signals, exit codes, requeueing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from embedfleet import open_run

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "deploy" / "slurm"

SLURM = '''
"""sbatch, scontrol and scancel for the tests. A job runs at once, or when it is released if it is held, or when those before
it have ended, and each task of an array in turn."""
import json, os, pathlib, signal, subprocess, sys, time

folder = pathlib.Path(os.environ["STANDIN"])


def value(options, name):
    return next((one.partition("=")[2] for one in options if one.startswith(f"--{name}=")), "")


def submit(words):
    options = []
    while words and words[0].startswith("--"):
        options.append(words.pop(0))
    if int(value(options, "array").partition("-")[2] or 0) > 1000:  # MaxArraySize is 1001
        sys.exit("sbatch: error: Batch job submission failed: Invalid job array specification")
    number = 100 + len(list(folder.glob("job-*")))
    (folder / f"job-{number}").write_text(json.dumps([options, words]))
    print(number, flush=True)
    run_ready()


def run_ready():
    for path in sorted(folder.glob("job-*")):
        number = path.name.partition("-")[2]
        options, words = json.loads(path.read_text())
        code, before = folder / f"code-{number}", value(options, "dependency").rpartition(":")[2]
        is_held = "--hold" in options and not (folder / f"released-{number}").exists()
        if is_held or code.exists() or (before and not (folder / f"code-{before}").exists()):
            continue
        if before and (folder / f"code-{before}").read_text() != "0":
            code.write_text("never started")
        else:
            code.write_text(str(run(number, options, words)))


def run(number, options, words):
    array = value(options, "array")
    worst = 0
    for task in range(int(array.partition("-")[2]) + 1) if array else [None]:
        variables = dict(os.environ, SLURM_JOB_ID=number)
        if task is not None:
            variables |= dict(SLURM_ARRAY_JOB_ID=number, SLURM_ARRAY_TASK_ID=str(task))
        while True:
            (folder / "requeued").unlink(missing_ok=True)
            with open(folder / f"log-{number}", "ab") as log:
                job = subprocess.Popen(["bash", *words], env=variables, stdout=log, stderr=log)
            preempt = folder / "preempt"
            if task == 1 and preempt.exists():
                waited = pathlib.Path(preempt.read_text())
                while not waited.exists():
                    time.sleep(0.02)
                preempt.unlink()
                job.send_signal(signal.SIGTERM)
            code = job.wait()
            if not (folder / "requeued").exists():
                break
        worst = worst or code
    return worst


match [pathlib.Path(sys.argv[0]).name, *sys.argv[1:]]:
    case ["sbatch", *words]:
        submit(words)
    case ["scontrol", "release", number]:
        (folder / f"released-{number}").touch()
        run_ready()
    case ["scontrol", "requeue", number]:
        (folder / "requeued").write_text(number)
        with open(folder / "all-requeued", "a") as file:
            file.write(f"{number}\\n")
    case ["scancel", *numbers]:
        (folder / "canceled").write_text(" ".join(numbers))
'''
EMBEDFLEET = '''
"""embedfleet for the tests of the scripts alone: notes each SIGTERM, and ends with $CODE, or a while after the first."""
import os, pathlib, signal, sys, time

notes = pathlib.Path(os.environ["STANDIN"]) / "notes"
signals = []
signal.signal(signal.SIGTERM, lambda *_: signals.append("SIGTERM"))
notes.write_text("ready")
if "CODE" in os.environ:
    sys.exit(int(os.environ["CODE"]))
end = time.monotonic() + 30
while not signals and time.monotonic() < end:
    time.sleep(0.01)
end = time.monotonic() + 1
while time.monotonic() < end:
    time.sleep(0.01)
notes.write_text(" ".join(signals))
sys.exit(143)
'''
STEPS = [("run.sbatch", "/data/corpus", "/data/run", "bge-m3"), ("step.sbatch", "fit", "/data/corpus")]


def add_program(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(f"#!{sys.executable}\n{text}")
    (folder / name).chmod(0o755)


@pytest.fixture
def cluster(tmp_path: Path) -> dict[str, str]:
    """An environment with sbatch, scontrol and scancel."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("sbatch", "scontrol", "scancel"):
        add_program(programs, name, SLURM)
    (tmp_path / "slurm").mkdir()
    path = os.pathsep.join((str(programs), str(Path(sys.executable).parent), os.environ["PATH"]))
    return os.environ | {"PATH": path, "STANDIN": str(tmp_path / "slurm")}


def submit(cluster: dict[str, str], *words: str | Path) -> subprocess.CompletedProcess[str]:
    command = ["bash", SCRIPTS / "shards.sh", *words]
    return subprocess.run(command, env=cluster, capture_output=True, text=True, timeout=240)


def test_fit_array_and_merge(cluster: dict[str, str], corpus_of: Any, tmp_path: Path) -> None:
    texts = [f"text {row} of a corpus" for row in range(30_000)]
    source, out = corpus_of(tmp_path / "c.jsonl", texts), tmp_path / "run"
    slurm = Path(cluster["STANDIN"])
    # Task 1 is preempted once it has committed a segment.
    (slurm / "preempt").write_text(str(out / "shards" / "00001" / "chunks" / "00000.parquet"))
    models = ("--dense", "fake:8,delay_ms=200", "--sparse", "bm25", "--index", "none", "--devices", "cpu")
    done = submit(cluster, "3", source, out, *models)
    assert done.returncode == 0, done.stderr
    logs = "".join(path.read_text() for path in slurm.glob("log-*"))
    assert [(slurm / f"code-{number}").read_text() for number in (100, 101, 102)] == ["0", "0", "0"], logs
    assert (slurm / "all-requeued").read_text().split() == ["101"]
    run = open_run(out)
    assert run.rows == len(texts)
    assert run.ids == [f"c{row}" for row in range(len(texts))]


def test_a_wrong_flag_ends_the_array_and_nothing_is_merged(
    cluster: dict[str, str], corpus_of: Any, tmp_path: Path
) -> None:
    source, out = corpus_of(tmp_path / "c.jsonl", ["one", "two"]), tmp_path / "run"
    done = submit(cluster, "2", source, out, "--dense", "fake:8", "--max-tokens", "0")
    assert done.returncode == 0, done.stderr
    slurm = Path(cluster["STANDIN"])
    assert (slurm / "code-100").read_text() == "2"
    assert (slurm / "code-102").read_text() == "never started"
    assert not (out / "manifest.json").exists()


def test_too_few_words_show_the_usage(cluster: dict[str, str]) -> None:
    done = submit(cluster, "3", "/data/corpus")
    assert (done.returncode, done.stderr) == (2, "usage: shards.sh SHARDS SOURCE OUT FLAGS…\n")


@pytest.mark.parametrize("shards", ["0", "x", "-1", "4x"])
def test_a_count_of_shards_that_is_none_is_refused(cluster: dict[str, str], shards: str) -> None:
    done = submit(cluster, shards, "/data/corpus", "/data/run", "--dense", "fake:8")
    assert (done.returncode, done.stderr) == (2, f"shards.sh: SHARDS '{shards}': give their number, as in 64\n")
    assert not list(Path(cluster["STANDIN"]).iterdir())


def test_an_array_that_is_too_large_leaves_no_job_behind(cluster: dict[str, str], tmp_path: Path) -> None:
    done = submit(cluster, "4096", "/data/corpus", tmp_path / "run", "--dense", "fake:8")
    assert done.returncode == 1
    assert "usually 1001" in done.stderr
    assert "give fewer shards; nothing was started" in done.stderr
    slurm = Path(cluster["STANDIN"])
    assert (slurm / "canceled").read_text() == "100"
    assert [path.name for path in slurm.glob("job-*")] == ["job-100"]
    assert not (slurm / "code-100").exists()


@pytest.mark.parametrize(("store", "needs"), [("int8", True), ("float16", False)])
def test_a_fit_that_embeds_a_sample_gets_a_gpu(
    cluster: dict[str, str], tmp_path: Path, store: str, needs: bool
) -> None:
    submit(cluster, "4096", "/data/corpus", tmp_path / "run", "--dense", "fake:8", "--store", store)
    (options, _words) = json.loads((Path(cluster["STANDIN"]) / "job-100").read_text())
    assert ("--gpus-per-node=1" in options) is needs


def test_a_flag_that_a_requeued_job_would_repeat_is_refused(cluster: dict[str, str]) -> None:
    done = submit(cluster, "3", "/data/corpus", "/data/run", "--dense", "fake:8", "--restart")
    assert done.returncode == 2
    assert "--restart: a job that is requeued would begin anew each time" in done.stderr
    assert not list(Path(cluster["STANDIN"]).iterdir())


@pytest.mark.parametrize("words", STEPS, ids=lambda words: words[0])
def test_a_signal_to_all_processes_of_a_job_reaches_the_command_once(
    cluster: dict[str, str], waiting: Any, words: tuple[str, ...], tmp_path: Path
) -> None:
    add_program(tmp_path / "bin", "embedfleet", EMBEDFLEET)
    slurm = Path(cluster["STANDIN"])
    variables = cluster | {"SLURM_JOB_ID": "7"}
    with subprocess.Popen(["bash", SCRIPTS / words[0], *words[1:]], env=variables, start_new_session=True) as job:
        waiting.eventually((slurm / "notes").exists, 30.0, "the command")
        os.killpg(job.pid, signal.SIGTERM)
        assert job.wait(60) == 143
    assert (slurm / "notes").read_text() == "SIGTERM"
    assert (slurm / "all-requeued").read_text().split() == ["7"]


@pytest.mark.parametrize("words", STEPS, ids=lambda words: words[0])
@pytest.mark.parametrize(("code", "found"), [(0, 0), (3, 0), (2, 2)])
def test_records_in_quarantine_are_no_failure_of_a_job(
    cluster: dict[str, str], words: tuple[str, ...], code: int, found: int, tmp_path: Path
) -> None:
    add_program(tmp_path / "bin", "embedfleet", EMBEDFLEET)
    variables = cluster | {"SLURM_JOB_ID": "7", "CODE": str(code)}
    done = subprocess.run(["bash", SCRIPTS / words[0], *words[1:]], env=variables, timeout=60, check=False)
    assert done.returncode == found
    assert not (Path(cluster["STANDIN"]) / "all-requeued").exists()
