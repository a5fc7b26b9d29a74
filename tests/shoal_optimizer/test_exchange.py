"""What is exported is read again as it was; and the commands that do so."""

import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from icalendar import Calendar
from typer.testing import CliRunner

from shoal_optimizer import commands, exchange
from shoal_optimizer.intake import read_records
from shoal_optimizer.records import Person, Task

names = st.text("abcå ß:;,\"'#=", max_size=8).map(lambda text: f"x{text}y")
levels = st.dictionaries(names, st.integers(1, 5), max_size=3)
days = st.dates(datetime(2026, 1, 1).date(), datetime(2030, 1, 1).date())
people = st.builds(
    lambda id, name, skills, day, zone: Person.model_validate(
        {
            "id": f"p{id}",
            "name": name,
            "skills": skills,
            "leave": [{"from": day.isoformat(), "to": day.isoformat()}] if day else [],
            "time_zone": zone,
            "working_hours": [{"start": "08:00", "end": "12:30"}],
            "available_from": day,
        }
    ),
    st.integers(0, 999),
    names,
    levels,
    st.none() | days,
    st.sampled_from(["UTC", "Asia/Kolkata"]),
)
tasks = st.builds(
    lambda id, title, needs, priority, day, size: Task.model_validate(
        {
            "id": f"t{id}",
            "title": title,
            "skills": [
                {"skill": skill, "level": level, "people": 1 + priority % 2}
                for skill, level in needs.items()
            ],
            "priority": priority,
            "start": f"{day}T08:15:00Z" if priority > 2 else None,
            "deadline": f"{day}T17:45:00Z",
            "estimated_hours": 12.5,
            "team_size": {"min": size, "max": size + 1},
            "board_id": None if size == 2 else "b",
        }
    ),
    st.integers(0, 999),
    names,
    levels.filter(lambda found: len({name.casefold() for name in found}) == len(found)),
    st.integers(1, 5),
    days,
    st.integers(1, 4),
)


def stored(records: list[Any]) -> list[dict[str, Any]]:
    return [record.model_dump(mode="json", by_alias=True) for record in records]


@settings(max_examples=40)
@given(records=st.lists(people, max_size=3))
def test_exported_people_are_read_again(records: list[Person]) -> None:
    text = exchange.people_csv(stored(records))
    assert [
        Person.model_validate(row) for row in read_records(text.encode(), "text/csv")
    ] == records
    leave = [each for person in records for each in person.leave]
    events = Calendar.from_ical(exchange.people_ics(stored(records))).walk("VEVENT")
    assert [event.decoded("dtstart") for event in events] == [each.start for each in leave]


@settings(max_examples=40)
@given(records=st.lists(tasks, max_size=3))
def test_exported_tasks_are_read_again(records: list[Task]) -> None:
    for body, media in (
        (exchange.tasks_csv(stored(records)).encode(), "text/csv"),
        (exchange.tasks_ics(stored(records)), "text/calendar"),
    ):
        assert [Task.model_validate(row) for row in read_records(body, media)] == records


@pytest.mark.parametrize("body", [b"", b"BEGIN:VCALENDAR", b"no calendar", b"\xff\xfe"])
def test_what_is_no_calendar_has_no_tasks(body: bytes) -> None:
    try:
        assert read_records(body, "text/calendar") == []
    except Exception as error:
        assert type(error).__name__ == "Malformed"


def test_the_commands_import_plan_and_export(
    shoal_app: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app, tenant = shoal_app("optimizer"), f"acme-{secrets.token_hex(4)}"
    monkeypatch.setattr("shoal.operator_client", lambda tenant, **_: app.client(tenant))

    def run(*arguments: str, status: int = 0) -> str:
        found = CliRunner().invoke(commands.app, [*arguments, "--tenant", tenant])
        assert found.exit_code == status, found.output
        return found.output

    staff, work = tmp_path / "people.csv", tmp_path / "tasks.ics"
    staff.write_text("id;name;skills\nana;Ana;Go:4\nbo;Bo;nonsense:a:b\n")
    assert "row 2" in run("import", "people", str(staff), status=1)
    task = Task(
        id="t", title="Sign-in", estimated_hours=6, deadline=datetime(2030, 5, 2, 17, tzinfo=UTC)
    )
    work.write_bytes(exchange.tasks_ics(stored([task])))
    assert "1 stored" in run("import", "tasks", str(work))
    assert "ana\tAna" in run("people") and "t\tSign-in\topen" in run("tasks")
    planned = run("plan", "--seconds", "2", "--accept")
    assert "t\tana" in planned and "accepted" in planned
    assert "assigned" in run("tasks")
    id = planned.split("Plan ")[1].split()[0]
    for what in ("people", "tasks", id):
        for name in ("out.csv", "out.ics"):
            run("export", what, str(tmp_path / name))
    [event] = Calendar.from_ical((tmp_path / "out.ics").read_bytes()).walk("VEVENT")
    assert str(event["summary"]) == "Sign-in: ana"
    assert "t,Sign-in" in (tmp_path / "out.csv").read_text()
