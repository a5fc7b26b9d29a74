"""Words of rows in Milvus: found by lists of tokens, scored by BM25 here.

Milvus 2.3 has no BM25, and where it has, a shared collection's counts are those of all
tenants. Here they are those of the tenant's rows that pass the filter.
"""

import asyncio
import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from .milvus_filters import has_tokens
from .milvus_table import MilvusTable

MOST_ROWS = 10_000
"""Rows that are read and scored."""
PAGE = 500
MOST_COUNTED = 256
"""Of what is looked for, how many are counted, where there are too many rows."""
K1, B = 1.2, 0.75


async def best_rows(
    table: MilvusTable,
    within: str,
    field: str,
    sought: Sequence[tuple[str, ...]],
    limit: int,
) -> list[tuple[str, str, float]]:
    """The rows with the tokens of one of these tuples.

    Where more than `MOST_ROWS` rows are such, those that are in many rows choose none;
    of one that is in more by itself, only so many rows are read.

    Args:
        table: The tenant's rows.
        within: The expression that they must pass.
        field: The field of tokens.
        sought: What to look for, at least one, all without repetition.
        limit: The largest number of rows.

    Returns:
        The digest of each row's key, its id and its score, the highest score first.
    """
    wanted = f"({within}) and {_has_some(field, sought)}"
    total, matches = await asyncio.gather(table.count(within), table.count(wanted))
    if matches > MOST_ROWS and len(sought) > 1:
        chosen = await _rarest(table, within, field, sought)
        wanted = f"({within}) and {_has_some(field, chosen)}"
    found: list[dict[str, Any]] = []
    async for page in table.pages(wanted, ["row", "id", f"f_{field}"], PAGE):
        found += page
        if len(found) >= MOST_ROWS:
            break
    tokens = {token for group in sought for token in group}
    scores = _bm25([row[f"f_{field}"] for row in found], tokens, max(total, len(found)))
    ranked = sorted(
        ((row["row"], row["id"], score) for row, score in zip(found, scores, strict=True)),
        key=lambda entry: (-entry[2], entry[1]),
    )
    return ranked[:limit]


def _has_some(field: str, sought: Sequence[tuple[str, ...]]) -> str:
    """The condition that a field has the tokens of one of these tuples."""
    single = [group[0] for group in sought if len(group) == 1]
    parts = [has_tokens(field, group, every=True) for group in sought if len(group) > 1]
    return f"({' or '.join([*parts, *([has_tokens(field, single)] if single else [])])})"


async def _rarest(
    table: MilvusTable, within: str, field: str, sought: Sequence[tuple[str, ...]]
) -> list[tuple[str, ...]]:
    """Those that the fewest rows have: at most `MOST_ROWS` rows, or one of them."""
    counted = sought[:MOST_COUNTED]
    numbers = await asyncio.gather(
        *(table.count(f"({within}) and {_has_some(field, [group])}") for group in counted)
    )
    chosen, rows = list[tuple[str, ...]](), 0
    for number, group in sorted(zip(numbers, counted, strict=True)):
        if chosen and rows + number > MOST_ROWS:
            break
        if number:
            chosen.append(group)
            rows += number
    return chosen or [counted[0]]


def _bm25(texts: Sequence[str], tokens: set[str], total: int) -> list[float]:
    """Robertson's BM25 with the idf of Lucene, ln(1 + (N - n + ½) / (n + ½))."""
    words = [text.split(" ") for text in texts]
    mean = sum(map(len, words)) / max(1, len(words))
    counts = [Counter(word for word in row if word in tokens) for row in words]
    rows = Counter(word for row in counts for word in row)
    idf = {w: math.log(1 + (total - n + 0.5) / (n + 0.5)) for w, n in rows.items()}
    return [
        sum(
            idf[word] * number * (K1 + 1) / (number + K1 * (1 - B + B * len(row) / mean))
            for word, number in count.items()
        )
        for row, count in zip(words, counts, strict=True)
    ]
