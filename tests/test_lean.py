"""What is kept out of memory."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize("module", ["ray.serve", "sklearn"])
def test_who_can_do_without_pandas_does_and_others_have_it(module: str) -> None:
    script = f"""
import sys
import shoal_lean
assert not {{name for name in sys.modules if name.startswith("shoal.")}}
import {module}
assert not {{"pandas", "pyarrow"}} & sys.modules.keys(), "it was imported"
import pandas
assert pandas.DataFrame({{"a": [1]}}).a.sum() == 1
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
