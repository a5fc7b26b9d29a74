"""An experiment's data: its daily tables, computed from events and kept in the lake.

A day's events are the lake's archive of that day and what the event log has beyond it.
Tables of days that are completely archived are kept, with a fingerprint of what they
were computed from, so that only days with new events are computed again. A late event
belongs to its own day and changes that day's fingerprint.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any, Literal, get_args

import anyio.to_thread
import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from shoal import Stores

from . import aggregation as agg
from .attribute_values import daily_attributes
from .design import Design
from .memberships import first_memberships, people_within
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
"""Columns of events; `data` is JSON text."""

Kind = Literal["exposures", "outcomes", "past", "keys", "members", "attributes"]
"""A kind of daily table.

"members" says which people belong to which unit, where people are observed in units.
"attributes" has what the events say of units, for breakdowns.
"past" has the outcomes before the start, for CUPED. "keys" has those of the events that
a day's outcomes were computed from, so that an event that is sent again on another day
counts once.
"""

MEMBERSHIP_DAYS = 90
"""Days before the start from which on events say who belongs to which unit."""

KEYS = pa.schema([("key", pa.int64())])


@dataclass(frozen=True, slots=True)
class Scope:
    """Which of a tenant's events belong to one experiment.

    Exposures count from `start` to `end`. So do outcomes of metrics without a window;
    those with a window count until their window is over.
    """

    stores: Stores
    tenant: str
    id: str
    design: Design
    start: datetime
    end: datetime | None

    @classmethod
    def of(cls, document: Document, stores: Stores, tenant: str) -> Scope:
        """The scope of an experiment that has started."""
        assert document.started_at is not None
        return cls(
            stores, tenant, document.id, document.design, document.started_at, document.stopped_at
        )

    def table(self, kind: Kind) -> str:
        """Name of the lake table with this kind of daily tables."""
        return f"experiment_{hashlib.sha256(self.id.encode()).hexdigest()[:16]}_{kind}"

    @property
    def key(self) -> tuple[str, ...]:
        """Hash of fingerprints: kind/day → what the kept table was computed from."""
        return ("experiments", "days", self.id)

    def days(self, now: datetime) -> list[date]:
        """The days from the start until now, or until the last window is over."""
        window = max((m.window_days or 0.0 for m in self.design.metrics()), default=0.0)
        last = now if self.end is None else min(now, self.end + timedelta(days=window))
        return days_between(self.start, last)

    def past(self) -> list[date]:
        """The days with what CUPED uses, of which the first and last are not whole."""
        most = max((m.cuped_days or 0 for m in self.design.metrics()), default=0)
        return days_between(self.start - timedelta(days=most), self.start) if most else []

    def membership_days(self, now: datetime) -> list[date]:
        """The days whose events say who belongs to which unit."""
        return days_between(self.start - timedelta(days=MEMBERSHIP_DAYS), now)

    def types(self) -> set[str]:
        """Event types that the experiment needs."""
        found = {source.event for metric in self.design.metrics() for _, source in metric.sources()}
        people = {self.design.people.event} if self.design.people else set()
        attributes = {a.event for a in self.design.breakdowns if a.event is not None}
        return {*found, *people, *attributes, agg.EXPOSURE, agg.REQUEST_METRIC}


def days_between(first: datetime, last: datetime) -> list[date]:
    """The days in UTC from `first` to `last`, both included."""
    start, end = first.astimezone(UTC).date(), last.astimezone(UTC).date()
    return [start + timedelta(days=n) for n in range((end - start).days + 1)]


class EventTail:
    """The events that the log has beyond the lake, by day."""

    def __init__(self, rows: Mapping[date, pa.Table]) -> None:
        self._rows = rows

    @classmethod
    async def read(
        cls, scope: Scope, now: datetime, types: Sequence[str] | None = None
    ) -> EventTail:
        """Read events of the scope's types, or of `types`, where `()` means all."""
        after = await _archived_position(scope.stores, now)
        days: dict[date, list[dict[str, Any]]] = {}
        async for _, event in scope.stores.events.read(
            after, types=tuple(sorted(scope.types())) if types is None else types
        ):
            time = event.time.astimezone(UTC)
            row = {
                "id": event.id,
                "source": event.source,
                "type": event.type,
                "time": time,
                "subject": event.subject,
                "data": orjson.dumps(event.data).decode(),
            }
            days.setdefault(time.date(), []).append(row)
        return cls({day: pa.Table.from_pylist(rows, SCHEMA) for day, rows in days.items()})

    def on(self, day: date) -> pa.Table | None:
        """The tail's events on a day, with the columns of `SCHEMA`."""
        return self._rows.get(day)


