"""Every script and every read of a whole set in Redis is named, with its bound."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
WHOLE = re.compile(
    r"redis\.call\(|\.(hgetall|smembers|hkeys|hvals|scan_iter|scan|x?range)\("
    r"|\.z\w*range\w*\(|\.lrange\(|\.xrange\("
)
"""Scripts, and commands whose reply or time grows with what is stored."""
EXEMPT = re.compile(r"^local/")
"""What runs on an operator's machine, for samples and embedded servers."""


def files_that_read_sets() -> set[str]:
    found = set()
    for root in (ROOT / "platform/shoal", ROOT / "plugins"):
        for path in root.rglob("*.py"):
            name = str(path.relative_to(root))
            if WHOLE.search(path.read_text()) and not EXEMPT.match(name):
                found.add(name)
    return found


def test_the_table_of_what_runs_in_redis_is_complete() -> None:
    page = (ROOT / "docs/stores.md").read_text()
    section = page.partition("## What runs in Redis")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| `")]
    named = {name for row in rows for name in re.findall(r"`([\w/]+\.py)`", row.split("|")[1])}
    assert files_that_read_sets() - named == set(), "in the code, but not in the table"
    assert named - files_that_read_sets() == set(), "in the table, but not in the code"
    assert all(row.split("|")[3].strip() for row in rows), "a row without a bound"
