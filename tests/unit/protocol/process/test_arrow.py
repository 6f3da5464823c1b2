"""pyarrow without pandas: it does not import it, and everybody else can."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("pandas")

LIST = "import sys, pyarrow; pyarrow.array(['a list']); print('pandas' in sys.modules)"
WITHOUT = "from embedfleet.protocol.process.arrow import leave_out_pandas as leave_out; leave_out(); "
WITH = "import pandas, pyarrow; print(pyarrow.table({'a': [1]}).to_pandas().shape)"


@pytest.mark.parametrize(
    ("code", "printed"),
    [(LIST, "True"), (WITHOUT + LIST, "False"), (WITHOUT + WITH, "(1, 1)")],
    ids=["as it is", "without", "asked for"],
)
def test_pandas_is_imported_where_it_is_asked_for(code: str, printed: str) -> None:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.stdout.strip(), done.stderr) == (printed, "")
