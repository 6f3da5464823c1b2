"""What the operating system refuses where nobody expects it: one line that says what helps, and no traceback."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EMBEDFLEET = Path(sys.executable).with_name("embedfleet")


@pytest.mark.parametrize(
    ("before", "words"),
    [
        ("ulimit -n 24", "ulimit -n 1024"),
        ("ulimit -f 0", "set TMPDIR"),
        ("ulimit -n 16", "ulimit -n 1024"),
        ("mkdir gone && cd gone && rmdir ../gone", "the current folder is gone"),
    ],
)
def test_a_refusal_is_one_line_with_its_remedy(tmp_path: Path, before: str, words: str) -> None:
    source = tmp_path / "corpus.jsonl"
    source.write_text('{"id": "a", "text": "b"}\n')
    # The second path is relative: what is in question where the folder is gone.
    command = f"{before}; {EMBEDFLEET} run {source} --out run --dense fake:8 --devices cpu"
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert (done.returncode, "Traceback" in done.stderr) == (1, False), done.stderr
    assert words in done.stderr.strip().splitlines()[-1]


def test_what_the_system_refuses_an_export_is_one_line() -> None:
    work = "open('/proc/self/mem/x')"  # whoever asks
    command = f"import sys; from embedfleet.exporter.command_line import serve; sys.exit(serve(lambda: {work}))"
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (1, "embedfleet: error: /proc/self/mem/x: Not a directory\n")
