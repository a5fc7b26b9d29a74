"""A running experiment's data: which of the tenant's events count, day by day, and what
is kept of each day.

A day is made from the lake's archive of that day and what the event log holds beyond
it. Days that the lake has whole are kept (`replace`: making one again changes nothing)
with a fingerprint of what they were made from, so that only days with new events are
made again; late events fall into their own day and so renew it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any, Literal, get_args

import anyio.to_thread
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from shoal import Stores

from . import aggregation as agg
from .design import Design
from .repository import Document

COLUMNS = ["id", "source", "type", "time", "subject", "data"]
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("source", pa.string()),
        ("type", pa.string()),
        ("time", pa.timestamp("us", tz="UTC")),
        ("subject", pa.string()),
        ("data", pa.string()),
    ]
)
Kind = Literal["exposures", "outcomes", "past"]
ACCOUNT = "metric"
"""Event type of the router's account."""


@dataclass(frozen=True, slots=True)
class Scope:
    """What of a tenant's events concerns one experiment. Exposures count from `start`
    to `end`; outcomes of metrics without a window to `end` as well, those with one as
    long as their window lasts.
    """

    stores: Stores
    tenant: str
    id: str
    design: Design
    start: datetime
    end: datetime | None

    @classmethod
    def of(cls, document: Document, stores: Stores, tenant: str) -> Scope:
        assert document.started_at is not None
        return cls(
            stores, tenant, document.id, document.design, document.started_at, document.stopped_at
        )

    def table(self, kind: Kind) -> str:
        return f"experiment_{hashlib.sha256(self.id.encode()).hexdigest()[:16]}_{kind}"

    @property
    def key(self) -> tuple[str, ...]:
        """Hash of fingerprints: kind/day → what the kept day was made from."""
        return ("experiments", "days", self.id)

    def days(self, now: datetime) -> list[date]:
        last = now if self.end is None else min(now, self.end + timedelta(days=self._reach()))
        return days_of(self.start, last)

    def past(self) -> list[date]:
        """The whole days before the start that CUPED looks at."""
        most = max((m.cuped_days or 0 for m in self.design.metrics()), default=0)
        first = self.start.astimezone(UTC).date()
        return [first - timedelta(days=n) for n in range(most, 0, -1)]

    def types(self) -> set[str]:
        found = {source.event for metric in self.design.metrics() for _, source in metric.sources()}
        return {*found, agg.EXPOSURE, ACCOUNT}

    def _reach(self) -> float:
        return max((m.window_days or 0.0 for m in self.design.metrics()), default=0.0)


def days_of(first: datetime, last: datetime) -> list[date]:
    start, end = first.astimezone(UTC).date(), last.astimezone(UTC).date()
    return [start + timedelta(days=n) for n in range((end - start).days + 1)]


class Tail:
    """The events that the log holds beyond the lake, by day."""

    def __init__(self, rows: Mapping[date, pa.Table]) -> None:
        self._rows = rows

    @classmethod
    async def read(cls, scope: Scope, now: datetime, types: Sequence[str] | None = None) -> Tail:
        """`types` are the scope's when not given; none named are all."""
        after = await _archived(scope.stores, now)
        days: dict[date, list[dict[str, Any]]] = {}
        async for _, event in scope.stores.events.read(
            after, types=tuple(sorted(scope.types())) if types is None else types
        ):
            time = event.time.astimezone(UTC)
            days.setdefault(time.date(), []).append(
                {
                    "id": event.id,
                    "source": event.source,
                    "type": event.type,
                    "time": time,
                    "subject": event.subject,
                    "data": orjson.dumps(event.data).decode(),
                }
            )
        return cls({day: pa.Table.from_pylist(rows, SCHEMA) for day, rows in days.items()})

    def on(self, day: date) -> pa.Table | None:
        return self._rows.get(day)


async def _archived(stores: Stores, now: datetime) -> str:
    """A position of the log that the lake is known to hold: all events before it are in
    the lake. Read from the lake itself, from its two latest days; when those are empty
    the log is read from its beginning.
    """
    today = now.astimezone(UTC).date()
    rows = await stores.lake.read("events", today - timedelta(days=1), today, columns=["position"])
    if rows is None or not rows.num_rows:
        return "0"
    milliseconds = pc.cast(pc.list_element(pc.split_pattern(rows["position"], "-"), 0), pa.int64())
    return f"{pc.max(milliseconds).as_py() - 1}-0"


@dataclass(slots=True)
class Observed:
    """An experiment's data by day, ready for `aggregation.summarize`."""

    who: agg.Exposed
    exposures: dict[date, pa.Table] = field(default_factory=dict)
    outcomes: dict[date, pa.Table] = field(default_factory=dict)
    past: dict[date, pa.Table] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Task:
    """Make one day. Can travel to another process; `keep` says whether the lake holds
    all of it.
    """

    scope: Scope
    kind: Kind
    day: date
    fingerprint: str
    keep: bool
    tail: pa.Table | None = None
    who: agg.Exposed | None = None

    async def run(self) -> pa.Table:
        events = await events_of(self.scope, self.day, self.tail, self.scope.types())
        made = await anyio.to_thread.run_sync(make, self.scope, self.kind, events, self.who)
        if self.keep:
            await self.scope.stores.lake.replace(self.scope.table(self.kind), made, self.day)
            await self.scope.stores.online.hset(
                self.scope.key, f"{self.kind}/{self.day}", self.fingerprint
            )
        return made


