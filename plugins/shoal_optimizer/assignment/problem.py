"""The generalised assignment problem as data: checked input, and the answer."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Status = Literal["optimal", "feasible", "infeasible", "unknown"]

GRAINS = (1.0, 10.0, 100.0, 1000.0, 10_000.0)


@dataclass(frozen=True)
class Assignment:
    """What a solve found.

    status: "optimal" (proved), "feasible" (the limit came first; `bound` says how far
    it can be from the best), "infeasible" (proved), or "unknown" (the limit came before
    any assignment was found). objective: the assignment's total cost, None when there
    is none. bound: no assignment can be better than this; None when infeasible.
    person_of_task: shape (tasks,), the person who gets each task; None when there is no
    assignment.
    """

    status: Status
    objective: float | None
    bound: float | None
    person_of_task: Integers | None

    @property
    def gap(self) -> float | None:
        """Distance from objective to bound, relative to the objective; None when either
        is missing.
        """
        if self.objective is None or self.bound is None:
            return None
        return abs(self.objective - self.bound) / max(abs(self.objective), 1e-9)


@dataclass(frozen=True)
class Problem:
    """A minimisation: cost and load of shape (people, tasks), capacity of shape
    (people,).
    """

    cost: Floats
    load: Floats
    capacity: Floats

    @classmethod
    def checked(cls, cost: ArrayLike, load: ArrayLike, capacity: ArrayLike) -> "Problem":
        """Arrays that fit together and hold only finite numbers, or ValueError saying
        which does not and where.
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
                f"capacity must hold one number per person, shape {costs.shape[:1]}, but its shape is {capacities.shape}"
            )
        for name, values in (("load", loads), ("capacity", capacities)):
            if (negative := np.argwhere(values < 0)).size:
                raise ValueError(
                    f"{name} must not be negative, but {name}{_at(negative[0])} is {values[tuple(negative[0])]}"
                )
        return cls(costs, loads, capacities)

    @property
    def people(self) -> int:
        return self.cost.shape[0]

    @property
    def tasks(self) -> int:
        return self.cost.shape[1]

    @property
    def fits(self) -> NDArray[np.bool_]:
        """Shape (people, tasks): whether the task alone is within the person's
        capacity.
        """
        return self.load <= self.room[:, None]

    @property
    def room(self) -> Floats:
        """Capacity with the tolerance for rounding that every comparison with it uses."""
        return self.capacity + 1e-9 * np.maximum(1.0, self.capacity)

    @property
    def grain(self) -> float:
        """The step between possible objectives, or 0 when there is no such step."""
        return grain(self.cost)

    def objective(self, person_of_task: Integers) -> float:
        return float(self.cost[person_of_task, np.arange(self.tasks)].sum())

    def allows(self, person_of_task: Integers) -> bool:
        """Whether everyone stays within capacity."""
        loads = self.load[person_of_task, np.arange(self.tasks)]
        return bool(np.all(np.bincount(person_of_task, loads, self.people) <= self.room))


def grain(values: Floats) -> float:
    """The largest of 1, 0.1 … 0.0001 that all values are multiples of, or 0 when none
    is.
    """
    for multiple in GRAINS:
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
            f"{name} must be finite, but {name}{_at(wrong[0])} is {array[tuple(wrong[0])]}"
        )
    return array


def _at(index: Integers) -> str:
    return "[" + ", ".join(str(part) for part in index) + "]"
