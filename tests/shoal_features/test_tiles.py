"""Windows of many events: tiles against brute force, and what a script does at most."""

import math
import os
import random
from collections import Counter
from dataclasses import dataclass

import msgpack
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shoal_features import online as online_module
from shoal_features.online import ReadPlan, apply_events, read_values
from shoal_features.views import YEAR, View
from shoal_features.window_scripts import APPLY_SCRIPT, READ_SCRIPT
from shoal_features.windows import EventRow, WindowPlan

pytestmark = pytest.mark.anyio

S = 1_000_000
NOW = 1_763_900_000 * S
GRACE = 600
SPLIT = "SPLIT, TOP, BITS, FOREVER = 64"


@pytest.fixture(autouse=True, params=[2, 64])
def few_events_a_tile(request, monkeypatch):
    """Tiles are split when they have more events than this."""
    smaller = SPLIT.replace("64", str(request.param))
    for name, script in (("APPLY_SCRIPT", APPLY_SCRIPT), ("READ_SCRIPT", READ_SCRIPT)):
        assert script.count(SPLIT) == 1
        monkeypatch.setattr(online_module, name, script.replace(SPLIT, smaller))
    return request.param


def everything(view, *windows: int) -> View:
    features = [
        (f"{name}_{w}", dtype, function, column, w)
        for w in windows
        for name, dtype, function, column in (
            ("count", "int64", "count", ""),
            ("filled", "int64", "count", "x"),
            ("sum", "float64", "sum", "x"),
            ("mean", "float64", "mean", "x"),
            ("least", "int64", "min", "x"),
            ("most", "float64", "max", "x"),
            ("last", "string", "last", "k"),
            ("kinds", "int64", "count_distinct", "k"),
        )
    ]
    return view(*features)


