"""HiGHS in a process of its own, because SciPy cannot interrupt it.

Run as a script it reads a problem from standard input and writes the answer to standard
output, both as .npz.
"""

import io
import math
import subprocess
import sys
import threading
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = dict[str, NDArray[Any]]


def solve(arrays: Arrays) -> Arrays:
    """Find the best assignment over some pairs.

    Args:
        arrays: `person`, `task`, `cost` and `load` of each pair, shape (pairs,);
            `capacity`, shape (people,); `cutoff`, the highest cost of interest;
            `until`, seconds since the epoch at which to stop.

    Returns:
        `chosen`, shape (pairs,), or (0,) without an assignment; `bound`; `ended`,
        whether the search came to its end.
    """
    import scipy.sparse as sparse
    from scipy.optimize import Bounds, LinearConstraint, milp

    person, task, cost, load, capacity = (
        arrays[name] for name in ("person", "task", "cost", "load", "capacity")
    )
    column, tasks = np.arange(person.size), int(task.max()) + 1
    once = sparse.csr_array((np.ones(person.size), (task, column)), shape=(tasks, person.size))
    within = sparse.csr_array((load, (person, column)), shape=(capacity.size, person.size))
    constraints = [LinearConstraint(once, 1, 1), LinearConstraint(within, -np.inf, capacity)]
    if np.isfinite(arrays["cutoff"]):
        constraints.append(
            LinearConstraint(sparse.csr_array(cost[None, :]), -np.inf, float(arrays["cutoff"]))
        )
    answer = milp(
        cost,
        integrality=np.ones(person.size),
        bounds=Bounds(0, 1),
        constraints=constraints,
        options={"time_limit": max(0.1, float(arrays["until"]) - time.time()), "mip_rel_gap": 0.0},
    )
    bound = math.inf if answer.status == 2 else answer.mip_dual_bound
    return {
        "chosen": np.zeros(0) if answer.x is None else answer.x,
        "bound": np.array(-math.inf if bound is None else bound, dtype=float),
        "ended": np.array(answer.status in (0, 2)),
    }


def _encode(arrays: Arrays) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


class HighsProcess:
    """The script with one problem, started at once.

    Attributes:
        answer: See `solve`; None until it has ended, and when it failed or was killed.
    """

    def __init__(self, arrays: Arrays) -> None:
        self.answer: Arrays | None = None
        self._process = subprocess.Popen(
            [sys.executable, "-I", __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self._thread = threading.Thread(
            target=self._communicate, args=(_encode(arrays),), name="assignment-highs", daemon=True
        )
        self._thread.start()

    def _communicate(self, problem: bytes) -> None:
        answer, _ = self._process.communicate(problem)
        if self._process.returncode == 0:
            with np.load(io.BytesIO(answer), allow_pickle=False) as arrays:
                self.answer = dict(arrays)

    def has_ended(self, timeout: float) -> bool:
        """Wait at most `timeout` seconds; whether it has ended."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def kill(self) -> None:
        self._process.kill()


if __name__ == "__main__":
    with np.load(io.BytesIO(sys.stdin.buffer.read()), allow_pickle=False) as problem:
        sys.stdout.buffer.write(_encode(solve(dict(problem))))
