"""Delivery, against real local servers."""

import asyncio
import time
from email import message_from_bytes, policy

import orjson
import pytest
from pydantic import ValidationError

from shoal_anomalies import keys
from shoal_anomalies import notifier as module
from shoal_anomalies.channels import MAX_ATTEMPTS, Channel, retry_delay
from shoal_anomalies.notifier import Notifier

pytestmark = pytest.mark.anyio


async def add_notice(ctx, key="a1/opened/page", channel="page", title="Ünusual", attempts=0):
    text = {
        "key": key,
        "title": title,
        "body": "one\ntwo",
        "reason": "opened",
        "priority": "P1",
        "data": {},
    }
    await ctx.stores.online.hset(
        keys.OUTBOX,
        key,
        orjson.dumps({"channel": channel, "attempts": attempts, "due": 0, "message": text}),
    )


async def add_channel(ctx, name, url, enabled=True):
    await ctx.stores.online.hset(
        keys.CHANNELS, name, orjson.dumps({"url": url, "enabled": enabled})
    )


async def outcomes(ctx):
    return [
        (d["key"], d["outcome"])
        for d in map(orjson.loads, await ctx.stores.online.lrange(keys.DELIVERIES, 0, -1))
    ]


async def test_a_webhook_gets_the_notice_once_with_its_key(ctx, webhook):
    await add_channel(ctx, "page", webhook.url)
    await add_notice(ctx)
    assert await Notifier().deliver(ctx) is None
    assert await Notifier().deliver(ctx) is None
    assert [(m["key"], m["title"]) for m in webhook.received] == [("a1/opened/page", "Ünusual")]
    assert await ctx.stores.online.zscore(keys.SENT, "a1/opened/page") is not None


async def test_e_mail_is_readable_and_has_the_key(ctx, free_port):
    from aiosmtpd.controller import Controller

    received = []

    class Inbox:
        async def handle_DATA(self, server, session, envelope):
            received.append(message_from_bytes(envelope.content, policy=policy.default))
            return "250 OK"

    server = Controller(Inbox(), hostname="127.0.0.1", port=free_port)
    server.start()
    try:
        url = f"mailto://127.0.0.1:{server.port}?from=shoal@example.org&to=ops@example.org&mode=insecure"
        await add_channel(ctx, "email", url)
        await add_notice(ctx, channel="email")
        await Notifier().deliver(ctx)
    finally:
        server.stop()
    (mail,) = received
    assert mail["Subject"] == "Ünusual" and mail["X-Shoal-Notice"] == "a1/opened/page"
    text = mail.get_body(("plain",)).get_content()
    assert text.split() == ["one", "two"]


async def test_a_rejected_notice_is_retried_later(ctx, webhook):
    await add_channel(ctx, "page", webhook.url)
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
    await add_channel(ctx, "dead", "json://127.0.0.1:1/nobody")
    await add_channel(ctx, "page", webhook.url)
    await add_notice(ctx, "a/opened/dead", "dead")
    await add_notice(ctx, "b/opened/page", "page")
    assert await Notifier().deliver(ctx) is not None
    assert [m["key"] for m in webhook.received] == ["b/opened/page"]


async def test_a_notice_is_given_up_after_the_last_attempt(ctx):
    await add_channel(ctx, "dead", "json://127.0.0.1:1/nobody")
    await add_notice(ctx, "a/opened/dead", "dead", attempts=MAX_ATTEMPTS - 1)
    assert await Notifier().deliver(ctx) is None
    assert await outcomes(ctx) == [("a/opened/dead", "given up")]


@pytest.mark.parametrize("defined", [False, True])
async def test_an_undefined_or_disabled_channel_is_reported(ctx, defined):
    if defined:
        await add_channel(ctx, "page", "json://127.0.0.1:1/x", enabled=False)
    await add_notice(ctx)
    assert await Notifier().deliver(ctx) is None
    (entry,) = map(orjson.loads, await ctx.stores.online.lrange(keys.DELIVERIES, 0, -1))
    assert ("disabled" if defined else "not defined") in entry["detail"]


async def test_concurrent_senders_send_a_notice_once(ctx, webhook):
    await add_channel(ctx, "page", webhook.url)
    await add_notice(ctx)
    await asyncio.gather(*(Notifier().deliver(ctx) for _ in range(5)))
    assert len(webhook.received) == 1


async def test_a_dead_senders_notice_is_sent_after_the_claim_expires(ctx, webhook, monkeypatch):
    await add_channel(ctx, "page", webhook.url)
    await add_notice(ctx)
    monkeypatch.setattr(module, "CLAIM_TTL", 1)
    assert await ctx.stores.online.eval(
        module.CLAIM, [keys.OUTBOX, keys.delivery_claim("a1/opened/page")], ["a1/opened/page", 1]
    )
    assert await Notifier().deliver(ctx) is not None
    assert not webhook.received
    await asyncio.sleep(1.1)
    await Notifier().deliver(ctx)
    assert len(webhook.received) == 1


@pytest.mark.parametrize(
    "url", ["", "nonsense", "syslog://", "file:///etc/passwd", "dbus://", "nothing://x"]
)
def test_an_invalid_channel_is_rejected_without_showing_its_url(url):
    with pytest.raises(
        ValidationError, match="not a URL of a service that Apprise supports"
    ) as refusal:
        Channel(url=url)
    assert "passwd" not in str(refusal.value)


def test_retry_delays_grow_to_a_quarter_of_an_hour():
    assert retry_delay(1) == 0
    assert 1.8 <= retry_delay(2) <= 2.2
    assert retry_delay(50) <= 990
