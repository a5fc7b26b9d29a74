"""What is kept out of memory."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize("module", ["ray.serve", "sklearn"])
def test_who_can_do_without_pandas_does_and_others_have_it(module: str) -> None:
    script = f"""
import sys
from shoal_lean import keep_pandas_out
assert not {{name for name in sys.modules if name.startswith("shoal.")}}
keep_pandas_out()
keep_pandas_out()
assert len([f for f in sys.meta_path if type(f).__name__ == "_Without"]) == 1
import {module}
assert not {{"pandas", "pyarrow"}} & sys.modules.keys(), "it was imported"
import pandas
assert pandas.DataFrame({{"a": [1]}}).a.sum() == 1
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
