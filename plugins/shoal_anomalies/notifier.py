"""Sending what is in the outbox: with retries, and each notice once.

A notice is put into the outbox in the same write as the alert that owes it. Whoever
sends it holds a claim on it; when it went, it leaves the outbox and its key is
remembered, so that it is never put there again. Where a sender dies between sending and
saying so, the notice is sent again once its claim has run out, under the same key.
"""

import asyncio
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from shoal import ShoalError, TenantContext

from . import keys
from .channels import ATTEMPTS, AppriseSender, Channel, Message, Sender, wait_before

log = logging.getLogger("shoal.anomalies")

CLAIMED = 120  # seconds
REMEMBERED = 30 * 86_400  # seconds that the keys of sent notices are kept
LOGGED = 500  # deliveries kept
IDLE = 60.0  # the longest sleep

FINISH = """
redis.call('hdel', KEYS[1], ARGV[1])
redis.call('zadd', KEYS[2], ARGV[2], ARGV[1])
redis.call('zremrangebyscore', KEYS[2], '-inf', ARGV[2] - ARGV[3])
redis.call('del', KEYS[3])
return 1
"""
CLAIM = """
if redis.call('hexists', KEYS[1], ARGV[1]) == 0 then return 0 end
return redis.call('set', KEYS[2], '1', 'NX', 'EX', ARGV[2]) and 1 or 0
"""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One attempt, as it is shown."""

    key: str
    channel: str
    time: float
    attempt: int
    outcome: str  # "sent", "failed" (and tried again), "given up"
    detail: str = ""


class Courier:
    """Sends tenants' notices in the background; one task per tenant, which ends when
    its outbox is empty.
    """

    def __init__(self, sender: Sender | None = None) -> None:
        self._sender = sender or AppriseSender()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._wake: dict[str, asyncio.Event] = {}

    def kick(self, ctx: TenantContext) -> None:
        """See to the tenant's outbox soon; returns at once."""
        task = self._tasks.get(ctx.tenant)
        if task is None or task.done():
            self._wake[ctx.tenant] = asyncio.Event()
            self._tasks[ctx.tenant] = asyncio.create_task(self._run(ctx))
        else:
            self._wake[ctx.tenant].set()

    async def _run(self, ctx: TenantContext) -> None:
        wake = self._wake[ctx.tenant]
        while True:
            wake.clear()
            try:
                due = await self.deliver(ctx)
            except ShoalError as fault:
                log.warning("notices of %s: %s", ctx.tenant, fault.detail)
                due = time.time() + 5
            if due is None:
                if wake.is_set():
                    continue
                return
            try:
                await asyncio.wait_for(wake.wait(), min(max(due - time.time(), 0.05), IDLE))
            except TimeoutError:
                continue

    async def deliver(self, ctx: TenantContext) -> float | None:
        """Send all that is due; when the next is due (epoch seconds), or None when
        nothing is left. One channel's trouble does not hold up another's.
        """
        online = ctx.stores.online
        pipe = online.pipeline()
        pipe.hgetall(keys.OUTBOX).hgetall(keys.CHANNELS)
        outbox, channels = await pipe.execute()
        now = time.time()
        due: list[tuple[str, dict[str, Any]]] = []
        later: list[float] = []
        for raw, text in outbox.items():
            entry = orjson.loads(text)
            (
                due.append((raw.decode(), entry))
                if entry["due"] <= now
                else later.append(entry["due"])
            )
        by_channel: dict[str, list[tuple[str, dict[str, Any]]]] = {}
        for key, entry in due:
            by_channel.setdefault(entry["channel"], []).append((key, entry))
        results = await asyncio.gather(
            *(self._all(ctx, entries, channels) for entries in by_channel.values())
        )
        waits = later + [wait for result in results for wait in result]
        return min(waits) if waits else None

    async def _all(
        self,
        ctx: TenantContext,
        entries: list[tuple[str, dict[str, Any]]],
        channels: Mapping[bytes, bytes],
    ) -> list[float]:
        waits = []
        for key, entry in sorted(
            entries, key=lambda item: (item[1]["message"]["reason"] == "resolved", item[0])
        ):
            wait = await self._one(ctx, key, entry, channels.get(entry["channel"].encode()))
            if wait is not None:
                waits.append(wait)
        return waits

    async def _one(
        self, ctx: TenantContext, key: str, entry: dict[str, Any], stored: bytes | None
    ) -> float | None:
        online = ctx.stores.online
        if not await online.eval(CLAIM, [keys.OUTBOX, keys.claim(key)], [key, CLAIMED]):
            return (
                time.time() + 5 if await online.hexists(keys.OUTBOX, key) else None
            )  # somebody else has it in hand
        attempt = entry["attempts"] + 1
        channel = Channel.model_validate_json(stored) if stored else None
        if channel is None or not channel.enabled:
            fault: str | None = (
                f"the channel {entry['channel']!r} is {'switched off' if channel else 'not defined'}"
            )
            attempt = ATTEMPTS
        else:
            fault = await self._sender.send(channel, Message(**entry["message"]))
        now = time.time()
        outcome = "sent" if fault is None else "given up" if attempt >= ATTEMPTS else "failed"
        delivery = Delivery(key, entry["channel"], now, attempt, outcome, fault or "")
        pipe = online.pipeline()
        pipe.lpush(keys.DELIVERIES, orjson.dumps(delivery)).ltrim(keys.DELIVERIES, 0, LOGGED - 1)
        if outcome == "failed":
            due = now + wait_before(attempt + 1)
            pipe.hset(
                keys.OUTBOX, key, orjson.dumps({**entry, "attempts": attempt, "due": due})
            ).unlink(keys.claim(key))
            await pipe.execute()
            return due
        await online.eval(FINISH, [keys.OUTBOX, keys.SENT, keys.claim(key)], [key, now, REMEMBERED])
        await pipe.execute()
        return None
