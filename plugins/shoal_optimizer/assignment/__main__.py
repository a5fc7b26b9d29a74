"""`python -m shoal_optimizer.assignment` compiles the search ahead of its first use."""

import numpy as np

from .heuristic import Heuristic
from .problem import Problem


def main() -> None:
    random = np.random.default_rng(0)
    load = random.integers(1, 20, (4, 20)).astype(float)
    capacity = np.floor(0.9 * load.sum(axis=1) / 4)
    Heuristic(Problem(random.random((4, 20)), load, capacity), time_limit=60).compile()


if __name__ == "__main__":
    main()
