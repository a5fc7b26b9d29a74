"""The generalized assignment problem as data: checked input, and the answer."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Booleans = NDArray[np.bool_]
Status = Literal["optimal", "feasible", "infeasible", "unknown"]

MULTIPLES = (1.0, 10.0, 100.0, 1000.0, 10_000.0)
"""Of these, costs and loads may be multiples of the inverse."""


@dataclass(frozen=True)
class Assignment:
    """The outcome of a solve.

    Attributes:
        status: "optimal" and "infeasible" are proved. "feasible" is the best assignment
            when the time was up, "unknown" none by then.
        objective: The assignment's total cost, None without one.
        bound: No assignment is better than this; None when infeasible.
        person_of_task: The person who gets each task, shape (tasks,); None without an
            assignment.
    """

    status: Status
    objective: float | None
    bound: float | None
    person_of_task: Integers | None

    @property
    def gap(self) -> float | None:
        """Distance from objective to bound, relative to the objective."""
        if self.objective is None or self.bound is None:
            return None
        return abs(self.objective - self.bound) / max(abs(self.objective), 1e-9)


@dataclass(frozen=True)
class Problem:
    """A minimization.

    Attributes:
        cost: Shape (people, tasks).
        load: What each task takes of each person's capacity, shape (people, tasks).
        capacity: Shape (people,).
    """

    cost: Floats
    load: Floats
    capacity: Floats

    @classmethod
    def from_arrays(cls, cost: ArrayLike, load: ArrayLike, capacity: ArrayLike) -> "Problem":
        """Check arrays.

        Raises:
            ValueError: The shapes do not fit together, or a number is not finite or
                negative; the message says which and where.
        """
        costs, loads, capacities = (
            _floats("cost", cost),
            _floats("load", load),
            _floats("capacity", capacity),
        )
        if costs.ndim != 2:
            raise ValueError(
                f"cost must have two dimensions, people × tasks, but its shape is {costs.shape}"
            )
        if loads.shape != costs.shape:
            raise ValueError(
                f"load must have the shape of cost, {costs.shape}, but its shape is {loads.shape}"
            )
        if capacities.shape != costs.shape[:1]:
            raise ValueError(
                f"capacity must have one number per person, shape {costs.shape[:1]}, "
                f"but its shape is {capacities.shape}"
            )
        for name, values in (("load", loads), ("capacity", capacities)):
            if (negative := np.argwhere(values < 0)).size:
                at = negative[0]
                raise ValueError(
                    f"{name} must not be negative, but {name}{_index(at)} is {values[tuple(at)]}"
                )
        return cls(costs, loads, capacities)

    @property
    def people(self) -> int:
        return int(self.cost.shape[0])

    @property
    def tasks(self) -> int:
        return int(self.cost.shape[1])

    @property
    def fits(self) -> Booleans:
        """Whether a task alone is within a person's capacity: (people, tasks)."""
        return np.asarray(self.load <= self.room[:, None])

    @property
    def room(self) -> Floats:
        """Capacity with a tolerance for rounding, for every comparison with it."""
        return self.capacity + 1e-9 * np.maximum(1.0, self.capacity)

    @property
    def objective_step(self) -> float:
        """The step between possible objectives, 0 when there is none."""
        return step_of(self.cost)

    def objective(self, person_of_task: Integers) -> float:
        """The total cost of an assignment."""
        return float(self.cost[person_of_task, np.arange(self.tasks)].sum())

    def is_within_capacity(self, person_of_task: Integers) -> bool:
        loads = self.load[person_of_task, np.arange(self.tasks)]
        return bool(np.all(np.bincount(person_of_task, loads, self.people) <= self.room))


def step_of(values: Floats) -> float:
    """The largest of 1, 0.1 … 0.0001 that all values are multiples of; 0 if none is."""
    for multiple in MULTIPLES:
        scaled = values * multiple
        if np.abs(scaled).max(initial=0) < 2**50 and np.all(
            np.abs(scaled - np.rint(scaled)) < 1e-7
        ):
            return 1 / multiple
    return 0.0


def _floats(name: str, values: ArrayLike) -> Floats:
    try:
        array: Any = np.asarray(values)
        if array.dtype.kind not in "biuf" and array.size:
            array = np.asarray([[*row] if np.ndim(row) else row for row in array], dtype=np.float64)
        array = array.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be an array of numbers: {error}") from None
    if (wrong := np.argwhere(~np.isfinite(array))).size:
        raise ValueError(
            f"{name} must be finite, but {name}{_index(wrong[0])} is {array[tuple(wrong[0])]}"
        )
    return np.asarray(array)


def _index(index: Integers) -> str:
    return "[" + ", ".join(str(part) for part in index) + "]"