@dataclass
class History:
    """One entity's events as they are delivered, some twice, and what they are."""

    draw: random.Random
    retention: int
    events: dict[str, EventRow]

    def deliver(self, now: int, most: int) -> list[EventRow]:
        n, sent = self.draw.randint(1, most), []
        for _ in range(n):
            if self.events and self.draw.random() < 0.15:
                sent.append(self.draw.choice(list(self.events.values())))
                continue
            member = f"s\x1fe{self.draw.random()}"
            self.events[member] = EventRow(self.time(now), member, "1", self.columns())
            sent.append(self.events[member])
        self.draw.shuffle(sent)
        return sent

    def time(self, now: int) -> int:
        draw = self.draw
        shape = draw.randrange(5)
        if shape == 0 and self.events:  # a tie
            return draw.choice(list(self.events.values())).time
        if shape == 1:  # at the edge of a tile
            width = 2 ** draw.choice([4, 8, 20, 24, 28, 32, 36, 40, 44])
            at = (now // width) * width + draw.randint(-1, 1)
        elif shape == 2:  # at the edge of the window
            at = now - self.retention * S + draw.randint(-2, 2)
        else:
            at = now - int(10 ** draw.uniform(0, math.log10(self.retention * S)))
        at += draw.choice([0, 0, 0, 250 * S])  # some are ahead of the clock
        return max(min(at, now + 300 * S), now - (self.retention + GRACE) * S + 1)

    def columns(self) -> dict:
        draw = self.draw
        x = draw.choice([None, draw.randint(-5, 5), 2**53 + draw.randint(0, 4), -(2**60) - 1, 0.1])
        return {"x": x, "k": draw.choice(["a", "b", None, "c" * 50, draw.randint(0, 9)])}


def brute(view: View, events: list[EventRow], now: int) -> dict:
    answers = {}
    for window in {f.window for f in view.features}:
        inside = sorted(
            (e for e in events if now - window * S < e.time <= now),
            key=lambda e: (e.time, e.member),
        )
        xs = [e.columns["x"] for e in inside if e.columns["x"] is not None]
        ks = [e.columns["k"] for e in inside if e.columns["k"] is not None]
        whole = [x for x in xs if isinstance(x, int)]
        values = {
            "count": len(inside),
            "filled": len(xs),
            "sum": math.fsum(xs),
            "mean": math.fsum(xs) / len(xs) if xs else None,
            "least": min(whole, default=None),
            "most": max(map(float, xs), default=None),
            "last": None if not ks else ks[-1] if isinstance(ks[-1], str) else str(ks[-1]),
            "kinds": len(set(ks)),
        }
        answers |= {f"{name}_{window}": value for name, value in values.items()}
    return {f.name: answers[f.name] for f in view.features}


async def served(online, view: View, now: int) -> dict:
    plan = ReadPlan("user", [(view, f) for f in view.features])
    values = (await read_values(online, plan, ["1"], now))[0]
    return {n: orjson.loads(v.json) for n, v in zip(plan.names, values, strict=True)}


def assert_same(got: dict, expected: dict) -> None:
    for name, value in expected.items():
        if isinstance(value, float):
            assert got[name] == pytest.approx(value, rel=1e-15, abs=1e-9), name
        else:
            assert got[name] == value, name


async def tiles_in_redis(online, view: View) -> dict:
    raw = await online.hgetall(WindowPlan.of(view).keys("1")[2])
    return {(k[0], int.from_bytes(k[1:], "big")): msgpack.unpackb(v) for k, v in raw.items()}


async def tiles_of_events(online, view: View, split: int) -> dict:
    """How many values each tile must have, from the events that are stored."""
    plan = WindowPlan.of(view)
    times = dict(await online.zrange(plan.keys("1")[0], 0, -1, withscores=True))
    columns = await online.hgetall(plan.keys("1")[1])
    found: dict = {}

    def cut(members: list, shift: int) -> None:
        if len(members) <= split or shift < 0:
            return
        below: dict = {}
        for member in members:
            below.setdefault(int(times[member]) >> shift, []).append(member)
        for index, some in below.items():
            values = Counter(c for m in some for c in orjson.loads(columns.get(m, b"{}")))
            if values:
                found[shift, index] = values
            cut(some, shift - 4)

    cut(list(times), 44)
    return found


@settings(
    max_examples=int(os.environ.get("SHOAL_EXAMPLES", "40")),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    seed=st.integers(0, 2**32),
    windows=st.lists(
        st.sampled_from([60, 61, 300, 3_600, 86_400, 7 * 86_400 + 1, YEAR]),
        min_size=1,
        max_size=3,
        unique=True,
    ),
    steps=st.lists(st.sampled_from([0, 1, 59, 600, 4_000, 90_000]), min_size=1, max_size=4),
    most=st.sampled_from([5, 60, 160]),
)
async def test_windows_of_tiles_equal_brute_force(
    open_tenant, view, few_events_a_tile, seed, windows, steps, most
):
    online, sliding = open_tenant().online, everything(view, *windows)
    history = History(random.Random(seed), max(windows), {})
    now, plan = NOW, WindowPlan.of(sliding)
    for step in steps:
        now += step * S
        await apply_events(online, plan, history.deliver(now, most), now, GRACE)
        expected = brute(sliding, list(history.events.values()), now)
        assert_same(await served(online, sliding, now), expected)
        counts = {
            tile: {c: v["n"] for c, v in columns.items()}
            for tile, columns in (await tiles_in_redis(online, sliding)).items()
        }
        assert counts == await tiles_of_events(online, sliding, few_events_a_tile)
    later = now + random.Random(seed).randint(0, max(windows) * S)
    expected = brute(sliding, list(history.events.values()), later)
    assert_same(await served(online, sliding, later), expected)


async def test_a_wider_view_has_the_events_that_come_again(open_tenant, view):
    online, history = open_tenant().online, History(random.Random(5), 3_600, {})
    narrow = view(("filled_60", "int64", "count", "x", 60))
    now = NOW
    for _ in range(4):
        now += 500 * S
        await apply_events(online, WindowPlan.of(narrow), history.deliver(now, 300), now, GRACE)
    wide = everything(view, 60, 3_600)
    await apply_events(online, WindowPlan.of(wide), history.events.values(), now, GRACE)
    expected = brute(wide, list(history.events.values()), now)
    assert_same(await served(online, wide, now), expected)


async def test_hours_of_events_at_one_moment_leave_at_once(open_tenant, view):
    online, sliding = open_tenant().online, everything(view, 60)
    plan = WindowPlan.of(sliding)
    events = [EventRow(NOW, f"e{i}", "1", {"x": i, "k": i % 7}) for i in range(900)]
    await apply_events(online, plan, events, NOW, GRACE)
    assert_same(await served(online, sliding, NOW), brute(sliding, events, NOW))
    for n in range(8):
        now = NOW + (1_000 + n) * S
        new = [EventRow(now, f"new{n}", "1", {"x": 1, "k": "a"})]
        events += new
        await apply_events(online, plan, new, now, GRACE)
        assert_same(await served(online, sliding, now), brute(sliding, events, now))
    assert await online.zcard(plan.keys("1")[0]) < 100


async def test_values_far_ahead_of_the_clock_wait(open_tenant, view):
    online, kinds = open_tenant().online, view(("kinds", "int64", "count_distinct", "k", 3_600))
    plan = WindowPlan.of(kinds)
    events = [EventRow(NOW + 200 * S, f"e{i}", "1", {"k": i}) for i in range(1_000)]
    first = await apply_events(online, plan, events, NOW, GRACE)
    assert (first.fresh, len(first.future)) == (256, 744)
    assert await served(online, kinds, NOW) == {"kinds": 0}
    due = NOW + 200 * S
    assert await served(online, kinds, due) == {"kinds": 256}
    second = await apply_events(online, plan, first.future, due, GRACE)
    assert (second.fresh, second.future) == (744, ())
    assert await served(online, kinds, due) == {"kinds": 1_000}
