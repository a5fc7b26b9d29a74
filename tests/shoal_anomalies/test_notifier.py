"""Delivery, against real local servers."""

import asyncio
import time

import orjson
import pytest

from shoal_anomalies import keys
from shoal_anomalies import notifier as module
from shoal_anomalies.messages import MAX_ATTEMPTS, retry_delay
from shoal_anomalies.notifier import Notifier

pytestmark = pytest.mark.anyio

NOBODY = {"type": "webhook", "url": "http://127.0.0.1:1/nobody"}


async def add_notice(
    ctx, key="a1/opened/page", channel="page", title="Ünusual", attempts=0, number=1, due=0
):
    text = {
        "key": key,
        "title": title,
        "body": "one\ntwo",
        "reason": "opened",
        "priority": "P1",
        "data": {"alert": "a1", "tenant": ctx.tenant, "time": "2026-01-01T00:00:00Z"},
    }
    await ctx.stores.online.hset(
        keys.OUTBOX,
        key,
        orjson.dumps(
            {
                "channel": channel,
                "alert": "a1",
                "number": number,
                "attempts": attempts,
                "due": due,
                "message": text,
            }
        ),
    )


async def add_channel(ctx, name, channel):
    await ctx.stores.online.hset(keys.CHANNELS, name, orjson.dumps(channel))


async def outcomes(ctx):
    return [
        (d["key"], d["outcome"])
        for d in map(orjson.loads, await ctx.stores.online.lrange(keys.DELIVERIES, 0, -1))
    ]


async def test_a_webhook_gets_the_notice_once_with_its_key(ctx, webhook):
    await add_channel(ctx, "page", webhook.channel)
    await add_notice(ctx)
    assert await Notifier().deliver(ctx) is None
    assert await Notifier().deliver(ctx) is None
    assert [m["title"] for m in webhook.received] == ["Ünusual"]
    assert await ctx.stores.online.zscore(keys.SENT, "a1/opened/page") is not None


async def test_a_rejected_notice_is_retried_later(ctx, webhook):
    await add_channel(ctx, "page", webhook.channel)
    await add_notice(ctx)
    webhook.status = 500
    due = await Notifier().deliver(ctx)
    assert due is not None and due > time.time()
    assert await outcomes(ctx) == [("a1/opened/page", "failed")]
    webhook.status = 200
    await add_notice(ctx, attempts=1)  # and due now
    assert await Notifier().deliver(ctx) is None
    assert (await outcomes(ctx))[0] == ("a1/opened/page", "sent")


async def test_an_unreachable_channel_delays_no_other(ctx, webhook):
    await add_channel(ctx, "dead", NOBODY)
    await add_channel(ctx, "page", webhook.channel)
    await add_notice(ctx, "a/opened/dead", "dead")
    await add_notice(ctx, "b/opened/page", "page")
    assert await Notifier().deliver(ctx) is not None
    assert len(webhook.received) == 1


async def test_a_resolution_waits_for_the_notice_before_it(ctx, webhook):
    await add_channel(ctx, "page", webhook.channel)
    later = time.time() + 3600
    await add_notice(ctx, "a1/opened/page/1", title="opened", attempts=1, due=later)
    await add_notice(ctx, "a1/resolved/page/2", title="resolved", number=2)
    assert await Notifier().deliver(ctx) == later and not webhook.received
    await add_notice(ctx, "a1/opened/page/1", title="opened", attempts=1)
    assert await Notifier().deliver(ctx) is None
    assert [m["title"] for m in webhook.received] == ["opened", "resolved"]


async def test_a_notice_is_given_up_after_the_last_attempt(ctx):
    await add_channel(ctx, "dead", NOBODY)
    await add_notice(ctx, "a/opened/dead", "dead", attempts=MAX_ATTEMPTS - 1)
    assert await Notifier().deliver(ctx) is None
    assert await outcomes(ctx) == [("a/opened/dead", "given up")]


@pytest.mark.parametrize("defined", [False, True])
async def test_an_undefined_or_disabled_channel_is_reported(ctx, defined):
    if defined:
        await add_channel(ctx, "page", {**NOBODY, "enabled": False})
    await add_notice(ctx)
    assert await Notifier().deliver(ctx) is None
    (entry,) = map(orjson.loads, await ctx.stores.online.lrange(keys.DELIVERIES, 0, -1))
    assert ("disabled" if defined else "not defined") in entry["detail"]


async def test_concurrent_senders_send_a_notice_once(ctx, webhook):
    await add_channel(ctx, "page", webhook.channel)
    await add_notice(ctx)
    await asyncio.gather(*(Notifier().deliver(ctx) for _ in range(5)))
    assert len(webhook.received) == 1


async def test_an_attempt_is_not_made_again_by_a_late_sender(ctx, webhook):
    webhook.status = 500
    await add_channel(ctx, "page", webhook.channel)
    await add_notice(ctx)
    early = await ctx.stores.online.hget(keys.OUTBOX, "a1/opened/page")
    await Notifier().deliver(ctx)
    places = [keys.OUTBOX, keys.delivery_claim("a1/opened/page")]
    assert not await ctx.stores.online.eval(module.CLAIM, places, ["a1/opened/page", 1, early])
    late = await ctx.stores.online.hget(keys.OUTBOX, "a1/opened/page")
    assert await ctx.stores.online.eval(module.CLAIM, places, ["a1/opened/page", 1, late])


async def test_a_dead_senders_notice_is_sent_after_the_claim_expires(ctx, webhook, monkeypatch):
    await add_channel(ctx, "page", webhook.channel)
    await add_notice(ctx)
    monkeypatch.setattr(module, "CLAIM_TTL", 1)
    text = await ctx.stores.online.hget(keys.OUTBOX, "a1/opened/page")
    places = [keys.OUTBOX, keys.delivery_claim("a1/opened/page")]
    assert await ctx.stores.online.eval(module.CLAIM, places, ["a1/opened/page", 1, text])
    assert await Notifier().deliver(ctx) is not None
    assert not webhook.received
    await asyncio.sleep(1.1)
    await Notifier().deliver(ctx)
    assert len(webhook.received) == 1


async def test_a_channel_that_cannot_be_read_is_not_defined(ctx, webhook):
    await add_channel(ctx, "broken", {"type": "nothing"})
    await add_channel(ctx, "page", webhook.channel)
    await add_notice(ctx, "a/opened/broken", "broken")
    await add_notice(ctx, "b/opened/page", "page")
    assert await Notifier().deliver(ctx) is None
    assert len(webhook.received) == 1
    assert ("a/opened/broken", "given up") in await outcomes(ctx)


def test_retry_delays_grow_to_a_quarter_of_an_hour():
    assert retry_delay(1) == 0
    assert 1.8 <= retry_delay(2) <= 2.2
    assert retry_delay(50) <= 990
