"""pytest sessions, one in a fork each, of a process that has imported what is large: `python sessions.py CHECKOUT`.

A line on standard input has pytest's arguments, as JSON; the line that answers it has the exit code and the end of what was
said. Nothing of the checkout is imported before the fork, so that each session sees its files as they are then.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import tempfile
import traceback

LARGE = ("hypothesis", "msgspec", "numpy", "orjson", "psutil", "pyarrow.parquet", "pytest", "pytest_timeout", "zmq")
PLUGINS = ("-p", "pytest_timeout", "-p", "_hypothesis_pytestplugin")
"""Those that the tests use. To look for others among all that is installed would take as long as many of the sessions."""
LAST_BYTES = 4_000
CRASHED = 70
"""An exit code that pytest does not have."""


def session(arguments: list[str]) -> tuple[int, str]:
    """One session in a fork of this process.

    It has a folder of its own for what its tests write: by default pytest numbers these folders and removes the old ones, and
    then two sessions side by side stumble over each other's.
    """
    with tempfile.TemporaryFile() as said, tempfile.TemporaryDirectory(prefix="mutants-") as written:
        child = os.fork()
        if child == 0:
            for stream in (1, 2):
                os.dup2(said.fileno(), stream)
            os._exit(_run([f"--basetemp={written}", *arguments]))
        _, status = os.waitpid(child, 0)
        said.seek(0)
        return os.waitstatus_to_exitcode(status), said.read()[-LAST_BYTES:].decode(errors="replace")


def _run(arguments: list[str]) -> int:
    import pytest

    code = CRASHED
    try:
        # pytest says that it cannot rewrite the asserts of plugins that are here already; they are none of ours.
        code = int(pytest.main(["-W", "ignore::pytest.PytestAssertRewriteWarning", *PLUGINS, *arguments]))
    except BaseException:  # noqa: BLE001 - a fork must not go on as its parent does
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return code


def main() -> None:
    checkout = sys.argv[1]
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    os.chdir(checkout)
    sys.path.insert(0, os.path.dirname(checkout))
    for name in LARGE:
        importlib.import_module(name)
    for line in sys.stdin:
        print(json.dumps(session(json.loads(line))), flush=True)  # noqa: T201 - the answer


if __name__ == "__main__":
    main()
