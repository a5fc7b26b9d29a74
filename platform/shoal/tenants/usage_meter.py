"""Counts what the tenants use in one process, and knows what they used in all."""

import asyncio
import logging
from collections.abc import Collection
from pathlib import Path
from time import monotonic

from shoal.contract.errors import Unavailable
from shoal.contract.usage import Meter

from .directory import Directory
from .tasks import cancel_and_wait
from .usage_journal import UsageJournal, abandoned_journals, read_journal
from .usage_ledger import Period, Totals, UsageLedger, today

log = logging.getLogger(__name__)

TICK_SECONDS = 1.0
FLUSH_SECONDS, COLLECT_SECONDS = 10.0, 30.0
FRESH_SECONDS = 5.0
"""Totals that are older are fetched before the next request is admitted."""
WATCHED_SECONDS = 60.0
"""How long after its last request a tenant's totals are kept fresh."""
AT_ONCE = 20
"""Tenants that are added to the ledger at the same time."""


class _Watched:
    """A tenant that has quotas: its totals in the ledger, and when they were wanted."""

    __slots__ = ("known_at", "totals", "wanted_at")

    def __init__(self) -> None:
        self.totals = Totals(today(), {}, {}, 0)
        self.known_at = self.wanted_at = float("-inf")


class UsageMeter:
    """One of each process. Counts go to a journal at once and to the ledger in turn.

    A tenant's counts are added to the ledger every ten seconds; each second where the
    tenant has quotas, so that replicas know of each other's counts.

    Args:
        directory: Tells which tenants were erased; the ledger is in the same Redis.
        folder: For the journals of this machine's processes.
    """

    def __init__(self, directory: Directory, folder: Path) -> None:
        self._directory, self._folder = directory, folder
        self.ledger = UsageLedger(directory.url)
        self._journal = UsageJournal(folder)
        self._added: dict[tuple[str, str], dict[tuple[str, str], int]] = {}
        """By tenant and day: the journal's counts that are in the ledger."""
        self._watched: dict[str, _Watched] = {}
        self._day = today()
        self._task: asyncio.Task[None] | None = None

    def add(self, tenant: str, capability: str, meter: Meter, count: int) -> None:
        """Count, surviving the end of this process."""
        if count > 0:
            self._journal.add(tenant, today(), capability, meter, count)

    def used(self, tenant: str, period: Period, capability: str, meter: Meter) -> int:
        """What a watched tenant used so far today or this month, as far as is known.

        Args:
            tenant: The tenant's id.
            period: `day` or `month`, in UTC.
            capability: A capability's name; `*` for all together.
            meter: What to count.
        """
        watched, day, length = self._watched.get(tenant), today(), _LENGTH[period]
        used = 0
        if watched is not None and watched.totals.today[:length] == day[:length]:
            used = watched.totals.used(period, capability, meter)
        added = self._added.get((tenant, day), {})
        for (name, kind), count in self._journal.counts(tenant, day).items():
            if kind == meter and capability in (name, "*"):
                used += count - added.get((name, kind), 0)
        return used

    def storage(self, tenant: str) -> int:
        """The bytes of a watched tenant's data, as last measured."""
        watched = self._watched.get(tenant)
        return 0 if watched is None else watched.totals.storage

    async def watch(self, tenant: str) -> None:
        """Know the tenant's totals, as of five seconds ago at most.

        While the ledger is unavailable the last that were known remain.
        """
        watched, now = self._watched.get(tenant), monotonic()
        if watched is None:
            watched = self._watched[tenant] = _Watched()
        watched.wanted_at = now
        if now - watched.known_at > FRESH_SECONDS:
            try:
                [totals] = await self.ledger.totals([tenant], today())
                self._know(tenant, totals)
            except Unavailable as error:
                log.warning("the usage of %s is not known anew: %s", tenant, error)
                watched.known_at = now

    async def start(self) -> None:
        """Add to the ledger in turn, also what ended processes of this machine left."""
        if self._task is None:
            self._task = asyncio.create_task(self._repeat(), name="shoal-usage")

    async def close(self) -> None:
        """Add the rest; what cannot be added remains in the journal."""
        await cancel_and_wait(self._task)
        self._task = None
        try:
            async with asyncio.timeout(5):
                await self.flush()
                await self._replace_journal()
        except (Unavailable, TimeoutError) as error:
            log.warning("the last usage is added to the ledger later: %s", error)

    async def _repeat(self) -> None:
        flushed = collected = float("-inf")
        while True:
            try:
                now = monotonic()
                if now - collected > COLLECT_SECONDS:
                    collected = now
                    await self.collect()
                if now - flushed > FLUSH_SECONDS:
                    flushed = now
                    await self.flush()
                await self._refresh_watched(now)
                if self._day != today():
                    await self._replace_journal()
                    self._day = today()
            except Unavailable as error:
                log.warning("usage could not be added to the ledger, retrying: %s", error)
            except Exception:
                log.exception("adding usage to the ledger failed")
            await asyncio.sleep(TICK_SECONDS)

    async def flush(self) -> None:
        """Add all new counts to the ledger.

        Raises:
            Unavailable: Redis is; the counts remain to be added.
        """
        await self._flush(self._journal)

    async def _refresh_watched(self, now: float) -> None:
        """Make the totals of the tenants with quotas known anew."""
        for tenant, watched in list(self._watched.items()):
            if now - watched.wanted_at > WATCHED_SECONDS:
                del self._watched[tenant]
        changed = {tenant for tenant, _ in self._journal.changed if tenant in self._watched}
        unchanged = [tenant for tenant in self._watched if tenant not in changed]
        for tenant, totals in zip(
            unchanged, await self.ledger.totals(unchanged, today()), strict=True
        ):
            self._know(tenant, totals)
        await self._flush(self._journal, changed)

    async def _flush(self, journal: UsageJournal, only: Collection[str] | None = None) -> None:
        """Add a journal's new counts to the ledger; `only` those of some tenants.

        Those of tenants that were erased are removed from the journal.
        """
        changed = {pair for pair in journal.changed if only is None or pair[0] in only}
        journal.changed -= changed
        try:
            asked = {tenant for tenant, _ in changed} if only is not None else journal.tenants()
            erased = await self._directory.erased_among(asked)
            for tenant in erased:
                journal.forget(tenant)
                self._added = {pair: n for pair, n in self._added.items() if pair[0] != tenant}
            pending = [pair for pair in changed if pair[0] not in erased]
            for start in range(0, len(pending), AT_ONCE):
                some = pending[start : start + AT_ONCE]
                await asyncio.gather(*(self._add_journal(journal, *pair) for pair in some))
        except BaseException:
            journal.changed |= changed
            raise

    async def _add_journal(self, journal: UsageJournal, tenant: str, day: str) -> None:
        counts = dict(journal.counts(tenant, day))
        totals = await self.ledger.add(tenant, day, journal.id, counts)
        if journal is self._journal:
            self._added[tenant, day] = counts
        if day == today():
            self._know(tenant, totals)

    def _know(self, tenant: str, totals: Totals) -> None:
        if (watched := self._watched.get(tenant)) is not None:
            watched.totals, watched.known_at = totals, monotonic()

    async def _replace_journal(self) -> None:
        """Begin another journal, so that none grows with the days."""
        journal, self._journal = self._journal, UsageJournal(self._folder)
        self._added = {}
        try:
            await self._flush(journal)
        except BaseException:
            journal.release()  # for another process, or this one, to collect
            raise
        journal.delete()

    async def collect(self) -> None:
        """Add what processes that ended left in their journals.

        Raises:
            Unavailable: Redis is; the journals remain.
        """
        for path in abandoned_journals(self._folder):
            left = read_journal(path)
            erased = await self._directory.erased_among({tenant for tenant, _ in left})
            for (tenant, day), counts in left.items():
                if tenant not in erased:
                    await self.ledger.add(tenant, day, path.stem, counts)
            path.unlink()


_LENGTH: dict[Period, int] = {"day": 10, "month": 7}
"""How much of a date names the period."""
