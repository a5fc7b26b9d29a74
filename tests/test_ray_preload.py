"""What Ray's own processes import of Shoal."""

import asyncio
import subprocess
import sys
from typing import Any

import pytest

import shoal_ray_preload


@pytest.mark.parametrize("module", ["ray.serve", "sklearn"])
def test_pandas_is_imported_only_by_those_who_use_it(module: str) -> None:
    script = f"""
import sys
import shoal_ray_preload
assert not {{name for name in sys.modules if name.startswith("shoal.")}}
import {module}
assert not {{"pandas", "pyarrow"}} & sys.modules.keys(), "it was imported"
import pandas
assert pandas.DataFrame({{"a": [1]}}).a.sum() == 1
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("kind", "method", "left"),
    [
        ("http", "GET", True),
        ("http", "HEAD", True),
        ("http", "POST", False),
        ("websocket", "", False),
    ],
)
def test_only_reads_continue_after_a_disconnect(kind: str, method: str, left: bool) -> None:
    from ray.serve._private.http_util import parse_disconnect_disabled_header as disabled

    found: list[dict[str, Any]] = []

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        found.append(scope)

    (middleware,) = shoal_ray_preload.middlewares()
    scope = {
        "type": kind,
        "headers": [(b"x-request-disconnect-disabled", b"?0")] if left else [],
        **({"method": method} if method else {}),
    }
    asyncio.run(middleware.cls(app, *middleware.args, **middleware.kwargs)(scope, None, None))
    assert disabled(dict(found[0]["headers"])) is left
