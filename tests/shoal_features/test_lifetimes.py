"""How long Redis keeps what is served."""

from dataclasses import replace

import orjson
import pytest

from shoal_features import keys
from shoal_features.catalog import Catalog
from shoal_features.jobs import _reset_lifetimes
from shoal_features.online import OnlineRow, apply_events, write_rows
from shoal_features.registry import Registry
from shoal_features.values import pack
from shoal_features.views import Feature, View
from shoal_features.windows import EventRow, WindowPlan

pytestmark = pytest.mark.anyio

S, MS, DAY = 1_000_000, 1_000, 86_400
NOW = 1_763_900_000 * S
ID = "é:1"


def plain(ttl: int | None) -> View:
    return View("profile", "user", "user_id", "plain", (Feature("n", "int64"),), ttl)


@pytest.mark.parametrize("ttls", [(60, 48 * 3600), (60, None), (None, 60), (48 * 3600, 60, None)])
async def test_values_are_kept_as_long_as_the_new_ttl_says(stores, ttls):
    online, catalog = stores.online, Catalog()
    row = OnlineRow(ID, {"n": pack(b"abcd", "int64", 1, NOW, NOW)})
    for step, ttl in enumerate(ttls):
        await catalog.replace("t", online, Registry((plain(ttl),)))
        if not step:
            await write_rows(online, plain(ttl), [row], NOW)
        left = await online.pttl(keys.values("user", ID))
        assert left == -1 if ttl is None else (ttl + DAY - 60) * MS < left <= (ttl + DAY) * MS


async def test_a_run_at_night_keeps_what_old_definitions_wrote(stores):
    online, registry = stores.online, Registry((plain(48 * 3600),))
    row = OnlineRow(ID, {"n": pack(b"abcd", "int64", 1, NOW, NOW)})
    await write_rows(online, plain(60), [row], NOW)
    ctx = type("Context", (), {"stores": stores})()
    await _reset_lifetimes(ctx, registry)
    assert await online.pttl(keys.values("user", ID)) > 48 * 3600 * MS
    assert orjson.loads(await online.get(keys.LIFETIMES)) == {"user": 48 * 3600}


async def test_an_event_ahead_of_the_clock_is_kept_for_its_ttl(online, view):
    counting = view(("n", "int64", "count", "", 60), ttl=60)
    event = EventRow(NOW + 240 * S, "a", ID, {})
    await apply_events(online, WindowPlan.of(counting), [event], NOW, 600)
    assert await online.pttl(keys.values("user", ID)) > (240 + DAY) * MS


async def test_windows_that_become_longer_keep_known_events_longer(online, view):
    short = view(("sum", "float64", "sum", "x", 60), ("k", "int64", "count_distinct", "x", 60))
    windows = tuple(replace(f, window=DAY) for f in short.features)
    event = EventRow(NOW, "a", ID, {"x": 1.0})
    for sliding in (short, replace(short, features=windows)):
        await apply_events(online, WindowPlan.of(sliding), [event], NOW, 600)
    for key in WindowPlan.of(short).keys(ID):
        if await online.exists(key):
            assert await online.pttl(key) > DAY * MS