def make(scope: Scope, kind: Kind, events: pa.Table, who: agg.Exposed | None) -> pa.Table:
    """One day's table from that day's events."""
    if (
        kind == "exposures"
    ):  # an exposure's id is its content's: one of an earlier experiment of this id must not hide this one's
        return agg.first_exposures(agg.distinct(between(events, scope.start, scope.end)), scope.id)
    events = agg.distinct(events)
    unit = scope.tenant if scope.design.unit == "tenant" else None
    if kind == "past":
        return agg.outcomes(
            events,
            [m for m in scope.design.metrics() if m.cuped_days],
            scope.id,
            None,
            scope.design.unit,
            unit,
        )
    lasting = [m for m in scope.design.metrics() if m.window_days is None]
    timed = [m for m in scope.design.metrics() if m.window_days is not None]
    assert who is not None
    return pa.concat_tables(
        [
            agg.outcomes(
                between(events, scope.start, scope.end),
                lasting,
                scope.id,
                who,
                scope.design.unit,
                unit,
            ),
            agg.outcomes(events, timed, scope.id, who, scope.design.unit, unit),
            agg.service(events, scope.id),
        ]
    )


def between(events: pa.Table, start: datetime, end: datetime | None) -> pa.Table:
    if not events.num_rows:
        return events
    keep = pc.greater_equal(
        events["time"], pa.scalar(start.astimezone(UTC), pa.timestamp("us", tz="UTC"))
    )
    if end is not None:
        keep = pc.and_(
            keep,
            pc.less_equal(
                events["time"], pa.scalar(end.astimezone(UTC), pa.timestamp("us", tz="UTC"))
            ),
        )
    return events.filter(keep)


async def events_of(
    scope: Scope, day: date, tail: pa.Table | None, types: Collection[str] | None
) -> pa.Table:
    """One day's events of these types (None: of all), from the lake and the tail; some
    may be there twice.
    """
    archived = await scope.stores.lake.read("events", day, day, columns=COLUMNS)
    tables = [
        t.select(COLUMNS).cast(SCHEMA) for t in (archived, tail) if t is not None and t.num_rows
    ]
    if not tables:
        return SCHEMA.empty_table()
    table = pa.concat_tables(tables)
    return (
        table
        if types is None
        else table.filter(pc.is_in(table["type"], value_set=pa.array(sorted(types))))
    )


Runner = Callable[[Sequence[Task]], Awaitable[list[pa.Table]]]
"""How several days are made: here, or by Ray Data."""


async def one_by_one(tasks: Sequence[Task]) -> list[pa.Table]:
    return [await task.run() for task in tasks]


async def observe(scope: Scope, now: datetime, run: Runner = one_by_one) -> Observed:
    """The experiment's data as of now. Days that have not changed since they were made
    are read back, the others made.
    """
    tail = await Tail.read(scope, now)
    known = {
        k.decode(): v.decode() for k, v in (await scope.stores.online.hgetall(scope.key)).items()
    }
    salt = _hash(scope.design.hash(), scope.start.isoformat(), str(scope.end))
    exposures, prints = await _made(
        scope, "exposures", scope.days(now), tail, known, salt, None, run
    )
    who = await anyio.to_thread.run_sync(agg.exposed, list(exposures.values()), scope.design.arms)
    outcomes: dict[date, pa.Table] = {}
    if len(who.units):
        outcomes, _ = await _made(
            scope, "outcomes", scope.days(now), tail, known, salt, who, run, prints
        )
    past: dict[date, pa.Table] = {}
    if scope.past():
        past, _ = await _made(scope, "past", scope.past(), tail, known, salt, None, run)
    return Observed(who, exposures, outcomes, past)


async def _made(
    scope: Scope,
    kind: Kind,
    days: Sequence[date],
    tail: Tail,
    known: Mapping[str, str],
    salt: str,
    who: agg.Exposed | None,
    run: Runner,
    before: Sequence[str] = (),
) -> tuple[dict[date, pa.Table], list[str]]:
    """Tables by day, and all days' fingerprints. `before`: fingerprints of the same
    days' exposures; a day's outcomes depend on the exposures up to it.
    """
    tasks, kept, prints = [], [], []
    for index, day in enumerate(days):
        files = await scope.stores.lake.files("events", day, day)
        rest = tail.on(day)
        ids = (
            ""
            if rest is None
            else _hash(*map(str, rest["source"].to_pylist()), *map(str, rest["id"].to_pylist()))
        )
        fingerprint = _hash(salt, ids, *files, "after", *before[: index + 1])
        prints.append(fingerprint)
        if rest is None and known.get(f"{kind}/{day}") == fingerprint:
            kept.append(day)
        elif rest is not None or files:
            tasks.append(Task(scope, kind, day, fingerprint, rest is None, rest, who))
    tables = dict(zip((t.day for t in tasks), await run(tasks) if tasks else [], strict=True))
    for day in kept:
        rows = await scope.stores.lake.read(scope.table(kind), day, day)
        if rows is not None:
            tables[day] = rows.drop_columns([c for c in ("date",) if c in rows.column_names])
    return {day: tables[day] for day in days if day in tables}, prints


def _hash(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


async def forget(scope: Scope) -> None:
    """Drop what was kept of an experiment's data (its events stay in the log's
    archive).
    """
    for kind in get_args(Kind):
        await scope.stores.lake.delete(scope.table(kind))
    await scope.stores.online.delete(scope.key)
