"""Compiled inner loops: the Lagrangian ascent, and a local search over assignments that
may exceed capacities.

The search follows Yagiura, Ibaraki & Glover, "A path relinking approach with ejection
chains for the generalized assignment problem" (2006): moves shift a task, swap two, or
shift one and eject another; overload costs a price per person that rises while no
assignment within capacity is found and falls while some are; new starts lie on paths
between members of an elite set. Everything here releases the GIL; `stop[0] != 0` ends a
call early.
"""

import numpy as np
from numba import njit

TOLERANCE = 1e-7


@njit(nogil=True, cache=True)
def ascend(cost, load, capacity, multipliers, target, rounds, stop):  # type: ignore[no-untyped-def]
    """Subgradient ascent on λ towards `target`; returns (best bound, its λ). Loads and
    capacities are integers.
    """
    people, tasks = cost.shape
    values = np.zeros(capacity.max() + 1)
    take = np.zeros((tasks, capacity.max() + 1), np.bool_)
    items = np.zeros(tasks, np.int64)
    missing, direction = np.zeros(tasks), np.zeros(tasks)
    current, best_at, best = multipliers.copy(), multipliers.copy(), -np.inf
    stalled, pace = 0, 0.3
    for _ in range(rounds):
        if stop[0] != 0:
            break
        bound = current.sum()
        missing[:] = 1.0
        for i in range(people):
            room, size, total = capacity[i], 0, 0
            for j in range(tasks):
                if cost[i, j] < current[j] and load[i, j] <= room:
                    items[size] = j
                    size += 1
                    total += load[i, j]
            if total <= room:
                for t in range(size):
                    bound += cost[i, items[t]] - current[items[t]]
                    missing[items[t]] -= 1
                continue
            values[: room + 1] = 0.0
            for t in range(size):
                weight, profit = load[i, items[t]], cost[i, items[t]] - current[items[t]]
                take[t, :weight] = False
                for r in range(room, weight - 1, -1):
                    value = values[r - weight] + profit
                    take[t, r] = value < values[r]
                    if value < values[r]:
                        values[r] = value
            bound += values[room]
            for t in range(size - 1, -1, -1):
                if take[t, room]:
                    missing[items[t]] -= 1
                    room -= load[i, items[t]]
        if bound > best + 1e-7 * abs(best) or best == -np.inf:
            best, stalled = bound, 0
            best_at[:] = current
        else:
            stalled += 1
            if stalled >= 20:
                pace, stalled = pace * 0.7, 0
                current[:] = best_at
        for j in range(tasks):
            direction[j] = missing[j] + 0.7 * direction[j]
        norm = (direction * direction).sum()
        if norm < 1e-12 or pace < 5e-4:
            break
        current += pace * max(target - bound, 1e-6 * abs(target) + 1e-9) / norm * direction
    return best, best_at


@njit(nogil=True, cache=True)
def _over(use, capacity):  # type: ignore[no-untyped-def]
    return use - capacity if use > capacity else 0.0


@njit(nogil=True, cache=True)
def _load_up(person, load, use, held, count, place):  # type: ignore[no-untyped-def]
    """Fill `use` (load per person), `held` (their tasks), `count` and `place` (where a
    task is held).
    """
    use[:] = 0
    count[:] = 0
    for j in range(person.size):
        i = person[j]
        use[i] += load[i, j]
        held[i, count[i]] = j
        place[j] = count[i]
        count[i] += 1


@njit(nogil=True, cache=True)
def _move(j, i, person, load, use, held, count, place):  # type: ignore[no-untyped-def]
    old = person[j]
    use[old] -= load[old, j]
    use[i] += load[i, j]
    last = held[old, count[old] - 1]
    held[old, place[j]] = last
    place[last] = place[j]
    count[old] -= 1
    held[i, count[i]] = j
    place[j] = count[i]
    count[i] += 1
    person[j] = i


@njit(nogil=True, cache=True)
def _note(cost, capacity, person, use, best, best_person):  # type: ignore[no-untyped-def]
    """Keep the assignment if it is within capacity and better; returns whether it is
    within capacity.
    """
    for i in range(capacity.size):
        if use[i] > capacity[i]:
            return False
    total = 0.0
    for j in range(person.size):
        total += cost[person[j], j]
    if total < best[0] - TOLERANCE:
        best[0] = total
        best_person[:] = person
    return True


@njit(nogil=True, cache=True)
def _priced(cost, capacity, person, use, price):  # type: ignore[no-untyped-def]
    total = 0.0
    for j in range(person.size):
        total += cost[person[j], j]
    for i in range(capacity.size):
        total += price[i] * _over(use[i], capacity[i])
    return total


