"""pyarrow as the processes of this package use it: with the system's memory, and without pandas."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import ModuleType


def set_up_arrow() -> None:
    """Set up pyarrow in a process that does nothing but our work. Call before its first array.

    The buffers of segments are large and short-lived: the system's allocator gives them back, Arrow's own keeps them. And
    pyarrow imports pandas, where it is installed, as soon as it makes an array of a list: a quarter of a second and 40 MB
    in each process, for nothing that we use. It looks for pandas once, and here it finds none.
    """
    import pyarrow

    pyarrow.set_memory_pool(pyarrow.system_memory_pool())
    leave_out_pandas()


def leave_out_pandas() -> None:
    """Have pyarrow do without pandas in this process, unless pandas is imported already."""
    if "pandas" in sys.modules:
        return
    import pyarrow

    sys.meta_path.insert(0, _WithoutPandas)
    try:
        pyarrow.array([0])
    finally:
        sys.meta_path.remove(_WithoutPandas)


class _WithoutPandas:
    """Finds modules as if pandas were not installed."""

    @staticmethod
    def find_spec(name: str, _path: Sequence[str] | None, _target: ModuleType | None = None) -> None:
        if name == "pandas":
            raise ModuleNotFoundError("No module named 'pandas'", name=name)
