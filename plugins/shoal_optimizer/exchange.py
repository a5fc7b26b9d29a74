"""People, tasks and plans as CSV and as iCalendar (RFC 5545)."""

import csv
import io
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, Literal

import orjson
from icalendar import Calendar, Component, Event, Todo

from shoal import Malformed, RowError

Format = Literal["csv", "ics"]
MEDIA_TYPES: Mapping[Format, str] = {"csv": "text/csv", "ics": "text/calendar"}
PRODUCT = "-//shoal//optimizer//EN"
ICS_PRIORITY = {5: 1, 4: 3, 3: 5, 2: 7, 1: 9}
"""A task's priority → that of iCalendar, where 1 is the highest."""
UNWRITTEN = ("broken", "waived")
"""Fields of a task that are told, and not sent."""
HOURS, SKILLS, SIZE = "X-SHOAL-HOURS", "X-SHOAL-SKILLS", "X-SHOAL-TEAM-SIZE"
TYPE, BOARD = "X-SHOAL-TYPE", "X-SHOAL-BOARD"


def people_csv(people: Sequence[Mapping[str, Any]]) -> str:
    """People as CSV that POST /people reads."""
    return _csv([{**person, "skills": _levels(person["skills"])} for person in people])


def tasks_csv(tasks: Sequence[Mapping[str, Any]]) -> str:
    """Tasks as CSV that POST /tasks reads."""
    rows = []
    for task in tasks:
        row = {name: value for name, value in task.items() if name not in UNWRITTEN}
        size = row.pop("team_size")
        row |= {"team_min": size["min"], "team_max": size["max"]}
        if all(need["people"] == 1 for need in task["skills"]):
            row["skills"] = _levels({need["skill"]: need["level"] for need in task["skills"]})
        rows.append({**row, "team": "; ".join(task["team"])})
    return _csv(rows)


def plan_csv(plan: Mapping[str, Any]) -> str:
    """A plan as CSV: a row for each task and member, and each task that is left out."""
    rows = []
    for task in plan["assignments"]:
        told = {name: task[name] for name in ("task", "title", "priority", "deadline")}
        slots = {slot["person"]: slot for slot in task["slots"]}
        for person in task["team"]:
            slot = slots.get(person, {})
            when = {"start": slot.get("start"), "end": slot.get("end")}
            rows.append({**told, "person": person, "hours": task["hours_each"], **when})
    return _csv([*rows, *plan["left_out"]])


def people_ics(people: Sequence[Mapping[str, Any]]) -> bytes:
    """The leave of people, as events of whole days."""
    events = []
    for person in people:
        for leave in person["leave"]:
            event = Event()
            event.add("uid", f"{person['id']}-{leave['from']}@shoal")
            event.add("summary", f"{person['name'] or person['id']}: leave")
            event.add("dtstart", date.fromisoformat(leave["from"]))
            event.add("dtend", date.fromisoformat(leave["to"]) + timedelta(days=1))
            events.append(event)
    return _ics(events)


def tasks_ics(tasks: Sequence[Mapping[str, Any]]) -> bytes:
    """Tasks as to-dos, which POST /tasks reads."""
    todos = []
    for task in tasks:
        todo = Todo()
        todo.add("uid", task["id"])
        todo.add("summary", task["title"])
        todo.add("due", datetime.fromisoformat(task["deadline"]).astimezone(UTC))
        if task["start"]:
            todo.add("dtstart", datetime.fromisoformat(task["start"]).astimezone(UTC))
        todo.add("priority", ICS_PRIORITY[task["priority"]])
        todo.add("status", "COMPLETED" if task["state"] == "done" else "NEEDS-ACTION")
        todo.add(HOURS, str(task["estimated_hours"]))
        todo.add(SKILLS, orjson.dumps(task["skills"]).decode())
        todo.add(SIZE, orjson.dumps(task["team_size"]).decode())
        todo.add(TYPE, task["type"])
        if task["board_id"] is not None:
            todo.add(BOARD, task["board_id"])
        todos.append(todo)
    return _ics(todos)


def plan_ics(plan: Mapping[str, Any]) -> bytes:
    """A plan as events: one for each task and member, from its start to its end."""
    events = []
    for task in plan["assignments"]:
        for slot in task["slots"]:
            event = Event()
            event.add("uid", f"{plan['id']}-{task['task']}-{slot['person']}@shoal")
            event.add("summary", f"{task['title']}: {slot['person']}")
            event.add("description", f"{task['hours_each']:g} hours")
            event.add("dtstart", datetime.fromisoformat(slot["start"]).astimezone(UTC))
            event.add("dtend", datetime.fromisoformat(slot["end"]).astimezone(UTC))
            events.append(event)
    return _ics(events)


def read_todos(body: bytes, limit: int) -> list[dict[str, Any] | RowError]:
    """The to-dos of a calendar as rows of tasks.

    Args:
        body: The calendar.
        limit: The most components that it may have.

    Raises:
        Malformed: It is not a calendar, or has too many components.
    """
    if body.upper().count(b"BEGIN:") > limit + 1:
        raise Malformed(f"the calendar has more than {limit:,} components")
    try:
        calendar = Calendar.from_ical(body)
    except (ValueError, KeyError, IndexError, UnicodeError):
        raise Malformed("the body is not a calendar as in RFC 5545") from None
    return [_read_todo(todo) for todo in calendar.walk("VTODO")]


def _read_todo(todo: Component) -> dict[str, Any] | RowError:
    try:
        row = {
            "id": str(todo.get("uid", "")),
            "title": str(todo.get("summary", "")),
            "estimated_hours": todo.get(HOURS),
            "start": _moment(todo, "dtstart"),
            "deadline": _moment(todo, "due"),
            "skills": orjson.loads(str(todo.get(SKILLS, "[]"))),
            "team_size": orjson.loads(str(todo.get(SIZE, "null"))),
            "type": todo.get(TYPE),
            "board_id": todo.get(BOARD),
        }
        if todo.get("priority"):
            row["priority"] = 5 - min(int(str(todo["priority"])) - 1, 8) // 2
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        return RowError(f"the to-do cannot be read: {type(error).__name__}")
    for name in ("estimated_hours", "type", "board_id"):
        row[name] = None if row[name] is None else str(row[name])
    return {name: value for name, value in row.items() if value is not None}


def _moment(todo: Component, name: str) -> str | None:
    """A property as a date, or as a time with an offset; one without is in UTC."""
    if name not in todo:
        return None
    found = todo.decoded(name)
    if isinstance(found, datetime) and found.tzinfo is None:
        found = found.replace(tzinfo=UTC)
    return str(found.isoformat())


def _levels(skills: Mapping[str, Any]) -> Any:
    """`Python:4; Rust:2`, or JSON where a name has one of these marks."""
    if any(mark in name for name in skills for mark in ":;,"):
        return skills
    return "; ".join(f"{name}:{level:g}" for name, level in skills.items())


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    names = list(dict.fromkeys(name for row in rows for name in row))
    written = io.StringIO()
    to = csv.DictWriter(written, names, lineterminator="\r\n")
    to.writeheader()
    for row in rows:
        to.writerow(
            {
                name: orjson.dumps(value).decode() if isinstance(value, dict | list) else value
                for name, value in row.items()
            }
        )
    return written.getvalue()


def _ics(components: Sequence[Component]) -> bytes:
    calendar = Calendar()
    calendar.add("prodid", PRODUCT)
    calendar.add("version", "2.0")
    for component in components:
        component.add("dtstamp", datetime.now(UTC))
        calendar.add_component(component)
    return bytes(calendar.to_ical())
