"""Assignment: against enumeration, on reference instances, and on invalid input."""

import csv
import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal_optimizer import solve_assignment

COST = np.array([[1.0, 2.0, 3.0], [3.0, 1.0, 2.0]])
LOAD = np.array([[2.0, 3.0, 1.0], [1.0, 2.0, 4.0]])


@settings(max_examples=60, deadline=None)
@given(
    people=st.integers(1, 4),
    tasks=st.integers(0, 5),
    seed=st.integers(0, 10_000),
    maximise=st.booleans(),
    step=st.sampled_from((1.0, 0.25, 0.013)),
    tight=st.floats(0.3, 1.5),
)
def test_small_instances_equal_enumeration(
    people: int, tasks: int, seed: int, maximise: bool, step: float, tight: float
) -> None:
    random = np.random.default_rng(seed)
    cost = random.integers(-20, 50, (people, tasks)) * step
    load = random.integers(0, 10, (people, tasks)).astype(float)
    capacity = np.floor(tight * load.sum(axis=1) / people) if tasks else np.ones(people)
    totals = []
    for choice in itertools.product(range(people), repeat=tasks):
        used = np.zeros(people)
        for task, person in enumerate(choice):
            used[person] += load[person, task]
        if np.all(used <= capacity):
            totals.append(sum(cost[person, task] for task, person in enumerate(choice)))
    answer = solve_assignment(cost, load, capacity, maximise=maximise)
    if not totals:
        assert answer.status == "infeasible" and answer.person_of_task is None
        return
    assert answer.status == "optimal" and answer.objective is not None and answer.bound is not None
    assert answer.objective == pytest.approx(max(totals) if maximise else min(totals))
    assert answer.bound == pytest.approx(answer.objective)


def read(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    numbers = np.array(path.read_text().split(), dtype=float)
    people, tasks = int(numbers[0]), int(numbers[1])
    cost, load, capacity = np.split(numbers[2:], [people * tasks, 2 * people * tasks])
    return cost.reshape(people, tasks), load.reshape(people, tasks), capacity[:people]


@pytest.mark.parametrize("name", ["gap1-0", "gap3-2", "gap5-4"])
@pytest.mark.parametrize("sense", ["min", "max"])
def test_reference_optima_are_proved(shared: Path, name: str, sense: str) -> None:
    with (shared / "gap" / "optima.csv").open() as file:
        optima = {
            (row["instance"], row["sense"]): float(row["optimum"]) for row in csv.DictReader(file)
        }
    answer = solve_assignment(*read(shared / "gap" / "instances" / name), maximise=sense == "max")
    assert (answer.status, answer.objective) == ("optimal", optima[name, sense])


def test_equal_loads_are_solved_as_one_to_one() -> None:
    random = np.random.default_rng(0)
    cost = random.random((300, 300))
    answer = solve_assignment(cost, np.ones((300, 300)), np.ones(300))
    assert answer.status == "optimal" and answer.person_of_task is not None
    assert sorted(answer.person_of_task) == list(range(300))


@pytest.mark.parametrize(
    ("cost", "load", "capacity", "message"),
    [
        (COST, LOAD[:1], [3, 3], "shape"),
        (COST, LOAD, [3], "capacity"),
        (COST[0], LOAD, [3, 3], "two dimensions"),
        (np.where(COST == 3, np.nan, COST), LOAD, [3, 3], r"cost\[0, 2\] is nan"),
        (COST, -LOAD, [3, 3], "negative"),
        (COST, LOAD, [3, np.inf], "finite"),
        ([["a", "b"]], [[1, 1]], [1], "numbers"),
    ],
)
def test_invalid_input_is_rejected_with_its_location(
    cost: object, load: object, capacity: object, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        solve_assignment(cost, load, capacity)  # type: ignore[arg-type]


def test_a_time_limit_must_be_positive() -> None:
    with pytest.raises(ValueError, match="time_limit"):
        solve_assignment(COST, LOAD, [9, 9], time_limit=0)


def test_no_tasks_are_optimal_and_no_people_infeasible() -> None:
    assert solve_assignment(np.zeros((2, 0)), np.zeros((2, 0)), [1, 1]).status == "optimal"
    assert solve_assignment(np.zeros((0, 2)), np.zeros((0, 2)), []).status == "infeasible"
    assert solve_assignment(COST, LOAD, [0, 0]).status == "infeasible"


def test_a_solve_that_its_time_limit_ends_leaves_a_bound() -> None:
    random = np.random.default_rng(1)
    load = random.integers(1, 101, (15, 120)).astype(float)
    cost = 111 - load + random.integers(-10, 11, (15, 120))
    answer = solve_assignment(cost, load, np.floor(0.8 * load.sum(axis=1) / 15), time_limit=1)
    assert answer.status in ("feasible", "unknown")
    if answer.objective is not None and answer.bound is not None:
        assert answer.bound <= answer.objective
