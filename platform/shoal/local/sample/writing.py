"""Generates items, updates, docs and notes from a tenant's prose, `<tenant>/texts.txt`.

The prose has boards (`== id: Name`, then a line of description), themes (`-- name`) and
docs (`doc: title || text`). A theme has slots (`name = one | another`), titles (`t:`),
three parts of a first post (`o:` what happened, `d:` detail, `a:` what to do) and three
stages of replies (`1:`, `2:`, `3:`; one line or two make a reply). `{slot}` is filled
once per thread; `{mate}` and `{day}` per text.
"""

import re
from dataclasses import dataclass, field
from datetime import datetime, time, timedelta
from itertools import combinations
from random import Random
from zoneinfo import ZoneInfo

from .model import Board, Item, ItemType, Person
from .profile import read_text

DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday")
STATUS = ("open", "in progress", "in progress", "done")
NOTES_WEEKS = 6
SPAN = timedelta(days=90)


@dataclass(slots=True)
class Theme:
    """A subject that the people of a board write about."""

    name: str
    slots: dict[str, list[str]] = field(default_factory=dict)
    parts: dict[str, list[str]] = field(default_factory=dict)


@dataclass(slots=True)
class Script:
    """The prose of one board."""

    id: str
    name: str
    description: str = ""
    themes: list[Theme] = field(default_factory=list)
    docs: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Thread:
    """An item and its updates in order of time; the first post is the item."""

    title: str
    posts: tuple[Item, ...]
    status: str


def read_scripts(tenant: str) -> list[Script]:
    """The prose of a tenant, by board."""
    scripts: list[Script] = []
    for line in read_text(tenant, "texts.txt").splitlines():
        if line.startswith("== "):
            board, name = line[3:].split(": ", 1)
            scripts.append(Script(board, name))
        elif line.startswith("-- "):
            scripts[-1].themes.append(Theme(line[3:]))
        elif line.startswith("doc: "):
            title, text = line[5:].split(" || ", 1)
            scripts[-1].docs.append((title, text))
        elif found := re.match(r"([toda123]): (.+)", line):
            scripts[-1].themes[-1].parts.setdefault(found[1], []).append(found[2])
        elif found := re.match(r"([a-z]+) = (.+)", line):
            scripts[-1].themes[-1].slots[found[1]] = found[2].split(" | ")
        elif line:
            scripts[-1].description = line
    return scripts


class Deck:
    """Draws from a list in random order, without repetition until all are drawn."""

    def __init__(self, values: list[str], random: Random) -> None:
        self._values, self._random, self._left = values, random, list[str]()

    def draw(self) -> str:
        if not self._left:
            self._left = self._random.sample(self._values, len(self._values))
        return self._left.pop()


def fill(text: str, slots: dict[str, str]) -> str:
    """`text` with its slots filled and a capital letter at each sentence's start."""
    text = text.format_map(slots)
    return re.sub(r"(^|[.!?]\s+)([a-z])", lambda m: m[1] + m[2].upper(), text)