async def _archived_position(stores: Stores, now: datetime) -> str:
    """A position of the log before which all events are in the lake.

    It is read from the lake's two latest days; when they have no events, the log is
    read from its beginning.
    """
    today = now.astimezone(UTC).date()
    rows = await stores.lake.read("events", today - timedelta(days=1), today, columns=["position"])
    if rows is None or not rows.num_rows:
        return "0"
    milliseconds = pc.cast(pc.list_element(pc.split_pattern(rows["position"], "-"), 0), pa.int64())
    return f"{pc.max(milliseconds).as_py() - 1}-0"


async def read_events(
    scope: Scope, day: date, tail: pa.Table | None, types: Collection[str] | None
) -> pa.Table:
    """One day's events, from the lake and the tail; an event may be in both.

    Args:
        scope: The experiment.
        day: The day, in UTC.
        tail: The tail's events on that day.
        types: Event types; None for all.
    """
    archived = await scope.stores.lake.read("events", day, day, columns=COLUMNS)
    tables = [
        t.select(COLUMNS).cast(SCHEMA) for t in (archived, tail) if t is not None and t.num_rows
    ]
    if not tables:
        return SCHEMA.empty_table()
    table = pa.concat_tables(tables)
    if types is None:
        return table
    return table.filter(pc.is_in(table["type"], value_set=pa.array(sorted(types))))


def events_between(events: pa.Table, start: datetime, end: datetime | None) -> pa.Table:
    """The events from `start` to `end`, both included; an `end` of None is open."""
    if not events.num_rows:
        return events
    timestamp = pa.timestamp("us", tz="UTC")
    keep = pc.greater_equal(events["time"], pa.scalar(start.astimezone(UTC), timestamp))
    if end is not None:
        before = pc.less_equal(events["time"], pa.scalar(end.astimezone(UTC), timestamp))
        keep = pc.and_(keep, before)
    return events.filter(keep)


@dataclass(frozen=True, slots=True)
class Task:
    """Computes one daily table; can be sent to another process.

    Attributes:
        scope: The experiment.
        kind: The kind of table.
        day: The day, in UTC.
        fingerprint: What the table is computed from.
        keep: Whether to store the table: the lake has all of the day's events.
        tail: The day's events that are not in the lake.
        exposed: The experiment's units, for outcomes.
        repeated: Keys of the day's events that an earlier day has, for outcomes.
    """

    scope: Scope
    kind: Kind
    day: date
    fingerprint: str
    keep: bool
    tail: pa.Table | None = None
    exposed: agg.ExposedUnits | None = None
    repeated: agg.Ints | None = None

    async def run(self) -> pa.Table:
        """Compute the table, and store it when it is to be kept."""
        events = await read_events(self.scope, self.day, self.tail, self.scope.types())
        table = await anyio.to_thread.run_sync(
            compute_table, self.scope, self.kind, events, self.exposed, self.repeated
        )
        if self.keep:
            await self.scope.stores.lake.replace(self.scope.table(self.kind), table, self.day)
            await self.scope.stores.online.hset(
                self.scope.key, f"{self.kind}/{self.day}", self.fingerprint
            )
        return table


