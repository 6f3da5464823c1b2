"""The Slurm scripts against a stand-in for its contract: variables, dependencies, signals, exit codes, requeueing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from embedfleet import open_run

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "deploy" / "slurm"

SBATCH = '''#!{python}
"""sbatch for the test: runs a job at once, each task of an array in turn, and prints its number."""
import os, pathlib, signal, subprocess, sys, time

folder = pathlib.Path(os.environ["STANDIN"])
words = sys.argv[1:]
options = []
while words and words[0].startswith("--"):
    options.append(words.pop(0))
number = str(100 + len(list(folder.glob("job-*"))))
(folder / f"job-{{number}}").write_text(" ".join(options + words))
for option in options:
    if option.startswith("--dependency=afterok:"):
        before = option.rpartition(":")[2]
        if (folder / f"code-{{before}}").read_text() != "0":
            (folder / f"code-{{number}}").write_text("never started")
            print(number)
            sys.exit(0)
array = next((o.partition("=")[2] for o in options if o.startswith("--array=")), None)
tasks = range(int(array.partition("-")[2]) + 1) if array else [None]
worst = 0
for task in tasks:
    variables = dict(os.environ, SLURM_JOB_ID=number)
    if task is not None:
        variables |= dict(SLURM_ARRAY_JOB_ID=number, SLURM_ARRAY_TASK_ID=str(task))
    while True:
        (folder / "requeued").unlink(missing_ok=True)
        with open(folder / f"log-{{number}}", "ab") as log:
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
(folder / f"code-{{number}}").write_text(str(worst))
print(number)
'''
SCONTROL = '#!/bin/sh\n[ "$1" = requeue ] && echo "$2" > "$STANDIN/requeued" && echo "$2" >> "$STANDIN/all-requeued"\n'


@pytest.fixture
def cluster(tmp_path: Path) -> dict[str, str]:
    """An environment with sbatch and scontrol."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in (("sbatch", SBATCH.format(python=sys.executable)), ("scontrol", SCONTROL)):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
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
