"""docs/console.md tells the truth."""

import re
from pathlib import Path

import pytest

from shoal.console.theme import CONSOLE

DOCS = (Path(__file__).parents[3] / "docs" / "console.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("snippet", re.findall(r"```python\n(.*?)```", DOCS, re.DOTALL))
def test_snippets_run(snippet: str) -> None:
    exec(compile(snippet, "docs/console.md", "exec"), {})


def test_documented_classes_and_colours_exist() -> None:
    names = set(re.findall(r"`(sh-[a-z0-9]+|--sh-[a-z-]+)`", DOCS))
    assert len(names) > 15
    assert not [name for name in names if not re.search(rf"{re.escape(name)}\b", CONSOLE)]