def compute_table(
    scope: Scope,
    kind: Kind,
    events: pa.Table,
    exposed: agg.ExposedUnits | None,
    repeated: agg.Ints | None = None,
) -> pa.Table:
    """One daily table, from that day's events."""
    design, id = scope.design, scope.id
    tenant = scope.tenant if design.unit == "tenant" else None
    if kind == "past":
        before = scope.start - timedelta(microseconds=1)
        events = agg.deduplicate(events_between(events, datetime.min.replace(tzinfo=UTC), before))
        return pa.concat_tables(
            [
                agg.daily_outcomes(
                    events_between(events, scope.start - timedelta(days=m.cuped_days), None),
                    [m],
                    id,
                    None,
                    design.unit,
                    tenant,
                )
                for m in design.metrics()
                if m.cuped_days
            ]
        )
    if kind == "members":
        assert design.people is not None
        return first_memberships(events, design.people)
    if kind == "attributes":
        return daily_attributes(events, design.breakdowns, id, design.unit)
    # Cut before duplicates are dropped. An exposure's id follows from its content, and
    # an outcome's from its order, so those of an earlier experiment with this id must
    # not hide this one's.
    events = agg.deduplicate(events_between(events, scope.start, None))
    if kind == "exposures":
        within = events_between(events, scope.start, scope.end)
        return agg.first_exposures(within, id, design.unit)
    assert exposed is not None
    if repeated is not None:
        events = agg.without_events(events, repeated)
    within = events_between(events, scope.start, scope.end)
    unbounded = [m for m in design.metrics() if m.window_days is None]
    windowed = [m for m in design.metrics() if m.window_days is not None]
    return pa.concat_tables(
        [
            agg.daily_outcomes(within, unbounded, id, exposed, design.unit, tenant),
            agg.daily_outcomes(events, windowed, id, exposed, design.unit, tenant),
            agg.service_outcomes(events, id),
        ]
    )


Runner = Callable[[Sequence[Task]], Awaitable[list[pa.Table]]]
"""Runs tasks: in this process, or with Ray Data."""


async def run_sequentially(tasks: Sequence[Task]) -> list[pa.Table]:
    return [await task.run() for task in tasks]


@dataclass(slots=True)
class Observed:
    """An experiment's data by day, ready for `metric_data.summarize`."""

    exposed: agg.ExposedUnits
    exposures: dict[date, pa.Table] = field(default_factory=dict)
    outcomes: dict[date, pa.Table] = field(default_factory=dict)
    past: dict[date, pa.Table] = field(default_factory=dict)
    members: dict[date, pa.Table] = field(default_factory=dict)
    attributes: dict[date, pa.Table] = field(default_factory=dict)
    people: agg.ExposedUnits | None = None

    def people_until(self, exposed: agg.ExposedUnits, day: date) -> agg.ExposedUnits:
        """The exposed units, or the people who were in them by a day."""
        if self.people is None:
            return exposed
        return people_within(exposed, [t for joined, t in self.members.items() if joined <= day])


async def observe(scope: Scope, now: datetime, run: Runner = run_sequentially) -> Observed:
    """The experiment's data as of now.

    Tables of days that have not changed are read from the lake, others are computed.
    """
    tables = _DailyTables(scope, await EventTail.read(scope, now), await _known(scope), run)
    exposures, prints = await tables.get("exposures", scope.days(now))
    exposed = await anyio.to_thread.run_sync(
        agg.exposed_units, list(exposures.values()), scope.design.arms
    )
    people: agg.ExposedUnits | None = None
    members: dict[date, pa.Table] = {}
    if scope.design.people is not None:
        members, member_prints = await tables.get("members", scope.membership_days(now))
        people = await anyio.to_thread.run_sync(people_within, exposed, list(members.values()))
        # Later memberships are among the days' own events, which are in `prints`.
        prints = [_digest(prints[0], *member_prints[:MEMBERSHIP_DAYS]), *prints[1:]]
    outcomes: dict[date, pa.Table] = {}
    if len(exposed.units):
        outcomes, _ = await tables.get("outcomes", scope.days(now), people or exposed, prints)
    past: dict[date, pa.Table] = {}
    if scope.past():
        past, _ = await tables.get("past", scope.past())
    attributes: dict[date, pa.Table] = {}
    if scope.design.breakdowns:
        attributes, _ = await tables.get("attributes", scope.membership_days(now))
    return Observed(exposed, exposures, outcomes, past, members, attributes, people)


async def _known(scope: Scope) -> dict[str, str]:
    stored = await scope.stores.online.hgetall(scope.key)
    return {key.decode(): value.decode() for key, value in stored.items()}


