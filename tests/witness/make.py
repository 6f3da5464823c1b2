"""Make an archive of run directories with an installed release: `python -m tests.witness.make path/to/embedfleet 0.1.0`.

Run once a release, with that release; `RELEASE.tar.xz` is then kept as it is. Paths in it begin with BASE, which whoever
unpacks it replaces by the folder that it comes to lie in.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from .corpora import LONG, QRELS, QUERIES, SMALL, write_corpora

BASE = "/embedfleet-witness-base"

EVERY = [
    *(
        "--dense",
        "a=fake:32",
        "--dense",
        "b=fake:24",
        "--ensemble",
        "concat",
        "--sparse",
        "bm25",
        "--sparse",
        "metadata",
    ),
    *("--sparse", "s=fake:100", "--multivector", "m=fake:16", "--heads", "h=fake:16", "--export", "all"),
]
RANKED = [
    *("--queries", QUERIES, "--rerank", "fake:8", "--qrels", QRELS, "--candidates", "10", "--top-k", "5"),
]
_RUNS: dict[str, list[str]] = {
    "every": [SMALL, *EVERY, *RANKED],
    "minilm": [SMALL, "--dense", "all-MiniLM-L6-v2", "--sparse", "bm25"],
    "int8": [LONG, "--dense", "fake:16", "--store", "int8"],
    "float16": [SMALL, "--dense", "fake:16", "--store", "float16"],
    "binary": [SMALL, "--dense", "fake:16", "--store", "binary", "--index", "none"],
    "stdin": ["-", "--dense", "fake:16", "--index", "none"],
}
_LATER: dict[str, list[str]] = {
    **{name: args for name, args in _RUNS.items() if name != "minilm"},
    "poison": [
        *(SMALL, "--dense", "a=fake:16,nan_on=adder", "--dense", "b=fake:16", "--ensemble", "average"),
        *("--sparse", "s=fake:50,nan_on=vole"),
    ],
}
RUNS: dict[str, dict[str, list[str]]] = {"0.1.0": _RUNS, "2026-11": _LATER}
"""The runs of each release that came to their end, by the folder's name. `2026-11` is the last state before sub-packages."""
BROKEN: dict[str, list[str]] = {
    "interrupted": [LONG, "--dense", "fake:16,delay_ms=60", "--sparse", "bm25"],
    "interrupted-int8": [LONG, "--dense", "fake:16,delay_ms=60", "--store", "int8", "--index", "none"],
}
"""Runs that were killed once two segments of their dense vector stood."""


def main(command: str, release: str) -> None:
    """Make all runs and pack them."""
    with TemporaryDirectory() as name:
        base = Path(name)
        write_corpora(base)
        for out, args in RUNS[release].items():
            stdin = (base / SMALL).open("rb") if args[0] == "-" else subprocess.DEVNULL
            done = subprocess.run([command, "run", *args, "--out", out], cwd=base, stdin=stdin, check=False)
            assert done.returncode in (0, 3), (out, done.returncode)
        for out, args in BROKEN.items():
            _kill(command, base, out, args)
        times = {one: (base / one).stat().st_mtime_ns for one in (SMALL, LONG, QUERIES)}
        (base / "times.json").write_text(json.dumps(times))
        for path in base.rglob("*.json"):
            path.write_text(path.read_text().replace(str(base), BASE))
        with tarfile.open(f"{release}.tar.xz", "w:xz", preset=9) as packed:
            for one in ("times.json", *RUNS[release], *BROKEN):
                packed.add(base / one, one)


def _kill(command: str, base: Path, out: str, args: list[str]) -> None:
    run = subprocess.Popen([command, "run", *args, "--out", out], cwd=base, start_new_session=True)
    vectors = base / out / "vectors"
    deadline = time.monotonic() + 120
    while len(list(vectors.glob("dense-*/*.parquet"))) < 2:
        assert run.poll() is None, f"{out}: ended by itself"
        assert time.monotonic() < deadline, f"{out}: too slow"
        time.sleep(0.005)
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    time.sleep(2)  # its children end by themselves


if __name__ == "__main__":
    main(str(Path(sys.argv[1]).absolute()), sys.argv[2])
