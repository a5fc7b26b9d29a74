"""Assignment on reference instances: Shoal beside HiGHS and CP-SAT with their defaults.

    python benchmarks/optimizer_gap.py [--limit 20] [--random] [instance …]

Reads the instances of ../shared/data/gap (or SHOAL_REFERENCE); --random adds generated
ones of the kinds c, d and e (Chu & Beasley, "A genetic algorithm for the generalised
assignment problem", 1997). The gap is to the known optimum, else to the best bound of
all. Peers run one after another, each with the machine to itself.
"""

import argparse
import csv
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from common import machine

from shoal_optimizer import solve_assignment

DATA = (
    Path(os.environ.get("SHOAL_REFERENCE", Path(__file__).parents[1].parent / "shared" / "data"))
    / "gap"
)
Arrays = tuple[np.ndarray, np.ndarray, np.ndarray]
Found = tuple[float | None, float | None, bool]


def read(name: str) -> Arrays:
    numbers = np.array((DATA / "instances" / name).read_text().split(), dtype=float)
    people, tasks = int(numbers[0]), int(numbers[1])
    cost, load, capacity = np.split(numbers[2:], [people * tasks, 2 * people * tasks])
    return cost.reshape(people, tasks), load.reshape(people, tasks), capacity[:people]


def generated(name: str) -> Arrays:
    """An instance such as "d-20-100-1": kind, people, tasks, seed."""
    kind, people, tasks, seed = name.split("-")
    shape, random = (int(people), int(tasks)), np.random.default_rng(int(seed))
    if kind == "c":
        load, cost = random.integers(5, 26, shape), random.integers(10, 51, shape)
    elif kind == "d":
        load = random.integers(1, 101, shape)
        cost = 111 - load + random.integers(-10, 11, shape)
    else:
        load = np.maximum(np.floor(1 - 10 * np.log(1 - random.random(shape))), 1)
        cost = np.maximum(np.floor(1000 / load - 10 * random.random(shape)), 1)
    load = load.astype(float)
    return cost.astype(float), load, np.floor(0.8 * load.sum(axis=1) / shape[0])


def shoal(
    cost: np.ndarray, load: np.ndarray, capacity: np.ndarray, maximise: bool, limit: float
) -> Found:
    answer = solve_assignment(cost, load, capacity, maximise=maximise, time_limit=limit)
    return answer.objective, answer.bound, answer.status == "optimal"


def highs(
    cost: np.ndarray, load: np.ndarray, capacity: np.ndarray, maximise: bool, limit: float
) -> Found:
    import scipy.sparse as sparse
    from scipy.optimize import Bounds, LinearConstraint, milp

    people, tasks = cost.shape
    sign = -1 if maximise else 1
    once = sparse.kron(np.ones((1, people)), sparse.eye(tasks))
    within = sparse.block_diag([load[i : i + 1] for i in range(people)])
    answer = milp(
        sign * cost.ravel(),
        integrality=np.ones(cost.size),
        bounds=Bounds(0, 1),
        constraints=[LinearConstraint(once, 1, 1), LinearConstraint(within, -np.inf, capacity)],
        options={"time_limit": limit},
    )
    objective = None if answer.x is None else sign * round(float(answer.fun), 6)
    return (
        objective,
        None if answer.mip_dual_bound is None else sign * answer.mip_dual_bound,
        answer.status == 0,
    )


def cp_sat(
    cost: np.ndarray, load: np.ndarray, capacity: np.ndarray, maximise: bool, limit: float
) -> Found:
    from ortools.sat.python import cp_model

    people, tasks = cost.shape
    model = cp_model.CpModel()
    takes = [[model.new_bool_var("") for _ in range(tasks)] for _ in range(people)]
    for j in range(tasks):
        model.add_exactly_one(takes[i][j] for i in range(people))
    for i in range(people):
        model.add(sum(int(load[i, j]) * takes[i][j] for j in range(tasks)) <= int(capacity[i]))
    total = sum(int(cost[i, j]) * takes[i][j] for i in range(people) for j in range(tasks))
    (model.maximize if maximise else model.minimize)(total)
    solver = cp_model.CpSolver()
    solver.parameters.max_time_in_seconds = limit
    status = solver.solve(model)
    found = status in (cp_model.OPTIMAL, cp_model.FEASIBLE)
    return (
        solver.objective_value if found else None,
        solver.best_objective_bound,
        status == cp_model.OPTIMAL,
    )


PEERS: dict[str, Callable[..., Found]] = {
    "Shoal": shoal,
    "HiGHS (scipy milp)": highs,
    "CP-SAT": cp_sat,
}


def prove_small(optima: dict[tuple[str, str], float], limit: float) -> None:
    """Solve gap1 to gap6, minimized and maximized."""
    small = [(name, sense) for name, sense in optima if name.startswith("gap")]
    began, proved = time.monotonic(), 0
    for name, sense in small:
        objective, _, done = shoal(*read(name), sense == "max", limit)
        proved += done and objective == optima[name, sense]
    print(
        f"gap1–gap6, minimized and maximized: {proved} of {len(small)} optima proved, "
        f"{time.monotonic() - began:.1f} s in all"
    )


def compare(name: str, optimum: float | None, limit: float) -> None:
    """Print one row: cost, gap and seconds of every peer."""
    arrays = generated(name) if "-" in name and not name.startswith("gap") else read(name)
    rows = []
    for solve in PEERS.values():
        began = time.monotonic()
        rows.append((*solve(*arrays, False, limit), time.monotonic() - began))
    against = optimum
    if against is None:
        against = max(bound for _, bound, _, _ in rows if bound is not None)
    cells = ""
    for objective, _, proved, seconds in rows:
        cost, gap = "-", "-"
        if objective is not None:
            cost, gap = f"{objective:.0f}", f"{100 * (objective - against) / against:.3f} %"
        ending = " proved" if proved else " " * 7
        cells += f"{cost}  {gap}  {seconds:.1f} s{ending}".rjust(34)
    print(f"{name:<12}{'-' if optimum is None else f'{optimum:.0f}':>9}{cells}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*")
    parser.add_argument("--limit", type=float, default=20.0)
    parser.add_argument("--random", action="store_true")
    options = parser.parse_args()
    print(machine())
    with (DATA / "optima.csv").open() as file:
        optima = {
            (row["instance"], row["sense"]): float(row["optimum"]) for row in csv.DictReader(file)
        }
    # The first hard instance after an installation waits for the search to be compiled.
    solve_assignment(*generated("d-5-60-0"), time_limit=3)
    if not options.names:
        prove_small(optima, options.limit)
    names = options.names or sorted({name for name, _ in optima if not name.startswith("gap")})
    if options.random:
        sizes = ("10-100", "20-100", "10-200", "20-200")
        names = [*names, *(f"{kind}-{size}-1" for kind in "cde" for size in sizes)]
    print(f"\n{'instance':<12}{'optimum':>9}" + "".join(f"{peer:>34}" for peer in PEERS))
    for name in names:
        compare(name, optima.get((name, "min")), options.limit)


if __name__ == "__main__":
    main()
