"""Compiled: a local search over assignments that may exceed capacities.

It follows Yagiura, Ibaraki & Glover, "A path relinking approach with ejection chains
for the generalized assignment problem" (2006). Moves shift a task, swap two, or shift
one and eject another. Overload costs a price per person, which rises while no
assignment within capacity is found and falls while some are. New starts lie on paths
between members of an elite set.
"""

from typing import NamedTuple

import numpy as np

from .compiled import compiled
from .problem import Booleans, Floats, Integers

TOLERANCE = 1e-7


class Instance(NamedTuple):
    """What the search works on.

    Attributes:
        cost: Shape (people, tasks).
        load: Shape (people, tasks).
        capacity: Shape (people,).
        able: The people who may take each task, shape (tasks, people).
        ables: How many of them, shape (tasks,).
        allowed: The same as a mask, shape (people, tasks).
    """

    cost: Floats
    load: Floats
    capacity: Floats
    able: Integers
    ables: Integers
    allowed: Booleans


class State(NamedTuple):
    """An assignment, changed in place.

    Attributes:
        person: Who does each task, shape (tasks,).
        use: The load on each person, shape (people,).
        tasks_of: Each person's tasks, shape (people, tasks).
        counts: How many of them, shape (people,).
        place: Where a task is in its person's row, shape (tasks,).
    """

    person: Integers
    use: Floats
    tasks_of: Integers
    counts: Integers
    place: Integers


class Best(NamedTuple):
    """The best assignment within capacities, changed in place.

    Attributes:
        cost: Shape (1,); +inf while there is none.
        person: Who does each task, shape (tasks,).
    """

    cost: Floats
    person: Integers


@compiled
def relink(
    instance: Instance,
    elite: Integers,
    price: Floats,
    best: Best,
    seed: int,
    paths: int,
    stop: Integers,
) -> None:
    """Walk paths between elite assignments, and descend from two points of each.

    Args:
        instance: The problem.
        elite: Assignments, shape (size, tasks); updated in place.
        price: The price of overload, shape (people,); updated in place.
        best: Updated in place.
        seed: Of the random numbers.
        paths: How many paths.
        stop: Shape (1,); anything but 0 ends the search.
    """
    np.random.seed(seed)
    people, tasks = instance.cost.shape
    state = State(
        elite[0].copy(),
        np.zeros(people),
        np.zeros((people, tasks), np.int64),
        np.zeros(people, np.int64),
        np.zeros(tasks, np.int64),
    )
    cheapest = _cheapest(instance)
    path, value = np.zeros((tasks + 1, tasks), np.int64), np.zeros(tasks + 1)
    for _ in range(paths):
        if stop[0] != 0:
            return
        source, goal = np.random.randint(elite.shape[0]), np.random.randint(elite.shape[0])
        length = _walk(instance, state, elite[source], elite[goal], price, path, value)
        low, high = length // 5, length - length // 5
        order = np.argsort(value[low:high])
        for q in range(min(2, high - low)):
            _load(instance, state, path[low + order[q]])
            met = _descend(instance, state, price, cheapest, best, stop)
            _update_elite(instance, state, elite, price)
            _update_price(instance, state, price, met)


