"""Records as they arrive: JSON, NDJSON or CSV in a request, or events."""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel, ValidationError

from shoal import Conflict, Event, Invalid, Malformed, TenantContext

from .records import Outcome, Person, Task
from .store import Change, Kind, Store, packed

MOST_ROWS = 10_000
ATTEMPTS = 5
NO_BOARD = "board_id: there is no such board that you may see"
M = TypeVar("M", bound=BaseModel)
EVENTS: dict[str, tuple[Kind, type[BaseModel]]] = {
    "person.updated": ("people", Person),
    "task.updated": ("tasks", Task),
    "task.completed": ("outcomes", Outcome),
}
TYPES = (*EVENTS, "person.deleted", "task.deleted")
SOURCE = "shoal/optimizer"


def rows(body: bytes, content_type: str) -> list[Any]:
    """The records of a request's body: a JSON array or object, NDJSON, or CSV with a
    header.

    In CSV a cell may hold JSON; skills may be written `Python:4; Rust:2` and people
    `ana; bo`. Empty cells are left out. Raises Malformed when the body is not what it
    says, Invalid when there are more than MOST_ROWS.
    """
    kind = content_type.split(";")[0].strip().casefold()
    try:
        if kind == "text/csv":
            found: list[Any] = [
                _cells(row)
                for row in csv.DictReader(io.StringIO(body.decode("utf-8-sig")), strict=True)
            ]
        elif "ndjson" in kind:
            found = [orjson.loads(line) for line in body.splitlines() if line.strip()]
        else:
            value = orjson.loads(body)
            found = value if isinstance(value, list) else [value]
    except (ValueError, csv.Error, UnicodeDecodeError) as error:
        raise Malformed(f"the body is not {kind or 'application/json'}: {error}") from None
    if len(found) > MOST_ROWS:
        raise Invalid(f"{len(found)} records at once; at most {MOST_ROWS} are taken")
    return found


def _cells(row: dict[str | None, Any]) -> dict[str, Any]:
    if None in row:
        raise ValueError("a row has more cells than the header")
    found: dict[str, Any] = {}
    for name, cell in row.items():
        text = (cell or "").strip()
        if not text or name is None:
            continue
        if text[0] in "[{":
            found[name.strip()] = orjson.loads(text)
        elif name.strip() == "skills":
            pairs = [
                part.rpartition(":") if ":" in part else (part, "", "3")
                for part in text.split(";")
                if part.strip()
            ]
            found["skills"] = {skill.strip(): level.strip() for skill, _, level in pairs}
        elif name.strip() in ("people", "team"):
            found[name.strip()] = [part.strip() for part in text.split(";") if part.strip()]
        else:
            found[name.strip()] = text
    return found


def checked(model: type[M], value: Any, id: str | None = None, where: str = "") -> M:
    """The record, or Invalid that says what is wrong and where."""
    if not isinstance(value, dict):
        raise Invalid(
            "a record must be an object",
            errors=[{"location": where or "body", "message": "not an object"}],
        )
    if id is not None and str(value.get("id") or id) != id:
        raise Invalid(
            "the id in the body is not the one in the path",
            errors=[{"location": "id", "message": f"must be {id!r}"}],
        )
    try:
        return model.model_validate({**value, "id": id} if id is not None else value)
    except ValidationError as error:
        faults = [
            {
                "location": ".".join([*([where] if where else []), *map(str, fault["loc"])]),
                "message": fault["msg"],
            }
            for fault in error.errors(include_url=False, include_input=False, include_context=False)
        ]
        detail = "; ".join(f"{fault['location']}: {fault['message']}" for fault in faults[:3])
        raise Invalid(detail, errors=faults) from None


async def take(
    ctx: TenantContext, kind: Kind, model: type[M], values: Sequence[Any]
) -> dict[str, Any]:
    """Store the good records and say what is wrong with the others."""
    good: dict[str, M] = {}
    at: dict[str, list[int]] = {}
    rejected: list[dict[str, Any]] = []
    for n, value in enumerate(values):
        try:
            record = checked(model, value)
            id = str(getattr(record, "id", "")) or (
                outcome_id(record) if isinstance(record, Outcome) else ""
            )
            if not id:
                raise Invalid("id: a record needs an id")
            if isinstance(record, Task) and hidden(ctx, record):
                raise Invalid(NO_BOARD)
        except Invalid as error:
            rejected.append({"index": n, "error": error.detail})
            continue
        good[id] = record.model_copy(update={"id": id})
        at.setdefault(id, []).append(n)
    refused: dict[str, str] = {}
    tasks = {id: record for id, record in good.items() if isinstance(record, Task)}
    outcomes = {id: record for id, record in good.items() if isinstance(record, Outcome)}
    if tasks:
        seen = await write(ctx, list(tasks), lambda id, held: merged(tasks[id], held))
        refused = {id: NO_BOARD for id in tasks if id not in seen}
    else:
        refused = {
            id: f"task: there is no task {outcomes[id].task!r}"
            for id in await unseen(ctx, outcomes)
        }
        await Store(ctx).put(
            kind, {id: packed(record) for id, record in good.items() if id not in refused}
        )
    await learned(ctx, [outcome for id, outcome in outcomes.items() if id not in refused])
    rejected += [{"index": n, "error": error} for id, error in refused.items() for n in at[id]]
    return {
        "accepted": len(good) - len(refused),
        "rejected": sorted(rejected, key=lambda row: row["index"]),
    }


def hidden(ctx: TenantContext, task: Task) -> bool:
    return task.board_id is not None and not ctx.may_see(task.board_id)


