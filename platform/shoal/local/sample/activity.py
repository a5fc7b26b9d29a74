"""What people did in 90 days: sessions and their actions, as ordered CloudEvents."""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np

from .model import Board, Item, Person

DAYS = 90
SOURCE = "shoal/sample"
ACTIONS = {
    "board.opened": 0.22,
    "item.viewed": 0.42,
    "item.commented": 0.10,
    "item.status_changed": 0.10,
    "item.assigned": 0.05,
    "update.liked": 0.06,
    "automation.run": 0.05,
}
"""Types of everyday actions, and their shares."""


def event(
    id: str, type: str, at: datetime, subject: str, data: Mapping[str, Any]
) -> dict[str, Any]:
    """A CloudEvent in JSON format."""
    return {
        "specversion": "1.0",
        "id": id,
        "source": SOURCE,
        "type": type,
        "time": at.isoformat(timespec="milliseconds"),
        "subject": subject,
        "data": dict(data),
    }


def actions(
    people: Sequence[Person],
    boards: Sequence[Board],
    items: Sequence[Item],
    *,
    rng: np.random.Generator,
    now: datetime,
    prefix: str,
) -> Iterator[dict[str, Any]]:
    """All events before `now`, oldest first.

    The type `session.ended` carries `duration` in seconds.
    """
    by_board: dict[str, list[str]] = {}
    for item in items:
        by_board.setdefault(item.board_id, []).append(item.id)
    rows: list[tuple[datetime, str, str, dict[str, Any]]] = []
    for person in people:
        mine = [board.id for board in boards if person.id in board.members]
        diligence = rng.uniform(0.6, 1.4)
        for start, length in [*_sessions(person, diligence, rng, now), *_last_session(rng, now)]:
            rows += _session(person.id, mine, by_board, start, length, rng, now)
        rows += _created(person.id, mine, diligence, rng, now)
    rows.sort(key=lambda row: (row[0], row[1], row[2], json.dumps(row[3], sort_keys=True)))
    for n, (at, kind, user, data) in enumerate(rows):
        yield event(f"{prefix}-{n:06d}", kind, at, user, {"user_id": user, **data})


def _sessions(
    person: Person, diligence: float, rng: np.random.Generator, now: datetime
) -> Iterator[tuple[datetime, timedelta]]:
    """Start and length of each session on working days, in the person's own hours."""
    zone = ZoneInfo(person.timezone)
    opens, closes = (int(t[:2]) + int(t[3:]) / 60 for t in person.working_hours)
    first = (
        (now - timedelta(days=DAYS))
        .astimezone(zone)
        .replace(hour=0, minute=0, second=0, microsecond=0)
    )
    for day in range(DAYS + 1):
        midnight = first + timedelta(days=day)
        if any(leave.start <= midnight.date() <= leave.end for leave in person.leave):
            continue
        mean = 1.0 * diligence if midnight.weekday() < 5 else 0.08
        for _ in range(rng.poisson(mean)):
            start = midnight + timedelta(hours=rng.uniform(opens, closes - 0.5))
            start = start.astimezone(now.tzinfo).replace(microsecond=0)
            length = timedelta(seconds=int(np.clip(rng.lognormal(6.9, 0.7), 60, 3 * 3600)))
            if start + length < now - timedelta(minutes=10):
                yield start, length


def _last_session(rng: np.random.Generator, now: datetime) -> Iterator[tuple[datetime, timedelta]]:
    """A third of the people are in a session now, for the windows of five minutes."""
    if rng.random() < 0.34:
        yield now - timedelta(seconds=int(rng.integers(150, 900))), timedelta(hours=1)


def _session(
    user: str,
    boards: list[str],
    items: Mapping[str, list[str]],
    start: datetime,
    length: timedelta,
    rng: np.random.Generator,
    now: datetime,
) -> Iterator[tuple[datetime, str, str, dict[str, Any]]]:
    is_open = start + length >= now
    seconds = (now - start).total_seconds() if is_open else length.total_seconds()
    count = int(np.clip(rng.poisson(3 + seconds / 240), 2, 14))
    moments = np.sort(rng.uniform(1, seconds - 1, count))
    board = boards[int(len(boards) * rng.random() ** 2)]
    for at, kind in zip(
        moments, rng.choice(list(ACTIONS), count, p=list(ACTIONS.values())), strict=True
    ):
        if kind == "board.opened":
            board = boards[int(len(boards) * rng.random() ** 2)]
        data: dict[str, Any] = {"board_id": board}
        if kind.startswith(("item.", "update.")):
            data["item_id"] = items[board][int(rng.integers(len(items[board])))]
        yield start + timedelta(seconds=float(at)), str(kind), user, data
    if not is_open:
        yield start + length, "session.ended", user, {"duration": seconds}


def _created(
    user: str, boards: list[str], diligence: float, rng: np.random.Generator, now: datetime
) -> Iterator[tuple[datetime, str, str, dict[str, Any]]]:
    """Boards and automations that the person created."""
    for kind, mean in (("board.created", 3.2), ("automation.created", 4.0)):
        for _ in range(rng.poisson(mean * diligence**2)):
            at = now - timedelta(seconds=float(rng.uniform(600, DAYS * 86400)))
            board = boards[int(rng.integers(len(boards)))]
            data = {
                "board_id": f"{board}-plan-{rng.integers(1000):03d}"
                if kind == "board.created"
                else board
            }
            yield at, kind, user, data