@compiled
def _walk(
    instance: Instance,
    state: State,
    source: Integers,
    goal: Integers,
    price: Floats,
    path: Integers,
    value: Floats,
) -> int:
    """Fill `path` and `value` on the way from source to goal; returns the length."""
    cost, load, capacity, able, ables, _ = instance
    person, use = state.person, state.use
    tasks = source.size
    _load(instance, state, source)
    differ = np.zeros(tasks, np.int64)
    left = 0
    for j in range(tasks):
        if source[j] != goal[j]:
            differ[left] = j
            left += 1
    if left < 4:  # Too close for a path: perturb at random.
        for _ in range(max(3, tasks // 12)):
            j = np.random.randint(tasks)
            i = able[j, np.random.randint(ables[j])]
            if i != person[j]:
                _move(load, state, j, i)
        path[0] = person
        return 1
    length = 0
    while left > 1:
        least, pick = np.inf, 0
        for q in range(left):
            j = differ[q]
            i, old = goal[j], person[j]
            change = cost[i, j] - cost[old, j]
            change += price[i] * (
                _over(use[i] + load[i, j], capacity[i]) - _over(use[i], capacity[i])
            )
            change += price[old] * (
                _over(use[old] - load[old, j], capacity[old]) - _over(use[old], capacity[old])
            )
            if change < least:
                least, pick = change, q
        _move(load, state, differ[pick], goal[differ[pick]])
        left -= 1
        differ[pick] = differ[left]
        path[length] = person
        value[length] = _priced(cost, capacity, person, use, price)
        length += 1
    return length


@compiled
def _descend(
    instance: Instance,
    state: State,
    price: Floats,
    cheapest: Floats,
    best: Best,
    stop: Integers,
) -> bool:
    """Improve until no move lowers the priced cost; whether capacities were met."""
    # One long loop, because a call of a compiled function counts the references of
    # every array: with a function for each kind of move it takes nearly twice as long.
    cost, load, capacity, able, ables, allowed = instance
    person, use, tasks_of, counts, _ = state
    tasks = person.size
    order = np.random.permutation(tasks)
    met, unchanged, at = False, 0, 0
    while unchanged < tasks and stop[0] == 0:
        j = order[at]
        at = at + 1 if at + 1 < tasks else 0
        unchanged += 1
        a = person[j]
        over_a = _over(use[a], capacity[a])
        leave = price[a] * (_over(use[a] - load[a, j], capacity[a]) - over_a) - cost[a, j]
        gain, to, ejected, ejected_to = -TOLERANCE, -1, -1, -1
        # Shift task j to person i, or swap it for their task k.
        for q in range(ables[j]):
            i = able[j, q]
            if i == a:
                continue
            over_i = _over(use[i], capacity[i])
            change = (
                leave + cost[i, j] + price[i] * (_over(use[i] + load[i, j], capacity[i]) - over_i)
            )
            if change < gain:
                gain, to, ejected = change, i, -1
            for t in range(counts[i]):
                k = tasks_of[i, t]
                if not allowed[a, k]:
                    continue
                change = (
                    cost[i, j]
                    - cost[a, j]
                    + cost[a, k]
                    - cost[i, k]
                    + price[a] * (_over(use[a] - load[a, j] + load[a, k], capacity[a]) - over_a)
                    + price[i] * (_over(use[i] + load[i, j] - load[i, k], capacity[i]) - over_i)
                )
                if change < gain:
                    gain, to, ejected, ejected_to = change, i, k, a
        # Where neither improves: shift it to person i, who passes task k to person h.
        for q in range(ables[j] if to < 0 else 0):
            i = able[j, q]
            if i == a:
                continue
            over_i = _over(use[i], capacity[i])
            for t in range(counts[i]):
                k = tasks_of[i, t]
                base = leave + cost[i, j] - cost[i, k]
                base += price[i] * (_over(use[i] + load[i, j] - load[i, k], capacity[i]) - over_i)
                if base + cheapest[k] >= gain:
                    continue
                for q2 in range(ables[k]):
                    h = able[k, q2]
                    if h == i or h == a:  # noqa: SIM109  (compiled)
                        continue
                    change = base + cost[h, k]
                    change += price[h] * (
                        _over(use[h] + load[h, k], capacity[h]) - _over(use[h], capacity[h])
                    )
                    if change < gain:
                        gain, to, ejected, ejected_to = change, i, k, h
        if to >= 0:
            _move(load, state, j, to)
            if ejected >= 0:
                _move(load, state, ejected, ejected_to)
            unchanged = 0
            if _update_best(cost, capacity, person, use, best):
                met = True
    return _update_best(cost, capacity, person, use, best) or met


@compiled
def _over(use: float, capacity: float) -> float:
    return use - capacity if use > capacity else 0.0


@compiled
def _cheapest(instance: Instance) -> Floats:
    """The lowest cost of each task among the people who may take it."""
    tasks = instance.cost.shape[1]
    cheapest = np.full(tasks, np.inf)
    for j in range(tasks):
        for q in range(instance.ables[j]):
            cheapest[j] = min(cheapest[j], instance.cost[instance.able[j, q], j])
    return cheapest


@compiled
def _load(instance: Instance, state: State, assignment: Integers) -> None:
    """Set the state to an assignment."""
    load = instance.load
    person, use, tasks_of, counts, place = state
    person[:] = assignment
    use[:] = 0
    counts[:] = 0
    for j in range(person.size):
        i = person[j]
        use[i] += load[i, j]
        tasks_of[i, counts[i]] = j
        place[j] = counts[i]
        counts[i] += 1


@compiled
def _move(load: Floats, state: State, j: int, i: int) -> None:
    """Give task j to person i."""
    person, use, tasks_of, counts, place = state
    old = person[j]
    use[old] -= load[old, j]
    use[i] += load[i, j]
    last = tasks_of[old, counts[old] - 1]
    tasks_of[old, place[j]] = last
    place[last] = place[j]
    counts[old] -= 1
    tasks_of[i, counts[i]] = j
    place[j] = counts[i]
    counts[i] += 1
    person[j] = i


@compiled
def _priced(cost: Floats, capacity: Floats, person: Integers, use: Floats, price: Floats) -> float:
    """The cost of an assignment and of its overload."""
    total = 0.0
    for j in range(person.size):
        total += cost[person[j], j]
    for i in range(capacity.size):
        total += price[i] * _over(use[i], capacity[i])
    return total


@compiled
def _update_best(cost: Floats, capacity: Floats, person: Integers, use: Floats, best: Best) -> bool:
    """Keep an assignment if it is better; whether it is within capacities."""
    for i in range(capacity.size):
        if use[i] > capacity[i]:
            return False
    total = 0.0
    for j in range(person.size):
        total += cost[person[j], j]
    if total < best.cost[0] - TOLERANCE:
        best.cost[0] = total
        best.person[:] = person
    return True


@compiled
def _update_elite(instance: Instance, state: State, elite: Integers, price: Floats) -> None:
    """Replace the worst elite assignment, unless this one is worse or a member."""
    cost, capacity, person, use = instance.cost, instance.capacity, state.person.copy(), state.use
    worst, at = -np.inf, -1
    mine = _priced(cost, capacity, person, use, price)
    for e in range(elite.shape[0]):
        if np.array_equal(elite[e], person):
            return  # The loaded state is another member's; the next descent loads its own.
        _load(instance, state, elite[e])
        its = _priced(cost, capacity, elite[e], use, price)
        if its > worst:
            worst, at = its, e
    _load(instance, state, person)
    if mine < worst:
        elite[at] = person


@compiled
def _update_price(instance: Instance, state: State, price: Floats, met: bool) -> None:
    """Lower the price of overload where capacities were met, else raise it.

    It rises in proportion to each person's overload.
    """
    capacity = instance.capacity
    most = 0.0
    for i in range(capacity.size):
        most = max(most, _over(state.use[i], capacity[i]) / max(capacity[i], 1e-9))
    for i in range(capacity.size):
        if met:
            price[i] *= 0.9
        elif most > 0:
            relative = _over(state.use[i], capacity[i]) / max(capacity[i], 1e-9)
            price[i] *= 1 + 0.02 * relative / most
