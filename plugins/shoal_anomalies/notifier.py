"""Delivery of the notices in the outbox, with retries.

A notice is put into the outbox in the same write as the alert that causes it. A process
claims it before sending; once sent, it leaves the outbox and its key is remembered, so
that it is never put there again. If a process dies between sending and recording that,
the notice is sent again under the same key when the claim expires.
"""

import asyncio
import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import orjson

from shoal import ShoalError, TenantContext

from . import keys
from .channels import AnyChannel, load_channel
from .messages import MAX_ATTEMPTS, Message, retry_delay
from .sender import send

log = logging.getLogger("shoal.anomalies")

CLAIM_TTL = 120  # seconds
SENT_RETENTION = 30 * 86_400  # seconds that keys of sent notices are remembered
MAX_DELIVERIES = 500  # delivery attempts stored
MAX_SLEEP = 60.0  # seconds
RETRY_LATER = 5.0  # seconds until a claimed notice, or unavailable storage, is tried again

# Claim a notice for sending.
# KEYS  1 outbox (hash), 2 the notice's claim (string)
# ARGV  1 notice key, 2 seconds until the claim expires, 3 the entry as it was read
# Returns 1, or 0 if the notice is gone, claimed, or was tried since it was read.
CLAIM = """
if redis.call('hget', KEYS[1], ARGV[1]) ~= ARGV[3] then return 0 end
return redis.call('set', KEYS[2], '1', 'NX', 'EX', ARGV[2]) and 1 or 0
"""
# Remove a notice that was sent or given up, and remember its key.
# KEYS  1 outbox (hash), 2 keys of sent notices (sorted set), 3 the claim (string)
# ARGV  1 notice key, 2 now (epoch seconds), 3 seconds that keys are remembered
FINISH = """
redis.call('hdel', KEYS[1], ARGV[1])
redis.call('zadd', KEYS[2], ARGV[2], ARGV[1])
redis.call('zremrangebyscore', KEYS[2], '-inf', ARGV[2] - ARGV[3])
redis.call('del', KEYS[3])
return 1
"""

Entry = dict[str, Any]  # of the outbox: channel, alert, number, attempts, due, message


@dataclass(frozen=True, slots=True)
class Delivery:
    """One delivery attempt, as the API shows it.

    outcome: "sent", "failed" (will be retried) or "given up".
    """

    key: str
    channel: str
    time: float
    attempt: int
    outcome: str
    detail: str = ""


class Notifier:
    """Sends tenants' notices in the background.

    There is one task per tenant, which ends when the outbox is empty.
    """

    def __init__(self) -> None:
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._wake: dict[str, asyncio.Event] = {}

    def schedule_delivery(self, ctx: TenantContext) -> None:
        """Start delivering a tenant's notices, and return at once."""
        task = self._tasks.get(ctx.tenant)
        if task is None or task.done():
            self._wake[ctx.tenant] = asyncio.Event()
            self._tasks[ctx.tenant] = asyncio.create_task(self._deliver_all(ctx))
        else:
            self._wake[ctx.tenant].set()

    async def _deliver_all(self, ctx: TenantContext) -> None:
        wake = self._wake[ctx.tenant]
        while True:
            wake.clear()
            try:
                due = await self.deliver(ctx)
            except ShoalError as error:
                log.warning("notices of %s cannot be sent now: %s", ctx.tenant, error.detail)
                due = time.time() + RETRY_LATER
            if due is None:
                if wake.is_set():
                    continue
                return
            try:
                delay = min(max(due - time.time(), 0.05), MAX_SLEEP)
                await asyncio.wait_for(wake.wait(), delay)
            except TimeoutError:
                continue

    async def deliver(self, ctx: TenantContext) -> float | None:
        """Send all notices that are due; channels do not wait for each other.

        Returns:
            When the next notice is due (epoch seconds); None if the outbox is empty.
        """
        pipe = ctx.stores.online.pipeline()
        pipe.hgetall(keys.OUTBOX).hgetall(keys.CHANNELS)
        outbox, channels = await pipe.execute()
        by_channel: dict[str, dict[str, list[tuple[str, Entry, bytes]]]] = {}
        for key, text in outbox.items():
            entry = orjson.loads(text)
            by_alert = by_channel.setdefault(entry["channel"], {})
            by_alert.setdefault(entry["alert"], []).append((key.decode(), entry, text))
        results = await asyncio.gather(
            *(
                self._send_to_channel(ctx, name, by_alert.values(), channels.get(name.encode()))
                for name, by_alert in by_channel.items()
            )
        )
        return min((due for result in results for due in result), default=None)

    async def _send_to_channel(
        self,
        ctx: TenantContext,
        name: str,
        alerts: Iterable[list[tuple[str, Entry, bytes]]],
        stored: bytes | None,
    ) -> list[float]:
        """Send what is due; when those not sent are due again.

        The notices of an alert are sent in order, each once the one before it was sent
        or given up: an incident that is resolved before it is opened would stay open.
        """
        channel = load_channel(name, stored)
        waiting: list[float] = []
        for entries in alerts:
            for key, entry, text in sorted(entries, key=lambda item: item[1]["number"]):
                due: float | None = entry["due"]
                if entry["due"] <= time.time():
                    due = await self._send_notice(ctx, key, entry, text, channel)
                if due is not None:
                    waiting.append(due)
                    break
        return waiting

    async def _send_notice(
        self, ctx: TenantContext, key: str, entry: Entry, text: bytes, channel: AnyChannel | None
    ) -> float | None:
        online = ctx.stores.online
        claim = keys.delivery_claim(key)
        if not await online.eval(CLAIM, [keys.OUTBOX, claim], [key, CLAIM_TTL, text]):
            is_waiting = await online.hexists(keys.OUTBOX, key)
            return time.time() + RETRY_LATER if is_waiting else None
        attempt = entry["attempts"] + 1
        error: str | None
        if channel is None or not channel.enabled:
            state = "disabled" if channel else "not defined"
            error, attempt = f"the channel {entry['channel']!r} is {state}", MAX_ATTEMPTS
        else:
            error = await send(ctx.services, channel, Message(**entry["message"]))
        now = time.time()
        outcome = "sent" if error is None else "given up" if attempt >= MAX_ATTEMPTS else "failed"
        delivery = Delivery(key, entry["channel"], now, attempt, outcome, error or "")
        pipe = online.pipeline()
        pipe.lpush(keys.DELIVERIES, orjson.dumps(delivery))
        pipe.ltrim(keys.DELIVERIES, 0, MAX_DELIVERIES - 1)
        if outcome == "failed":
            due = now + retry_delay(attempt + 1)
            pipe.hset(keys.OUTBOX, key, orjson.dumps({**entry, "attempts": attempt, "due": due}))
            pipe.unlink(claim)
            await pipe.execute()
            return due
        finish_keys = [keys.OUTBOX, keys.SENT, claim]
        await online.eval(FINISH, finish_keys, [key, now, SENT_RETENTION])
        await pipe.execute()
        return None