@njit(nogil=True, cache=True)
def _descend(
    cost,
    load,
    capacity,
    person,
    use,
    held,
    count,
    place,
    price,
    able,
    ables,
    allowed,
    cheapest,
    best,
    best_person,
    stop,
):  # type: ignore[no-untyped-def]
    """Improve until no shift, swap or double shift lowers the priced cost; whether
    capacities were met on the way.
    """
    tasks = cost.shape[1]
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
            for t in range(count[i]):
                k = held[i, t]
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
        if to < 0:
            for q in range(ables[j]):
                i = able[j, q]
                if i == a:
                    continue
                over_i = _over(use[i], capacity[i])
                for t in range(count[i]):
                    k = held[i, t]
                    base = leave + cost[i, j] - cost[i, k]
                    base += price[i] * (
                        _over(use[i] + load[i, j] - load[i, k], capacity[i]) - over_i
                    )
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
            _move(j, to, person, load, use, held, count, place)
            if ejected >= 0:
                _move(ejected, ejected_to, person, load, use, held, count, place)
            unchanged = 0
            if _note(cost, capacity, person, use, best, best_person):
                met = True
    return _note(cost, capacity, person, use, best, best_person) or met


@njit(nogil=True, cache=True)
def relink(
    cost, load, capacity, elite, price, able, ables, allowed, best, best_person, seed, paths, stop
):  # type: ignore[no-untyped-def]
    """Walk `paths` paths between elite assignments and descend from the best two points
    of each.

    elite (size, tasks) and price (people,) are updated in place; best[0] and
    best_person hold the best assignment within capacity. able (tasks, people) lists who
    may take a task, ables how many, allowed is the same as a mask.
    """
    np.random.seed(seed)
    people, tasks = cost.shape
    use, count = np.zeros(people), np.zeros(people, np.int64)
    held, place = np.zeros((people, tasks), np.int64), np.zeros(tasks, np.int64)
    cheapest = np.full(tasks, np.inf)
    for j in range(tasks):
        for q in range(ables[j]):
            cheapest[j] = min(cheapest[j], cost[able[j, q], j])
    path, value = np.zeros((tasks + 1, tasks), np.int64), np.zeros(tasks + 1)
    differ = np.zeros(tasks, np.int64)
    person = elite[0].copy()
    for _ in range(paths):
        if stop[0] != 0:
            return
        source, goal = np.random.randint(elite.shape[0]), np.random.randint(elite.shape[0])
        person[:] = elite[source]
        _load_up(person, load, use, held, count, place)
        left = 0
        for j in range(tasks):
            if elite[source, j] != elite[goal, j]:
                differ[left] = j
                left += 1
        length = 0
        if left < 4:  # too close for a path: step aside at random
            for _step in range(max(3, tasks // 12)):
                j = np.random.randint(tasks)
                i = able[j, np.random.randint(ables[j])]
                if i != person[j]:
                    _move(j, i, person, load, use, held, count, place)
            path[0] = person
            length, left = 1, 0
        while left > 1:
            least, pick = np.inf, 0
            for q in range(left):
                j = differ[q]
                i, old = elite[goal, j], person[j]
                change = cost[i, j] - cost[old, j]
                change += price[i] * (
                    _over(use[i] + load[i, j], capacity[i]) - _over(use[i], capacity[i])
                )
                change += price[old] * (
                    _over(use[old] - load[old, j], capacity[old]) - _over(use[old], capacity[old])
                )
                if change < least:
                    least, pick = change, q
            j = differ[pick]
            _move(j, elite[goal, j], person, load, use, held, count, place)
            left -= 1
            differ[pick] = differ[left]
            path[length] = person
            value[length] = _priced(cost, capacity, person, use, price)
            length += 1
        low, high = length // 5, length - length // 5
        order = np.argsort(value[low:high])
        for q in range(min(2, high - low)):
            person[:] = path[low + order[q]]
            _load_up(person, load, use, held, count, place)
            met = _descend(cost, load, capacity, person, use, held, count, place, price, able, ables, allowed, cheapest, best, best_person, stop)  # fmt: skip
            _keep(cost, load, capacity, person, use, elite, price, held, count, place)
            _reprice(capacity, use, price, met)


@njit(nogil=True, cache=True)
def _keep(cost, load, capacity, person, use, elite, price, held, count, place):  # type: ignore[no-untyped-def]
    """Put the assignment in the place of the worst elite one, unless it is worse or
    there already.
    """
    worst, at = -np.inf, -1
    mine = _priced(cost, capacity, person, use, price)
    for e in range(elite.shape[0]):
        same = True
        for j in range(person.size):
            if elite[e, j] != person[j]:
                same = False
                break
        if same:
            return
        _load_up(elite[e], load, use, held, count, place)
        its = _priced(cost, capacity, elite[e], use, price)
        if its > worst:
            worst, at = its, e
    _load_up(person, load, use, held, count, place)
    if mine < worst:
        elite[at] = person


@njit(nogil=True, cache=True)
def _reprice(capacity, use, price, met):  # type: ignore[no-untyped-def]
    """Overload gets cheaper where capacities were met, dearer in proportion to the
    overload where not.
    """
    most = 0.0
    for i in range(capacity.size):
        most = max(most, _over(use[i], capacity[i]) / max(capacity[i], 1e-9))
    for i in range(capacity.size):
        if met:
            price[i] *= 0.9
        elif most > 0:
            price[i] *= 1 + 0.02 * (_over(use[i], capacity[i]) / max(capacity[i], 1e-9)) / most
