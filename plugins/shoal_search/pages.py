"""Pages of a search: where each goes on, without repeating or skipping an item.

By relevance, the items that were ranked come first. A page has the best of them that no
page before had, which the cursor knows by digests. The other items of the scope follow
in the order of their ids, which do not change. So an item that is there from the first
page to the last is on exactly one of them, whatever changes meanwhile.
"""

import hashlib
from base64 import b64decode, b64encode
from collections.abc import Collection
from dataclasses import dataclass, field

import orjson

from shoal import Between, Invalid, read_cursor, write_cursor

from .candidates import FIELDS, Candidate
from .scopes import Scope
from .searcher import MAX_RANKED, Found, Ranking

LIST = "search"
DIGEST = 6
"""Bytes of a digest of an id: of a million other items, one in 10^5 such lists has the
digest of one of its two hundred."""
EXTRA = MAX_RANKED
"""More rows than a page has are read, as ranked ones are among them."""


@dataclass(frozen=True, slots=True)
class Position:
    """Where a page begins.

    Attributes:
        now: The time of the first page, milliseconds since 1970, for recency.
        seen: Digests of the ranked items that pages had.
        after: The id of the last of the other items; None before the first.
        next: Where a list that is sorted by time goes on.
    """

    now: int
    seen: frozenset[bytes] = field(default=frozenset(), repr=False)
    after: str | None = None
    next: str | None = None


def read_position(cursor: str | None, search: str, now: int) -> Position:
    """The position that a cursor stands for; the first one without a cursor.

    Args:
        cursor: What the caller sent.
        search: The query and its filters, with which the cursor was made.
        now: Milliseconds since 1970.

    Raises:
        Invalid: It is not a cursor, or one of another search.
    """
    text = read_cursor(LIST, cursor, str)
    if text is None:
        return Position(now)
    try:
        of, then, seen, after, next = orjson.loads(text)
        digests = b64decode(seen, validate=True)
        parts = [digests[at : at + DIGEST] for at in range(0, len(digests), DIGEST)]
        if (
            isinstance(then, int)
            and isinstance(after, str | None)
            and isinstance(next, str | None)
            and len(parts) <= MAX_RANKED
        ):
            if of == _digest(search).hex():
                return Position(then, frozenset(parts), after, next)
            raise Invalid.at(
                "query.cursor", "belongs to another search: repeat its parameters, or leave it out"
            )
    except (ValueError, TypeError):
        pass
    raise Invalid.at("query.cursor", "not a cursor of this list: take it from the page before")


def write_position(position: Position, search: str) -> str:
    """The cursor of a position."""
    seen = b64encode(b"".join(sorted(position.seen))).decode()
    value = [_digest(search).hex(), position.now, seen, position.after, position.next]
    return write_cursor(LIST, orjson.dumps(value).decode())


async def page_by_relevance(
    scope: Scope, ranking: Ranking, position: Position, limit: int
) -> tuple[list[Found], Position | None]:
    """One page of a search by relevance, and where the next one begins."""
    page: list[Found] = []
    seen = set(position.seen)
    if position.after is None:
        for found in ranking.found:
            if len(seen) == MAX_RANKED or len(page) == limit:
                break
            if (digest := _digest(found.candidate.id)) not in seen:
                seen.add(digest)
                page.append(found)
    if len(page) == limit:
        return page, Position(position.now, frozenset(seen))
    others, last = await _others(scope, seen, position.after, limit - len(page))
    scored = {f.candidate.id: f for f in ranking.question.score(others, ranking.best).found}
    page += [scored[candidate.id] for candidate in others]
    return page, None if last is None else Position(position.now, frozenset(seen), last)


async def _others(
    scope: Scope, seen: Collection[bytes], after: str | None, limit: int
) -> tuple[list[Candidate], str | None]:
    """The next items that were not ranked, and the id after which others are."""
    rest = scope if after is None else scope.within(Between("id", above=after))
    result = await rest.stores.vectors.rows(
        rest.collection, limit=limit + EXTRA + 1, filter=rest.filter, fields=()
    )
    ids = [row["id"] for row in result.rows]
    unseen = [id for id in ids if _digest(id) not in seen]
    chosen = unseen[:limit]
    rows = await scope.stores.vectors.get(scope.collection, chosen, FIELDS) if chosen else []
    found = [Candidate(row["id"], row) for row in rows]
    return found, chosen[-1] if len(unseen) > limit else None


async def page_by_time(
    scope: Scope, position: Position, limit: int
) -> tuple[list[str], Position | None]:
    """The ids of one page of a list of the newest, and where the next one begins."""
    page = await scope.stores.vectors.rows(
        scope.collection,
        limit=limit,
        after=position.next,
        sort="updated",
        descending=True,
        filter=scope.filter,
    )
    ids = [row["id"] for row in page.rows]
    return ids, None if page.next is None else Position(position.now, next=page.next)


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=DIGEST).digest()