@dataclass(frozen=True, slots=True)
class _DailyTables:
    """Reads the daily tables that are still valid, and computes the others."""

    scope: Scope
    tail: EventTail
    known: Mapping[str, str]
    """Fingerprints of the tables in the lake, by kind/day."""
    run: Runner

    async def get(
        self,
        kind: Kind,
        days: Sequence[date],
        exposed: agg.ExposedUnits | None = None,
        exposure_prints: Sequence[str] = (),
    ) -> tuple[dict[date, pa.Table], list[str]]:
        """Tables by day, and the fingerprints of all days.

        `exposure_prints` are the fingerprints of the same days' exposures: a day's
        outcomes depend on the exposures until then.
        """
        scope = self.scope
        salt = _digest(scope.design.hash(), scope.start.isoformat(), str(scope.end))
        tasks, unchanged, prints = [], [], []
        for index, day in enumerate(days):
            files = await scope.stores.lake.files("events", day, day)
            rest = self.tail.on(day)
            ids = "" if rest is None else _digest(*_strings(rest["source"]), *_strings(rest["id"]))
            fingerprint = _digest(salt, ids, *files, "after", *exposure_prints[: index + 1])
            prints.append(fingerprint)
            if rest is None and self.known.get(f"{kind}/{day}") == fingerprint:
                unchanged.append(day)
            elif rest is not None or files:
                tasks.append(Task(scope, kind, day, fingerprint, rest is None, rest, exposed))
        if kind == "outcomes":
            tasks = await self._mark_repeated(tasks, days)
        computed = await self.run(tasks) if tasks else []
        tables = {task.day: table for task, table in zip(tasks, computed, strict=True)}
        for day in unchanged:
            rows = await scope.stores.lake.read(scope.table(kind), day, day)
            if rows is not None:
                tables[day] = rows.drop_columns([c for c in ("date",) if c in rows.column_names])
        return {day: tables[day] for day in days if day in tables}, prints

    async def _mark_repeated(self, tasks: list[Task], days: Sequence[date]) -> list[Task]:
        """The tasks, with the keys of their day's events that an earlier day has."""
        last = max((task.day for task in tasks), default=None)
        keys = {day: await self._keys(day) for day in days if last is not None and day <= last}
        marked = []
        for task in tasks:
            own = np.sort(keys[task.day])
            earlier = [found for day, found in keys.items() if day < task.day]
            again = [found[_are_among(found, own)] for found in earlier]
            marked.append(replace(task, repeated=np.concatenate(again) if again else None))
        return marked

    async def _keys(self, day: date) -> agg.Ints:
        """Keys of the day's events that may be outcomes, kept for archived days."""
        scope, rest = self.scope, self.tail.on(day)
        types = scope.types() - {agg.EXPOSURE, agg.REQUEST_METRIC}
        files = await scope.stores.lake.files("events", day, day)
        fingerprint = _digest(scope.start.isoformat(), *sorted(types), "files", *files)
        if rest is None and self.known.get(f"keys/{day}") == fingerprint:
            kept = await scope.stores.lake.read(scope.table("keys"), day, day)
            return np.array([], np.int64) if kept is None else np.asarray(kept["key"])
        events = events_between(await read_events(scope, day, rest, types), scope.start, None)
        keys = await anyio.to_thread.run_sync(agg.event_keys, events)
        if rest is None and files:
            table = pa.table({"key": keys}, KEYS)
            await scope.stores.lake.replace(scope.table("keys"), table, day)
            await scope.stores.online.hset(scope.key, f"keys/{day}", fingerprint)
        return keys


def _are_among(keys: agg.Ints, wanted: agg.Ints) -> NDArray[np.bool_]:
    """Which keys are among the wanted ones, which are sorted."""
    if not wanted.size:
        return np.zeros(keys.size, dtype=bool)
    place = np.minimum(np.searchsorted(wanted, keys), wanted.size - 1)
    return np.asarray(wanted[place] == keys)


def _strings(column: pa.ChunkedArray) -> list[str]:
    return [str(value) for value in column.to_pylist()]


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


async def delete_daily_tables(scope: Scope) -> None:
    """Delete an experiment's daily tables. Its events stay in the lake's archive."""
    for kind in get_args(Kind):
        await scope.stores.lake.delete(scope.table(kind))
    await scope.stores.online.delete(scope.key)
