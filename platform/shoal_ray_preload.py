"""What Ray's own processes have of Shoal: less memory, and less work for a request.

Importing it keeps pandas, and the pyarrow that comes with it, out of processes that
have no use for them: 35 MB and more in each of a dozen. `middlewares` has Serve's HTTP
server leave a read alone. A module of its own, for Ray's workers import it before
anything else, and most of them have nothing else of Shoal's.
"""

import sys
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

PANDAS_OPTIONAL = ("ray.serve._private.utils", "sklearn.utils.fixes")
"""They import pandas where it is installed, say `except ImportError`, and then use it
for nothing that Shoal does.
"""
ENVIRONMENT = {
    # Ray's workers import this when they start, where they can.
    "RAY_preload_python_modules": __name__,
    # What gives Serve's HTTP servers their middlewares.
    "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": f"{__name__}.middlewares",
}


class _Without(MetaPathFinder):
    """Has those that can do without pandas do so; everyone else imports it as ever."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name == "pandas" and (asker := _asking()) in PANDAS_OPTIONAL:
            raise ModuleNotFoundError(f"{asker} does without {name}", name=name)
        return None


def _asking() -> str:
    """The module whose import statement is being carried out."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith(
        (__name__, "importlib")
    ):
        frame = frame.f_back
    return str(frame.f_globals.get("__name__", ""))


sys.meta_path.insert(0, _Without())


class IgnoreDisconnect:
    """Reads are answered to their end, also when nobody waits for them any more: Serve
    would have two tasks for every request, to be told that its client has gone, and
    they took 60 µs of it. Whatever may write, or work for long, is stopped with its
    client as before.
    """

    def __init__(self, app: Callable[..., Awaitable[None]]) -> None:
        self.app = app

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["method"] in ("GET", "HEAD"):
            scope["headers"].append(
                (b"x-request-disconnect-disabled", b"?1")
            )  # Ray 2.60: ray.serve._private.http_util
        await self.app(scope, receive, send)


def middlewares() -> list[Any]:
    """For Serve's HTTP servers, of every proxy and every ingress replica."""
    from starlette.middleware import Middleware

    return [Middleware(IgnoreDisconnect)]


if __name__ == "__main__":  # `ray …`, and nothing else of Shoal's in its memory
    from ray.scripts.scripts import main

    main()  # type: ignore[no-untyped-call]
