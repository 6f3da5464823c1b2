"""A module that begins only once a tracer is attached: `python -m embedfleet.tests.chaos.held MODULE ARGS`.

It imports what the module needs, waits for a line on standard input, and is then what `python -m MODULE ARGS` would be.
"""

from __future__ import annotations

import ctypes
import importlib
import runpy
import sys

PR_SET_PTRACER = 0x59616D61
ANY = ctypes.c_ulong(-1)


def main() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PTRACER, ANY, 0, 0, 0)  # refused where every process may trace its like anyway
    module, *args = sys.argv[1:]
    importlib.import_module(module)
    del sys.modules[module]  # it is run as `__main__`
    sys.stdin.readline()
    sys.argv = [module, *args]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
