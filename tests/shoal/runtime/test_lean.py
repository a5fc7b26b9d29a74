"""What is kept out of memory."""

import subprocess
import sys

SCRIPT = """
import sys
from shoal.runtime.lean import keep_pandas_from_serve
keep_pandas_from_serve()
keep_pandas_from_serve()
assert len([f for f in sys.meta_path if type(f).__name__ == "_Without"]) == 1
from ray import serve
assert not {"pandas", "pyarrow"} & sys.modules.keys(), "Serve imported it"
import pandas
assert pandas.DataFrame({"a": [1]}).a.sum() == 1
"""


def test_serve_does_without_pandas_and_others_have_it() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
