"""`python -m shoal_optimizer.assignment` compiles the search, so that the first hard
instance need not wait for it.
"""

import numpy as np

from .heuristic import Heuristic
from .problem import Problem


def main() -> None:
    random = np.random.default_rng(0)
    load = random.integers(1, 20, (4, 20)).astype(float)
    heuristic = Heuristic(
        Problem(random.random((4, 20)), load, np.floor(0.9 * load.sum(axis=1) / 4)), 60
    )
    heuristic.compile()


if __name__ == "__main__":
    main()