class Writer:
    """Generates what a tenant's people wrote in the 90 days before `now`."""

    def __init__(
        self,
        tenant: str,
        boards: list[Board],
        people: list[Person],
        *,
        random: Random,
        now: datetime,
    ) -> None:
        self.tenant, self.random, self.now = tenant, random, now
        self.people = {person.id: person for person in people}
        self.boards = {board.id: board for board in boards}
        self._count = 0

    def write(self, scripts: list[Script]) -> list[Item]:
        """All texts, oldest first."""
        items: list[Item] = []
        for script in scripts:
            board = self.boards[script.id]
            threads = [thread for theme in script.themes for thread in self._threads(board, theme)]
            items += [post for thread in threads for post in thread.posts]
            items += self._docs(board, script)
            items += self._notes(board, threads)
        return sorted(items, key=lambda item: (item.updated_at, item.id))

    def _threads(self, board: Board, theme: Theme) -> list[Thread]:
        replies = {
            stage: [*theme.parts[stage], *map(" ".join, combinations(theme.parts[stage], 2))]
            for stage in "123"
        }
        decks = {
            part: Deck(values, self.random)
            for part, values in (theme.parts | replies | theme.slots).items()
        }
        subject = next(iter(theme.slots))
        return [self._thread(board, theme, decks) for _ in theme.slots[subject]]

    def _thread(self, board: Board, theme: Theme, decks: dict[str, Deck]) -> Thread:
        numbers = self._numbers()
        slots = {name: decks[name].draw().format_map(numbers) for name in theme.slots} | numbers
        author, *mates = self.random.sample(board.members, len(board.members))
        at = self._office_hours(self.now - SPAN * self.random.random() ** 0.85, author)
        title = fill(decks["t"].draw(), slots)
        stages: list[tuple[str, datetime, str]] = []
        when = at
        for stage in range(1, 4):
            who = self.random.choice(mates) if self.random.random() < 0.7 else author
            then = self._office_hours(when + timedelta(days=self.random.uniform(0.3, 9)), who)
            when = max(then, when + timedelta(minutes=self.random.randint(4, 50)))
            if when >= self.now:
                break
            stages.append((who, when, self._say(decks[str(stage)].draw(), slots, who, board)))
        status = STATUS[len(stages)]
        opening = " ".join(self._say(decks[part].draw(), slots, author, board) for part in "oda")
        first = self._item(
            board, "item", title, opening, at, author, theme=theme.name, status=status
        )
        updates = [
            self._item(
                board, "update", f"Re: {title}", text, when, who, thread=first.id, theme=theme.name
            )
            for who, when, text in stages
        ]
        return Thread(title, (first, *updates), status)

    def _docs(self, board: Board, script: Script) -> list[Item]:
        docs = []
        for title, text in script.docs:
            author = self.random.choice(board.members)
            at = self._office_hours(self.now - SPAN * self.random.random(), author)
            docs.append(self._item(board, "doc", title, text, at, author))
        return docs

    def _notes(self, board: Board, threads: list[Thread]) -> list[Item]:
        """Weekly notes (docs) and monthly reports (files) on the board's threads."""
        notes = []
        monday = (self.now - timedelta(days=self.now.weekday())).replace(
            hour=8, minute=30, second=0, microsecond=0
        )
        periods: list[tuple[datetime, datetime, ItemType]] = [
            (monday - timedelta(weeks=w + 1), monday - timedelta(weeks=w), "doc")
            for w in range(NOTES_WEEKS)
        ]
        first = monday.replace(day=1)
        for _ in range(2):
            last, first = first, (first - timedelta(days=1)).replace(day=1)
            periods.append((first, last, "file"))
        for start, end, kind in periods:
            moved = [t for t in threads if any(start <= post.updated_at < end for post in t.posts)]
            if not moved:
                continue
            author = self.random.choice(board.members)
            done = [
                t.title
                for t in moved
                if t.status == "done" and start <= t.posts[-1].updated_at < end
            ]
            fresh = [t.title for t in moved if start <= t.posts[0].updated_at < end]
            other = [t.title for t in moved if t.title not in done and t.title not in fresh]
            if kind == "doc":
                title = f"{board.name}: notes of week {start.isocalendar().week}"
            else:
                title = f"{board.name} report, {start:%B}.pdf"
            text = "\n".join(
                f"{head}: {'; '.join(dict.fromkeys(titles))}."
                for head, titles in (("Done", done), ("New", fresh), ("Still on the table", other))
                if titles
            )
            notes.append(
                self._item(
                    board, kind, title, text, min(end, self.now - timedelta(minutes=5)), author
                )
            )
        return notes

    def _item(
        self,
        board: Board,
        kind: ItemType,
        title: str,
        text: str,
        at: datetime,
        author: str,
        **metadata: str,
    ) -> Item:
        self._count += 1
        id = f"{board.id}-{self._count:04d}"
        url = f"https://{self.tenant}.example/boards/{board.id}/{id}"
        metadata = {"author": author} | metadata
        return Item(id, board.id, kind, title, text, at, url, metadata)

    def _say(self, text: str, slots: dict[str, str], speaker: str, board: Board) -> str:
        mate = self.random.choice([m for m in board.members if m != speaker])
        return fill(
            text,
            slots | {"mate": self.people[mate].name.split()[0], "day": self.random.choice(DAYS)},
        )

    def _numbers(self) -> dict[str, str]:
        """The slots of every theme; one value per thread, so that its texts agree."""
        r = self.random
        week = (self.now + timedelta(weeks=r.randint(1, 7))).isocalendar().week
        numbers = {
            "n": r.randint(3, 9),
            "days": r.randint(3, 19),
            "mins": r.randint(12, 55),
            "pct": r.randint(4, 38),
        }
        numbers |= {
            "big": r.choice((120, 180, 240, 300, 400, 500, 650, 800, 900)),
            "line": r.randint(1, 4),
            "week": week,
        }
        return {name: str(value) for name, value in numbers.items()} | {"day": r.choice(DAYS)}

    def _office_hours(self, at: datetime, who: str) -> datetime:
        """A moment in the author's working hours, before `now` if `at` is."""
        person = self.people[who]
        start, end = (time.fromisoformat(t) for t in person.working_hours)
        local = at.astimezone(ZoneInfo(person.timezone))
        while local.weekday() >= 5:
            local += timedelta(days=1)
        minute = self.random.randint(start.hour * 60 + start.minute, end.hour * 60 + end.minute - 1)
        local = local.replace(
            hour=minute // 60, minute=minute % 60, second=self.random.randint(0, 59), microsecond=0
        )
        if local >= self.now > at:
            local -= timedelta(days=3 if local.weekday() == 0 else 1)
        return local.astimezone(self.now.tzinfo)
