"""Records as they arrive: JSON, NDJSON or CSV in a request, or events."""

import csv
import io
from collections.abc import Sequence
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel, ValidationError

from shoal import Event, Invalid, Malformed, TenantContext

from .records import Outcome, Person, Task
from .store import Kind, Store, packed

MOST_ROWS = 10_000
M = TypeVar("M", bound=BaseModel)
EVENTS: dict[str, tuple[Kind, type[BaseModel]]] = {
    "person.updated": ("people", Person),
    "task.updated": ("tasks", Task),
    "task.completed": ("outcomes", Outcome),
}
TYPES = (*EVENTS, "person.deleted", "task.deleted")
SOURCE = "shoal/optimizer"


def rows(body: bytes, content_type: str) -> list[Any]:
    """The records of a request's body: a JSON array or object, NDJSON, or CSV with a header.

    In CSV a cell may hold JSON; skills may be written `Python:4; Rust:2` and people `ana; bo`. Empty cells are left out.
    Raises Malformed when the body is not what it says, Invalid when there are more than MOST_ROWS.
    """
    kind = content_type.split(";")[0].strip().casefold()
    try:
        if kind == "text/csv":
            found: list[Any] = [_cells(row) for row in csv.DictReader(io.StringIO(body.decode("utf-8-sig")), strict=True)]
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
            pairs = [part.rpartition(":") if ":" in part else (part, "", "3") for part in text.split(";") if part.strip()]
            found["skills"] = {skill.strip(): level.strip() for skill, _, level in pairs}
        elif name.strip() in ("people", "team"):
            found[name.strip()] = [part.strip() for part in text.split(";") if part.strip()]
        else:
            found[name.strip()] = text
    return found


def checked(model: type[M], value: Any, id: str | None = None, where: str = "") -> M:
    """The record, or Invalid that says what is wrong and where."""
    if not isinstance(value, dict):
        raise Invalid("a record must be an object", errors=[{"location": where or "body", "message": "not an object"}])
    if id is not None and str(value.get("id") or id) != id:
        raise Invalid("the id in the body is not the one in the path", errors=[{"location": "id", "message": f"must be {id!r}"}])
    try:
        return model.model_validate({**value, "id": id} if id is not None else value)
    except ValidationError as error:
        faults = [
            {"location": ".".join([*([where] if where else []), *map(str, fault["loc"])]), "message": fault["msg"]}
            for fault in error.errors(include_url=False, include_input=False, include_context=False)
        ]
        detail = "; ".join(f"{fault['location']}: {fault['message']}" for fault in faults[:3])
        raise Invalid(detail, errors=faults) from None


async def take(ctx: TenantContext, kind: Kind, model: type[M], values: Sequence[Any]) -> dict[str, Any]:
    """Store the good records and say what is wrong with the others."""
    good: dict[str, bytes] = {}
    outcomes: list[Outcome] = []
    rejected = []
    for n, value in enumerate(values):
        try:
            record = checked(model, value)
            id = str(getattr(record, "id", "")) or (outcome_id(record) if isinstance(record, Outcome) else "")
            if not id:
                raise Invalid("id: a record needs an id")
            if not ctx.may_see(getattr(record, "board_id", None) or "") and getattr(record, "board_id", None):
                raise Invalid("board_id: there is no such board that you may see")
        except Invalid as error:
            rejected.append({"index": n, "error": error.detail})
            continue
        record = record.model_copy(update={"id": id})
        good[id] = packed(record)
        if isinstance(record, Outcome):
            outcomes.append(record)
    await Store(ctx).put(kind, good)
    await learned(ctx, outcomes)
    return {"accepted": len(good), "rejected": rejected}


async def learned(ctx: TenantContext, outcomes: Sequence[Outcome]) -> None:
    """What follows from outcomes: their tasks are done, and an event for everyone who took part, for features to aggregate."""
    events = []
    for outcome in outcomes:
        await finish(ctx, outcome)
        data = {"task": outcome.task, "type": outcome.type, "success": outcome.success, "quality": outcome.quality, "days_early": outcome.days_early}
        events += [
            Event(id=f"{outcome.id}:{person}", source=SOURCE, type="optimizer.outcome", time=outcome.finished_at, subject=person, data=data)
            for person in outcome.people
        ]
    for at in range(0, len(events), 1000):
        await ctx.stores.events.append(events[at : at + 1000])


def outcome_id(outcome: Outcome) -> str:
    """An id for an outcome that came without: the same task finished at the same moment is the same outcome."""
    who = ",".join(sorted(outcome.people))
    return f"{outcome.task or who}@{outcome.finished_at.isoformat()}"


async def finish(ctx: TenantContext, outcome: Outcome) -> None:
    """A finished task is done, and what its assignment committed is free again. Twice is once."""
    from .store import Change

    store = Store(ctx)
    raw = await store.get("tasks", outcome.task) if outcome.task else None
    if raw is None:
        return
    task = Task.model_validate_json(raw)
    if task.state == "done":
        return
    changes = [Change("tasks", task.id, raw, packed(task.model_copy(update={"state": "done", "committed": {}})))]
    for id, held in zip(task.committed, await store.many("people", list(task.committed)), strict=True):
        if held is not None:
            person = Person.model_validate_json(held)
            freed = max(0.0, person.workload - task.committed[id])
            changes.append(Change("people", id, held, packed(person.model_copy(update={"workload": round(freed, 6)}))))
    await store.swap(changes)


async def follow(ctx: TenantContext, events: Sequence[Event]) -> None:
    """Take over people, tasks and outcomes from the event log: `person.updated`, `task.updated` (the whole record as data),
    `person.deleted`, `task.deleted`, and `task.completed` (an outcome). The same events again change nothing."""
    store = Store(ctx)
    for event in events:
        if event.source == SOURCE:
            continue
        data = event.data if isinstance(event.data, dict) else {}
        id = str(data.get("id") or event.subject or (event.id if event.type == "task.completed" else ""))
        if event.type in ("person.deleted", "task.deleted"):
            await store.delete("people" if event.type == "person.deleted" else "tasks", id)
        elif event.type in EVENTS:
            kind, model = EVENTS[event.type]
            extra = {"finished_at": event.time.isoformat()} if kind == "outcomes" and not data.get("completed_at") else {}
            answer = await take(ctx, kind, model, [{**extra, **data, "id": id}])
            if answer["rejected"]:
                fault = {"event": event.id, "type": event.type, "error": answer["rejected"][0]["error"]}
                await ctx.stores.events.append([Event(id=f"{event.id}:rejected", source=SOURCE, type="optimizer.rejected", data=fault)])