async def unseen(ctx: TenantContext, outcomes: Mapping[str, Outcome]) -> set[str]:
    """The ids of those outcomes that are of a task on a board that the caller may not
    see, or would replace one that is.
    """
    if ctx.boards is None or not outcomes:
        return set()
    store = Store(ctx)
    of = {id: {outcome.task} for id, outcome in outcomes.items()}
    for id, raw in zip(of, await store.many("outcomes", list(of)), strict=True):
        if raw is not None:
            of[id].add(Outcome.model_validate_json(raw).task)
    named = sorted({task for tasks in of.values() for task in tasks if task})
    held = zip(named, await store.many("tasks", named), strict=True)
    secret = {
        id for id, raw in held if raw is not None and hidden(ctx, Task.model_validate_json(raw))
    }
    return {id for id, tasks in of.items() if tasks & secret}


def merged(task: Task, held: Task | None) -> Task:
    """A task as it is sent, with the stored one's state, team and commitment where it
    does not say otherwise.
    """
    if held is None:
        return task
    kept = {
        name: getattr(held, name)
        for name in ("state", "team", "committed")
        if name not in task.model_fields_set
    }
    state = kept.get("state", task.state)
    if state != "assigned" and "committed" in kept:
        kept["committed"] = {}  # only an assignment commits anybody
    if state == "open" and "team" in kept:
        kept["team"] = ()
    return task.model_copy(update=kept)


async def write(
    ctx: TenantContext, ids: Sequence[str], make: Callable[[str, Task | None], Task | None]
) -> dict[str, Task | None]:
    """Replace tasks, each by what `make` says of the stored one (None: there is none,
    or there shall be none), and free what the old ones had committed and the new ones
    do not. Gives what was stored; what the caller may not see is not in it and stays.
    """
    store = Store(ctx)
    for attempt in range(ATTEMPTS):
        stored: dict[str, Task | None] = {}
        changes: list[Change] = []
        freed: dict[str, float] = {}
        for id, raw in zip(ids, await store.many("tasks", ids), strict=True):
            held = None if raw is None else Task.model_validate_json(raw)
            if held is not None and hidden(ctx, held):
                continue
            stored[id], task = held, make(id, held)
            changes.append(Change("tasks", id, raw, None if task is None else packed(task)))
            for person, points in (held.committed if held else {}).items():
                freed[person] = freed.get(person, 0.0) + max(
                    0.0, points - (task.committed.get(person, 0.0) if task else 0.0)
                )
        people = [id for id, points in freed.items() if points > 0]
        for id, raw in zip(people, await store.many("people", people), strict=True):
            if raw is not None:
                person = Person.model_validate_json(raw)
                workload = round(max(0.0, person.workload - freed[id]), 6)
                changes.append(
                    Change(
                        "people", id, raw, packed(person.model_copy(update={"workload": workload}))
                    )
                )
        changes = [change for change in changes if change.before != change.after]
        try:
            if changes:
                await store.swap(changes)
            return stored
        except Conflict:  # somebody else wrote one of them in between: look again
            if attempt == ATTEMPTS - 1:
                raise
    raise AssertionError("unreachable")


async def learned(ctx: TenantContext, outcomes: Sequence[Outcome]) -> None:
    """What follows from outcomes: their tasks are done, and an event for everyone who
    took part, for features to aggregate.
    """
    events = []
    for outcome in outcomes:
        await finish(ctx, outcome)
        data = {
            "task": outcome.task,
            "type": outcome.type,
            "success": outcome.success,
            "quality": outcome.quality,
            "days_early": outcome.days_early,
        }
        events += [
            Event(
                id=f"{outcome.id}:{person}",
                source=SOURCE,
                type="optimizer.outcome",
                time=outcome.finished_at,
                subject=person,
                data=data,
            )
            for person in outcome.people
        ]
    for at in range(0, len(events), 1000):
        await ctx.stores.events.append(events[at : at + 1000])


def outcome_id(outcome: Outcome) -> str:
    """An id for an outcome that came without: the same task finished at the same moment
    is the same outcome.
    """
    who = ",".join(sorted(outcome.people))
    return f"{outcome.task or who}@{outcome.finished_at.isoformat()}"


async def finish(ctx: TenantContext, outcome: Outcome) -> None:
    """A finished task is done, and what its assignment committed is free again. Twice
    is once.
    """
    if outcome.task:
        await write(
            ctx,
            [outcome.task],
            lambda id, held: held and held.model_copy(update={"state": "done", "committed": {}}),
        )


async def follow(ctx: TenantContext, events: Sequence[Event]) -> None:
    """Take over people, tasks and outcomes from the event log: `person.updated`,
    `task.updated` (the whole record as data), `person.deleted`, `task.deleted`, and
    `task.completed` (an outcome). The same events again change nothing.
    """
    store = Store(ctx)
    for event in events:
        if event.source == SOURCE:
            continue
        data = event.data if isinstance(event.data, dict) else {}
        id = str(
            data.get("id") or event.subject or (event.id if event.type == "task.completed" else "")
        )
        if event.type == "person.deleted":
            await store.delete("people", id)
        elif event.type == "task.deleted":
            await write(ctx, [id], lambda id, held: None)
        elif event.type in EVENTS:
            kind, model = EVENTS[event.type]
            extra = (
                {"finished_at": event.time.isoformat()}
                if kind == "outcomes" and not data.get("completed_at")
                else {}
            )
            answer = await take(ctx, kind, model, [{**extra, **data, "id": id}])
            if answer["rejected"]:
                fault = {
                    "event": event.id,
                    "type": event.type,
                    "error": answer["rejected"][0]["error"],
                }
                await ctx.stores.events.append(
                    [
                        Event(
                            id=f"{event.id}:rejected",
                            source=SOURCE,
                            type="optimizer.rejected",
                            data=fault,
                        )
                    ]
                )
