"""What Ray's own processes import of Shoal: less memory, and quicker reads.

Importing it keeps pandas and pyarrow out of processes that do not use them, and
`middlewares` makes Serve's HTTP servers ignore that the client of a read disconnected.
docs/benchmarks.md has the figures. It is a module of its own, since Ray's workers
import it before anything else, and most of them import nothing else of Shoal.
"""

import sys
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

PANDAS_OPTIONAL = ("ray.serve._private.utils", "sklearn.utils.fixes")
"""Modules that import pandas where it is installed, but need it for nothing here."""
ENVIRONMENT = {
    "RAY_preload_python_modules": __name__,
    "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": f"{__name__}.middlewares",
}
"""Has Ray's workers import this module, and Serve's servers use `middlewares`."""


class PandasFinder(MetaPathFinder):
    """Hides pandas from the modules of `PANDAS_OPTIONAL`."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name == "pandas" and (importer := _importing_module()) in PANDAS_OPTIONAL:
            raise ModuleNotFoundError(f"{importer} does not need {name}", name=name)
        return None


def _importing_module() -> str:
    """The module whose import statement is being executed."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith(
        (__name__, "importlib")
    ):
        frame = frame.f_back
    return str(frame.f_globals.get("__name__", ""))


sys.meta_path.insert(0, PandasFinder())


class IgnoreDisconnect:
    """ASGI middleware: a read is finished after its client disconnected.

    Serve runs two tasks for each request to notice a disconnect, and leaves them out
    for a header of its own (Ray 2.60, `ray.serve._private.http_util`). Other requests,
    which may write or work for long, are still cancelled.
    """

    def __init__(self, app: Callable[..., Awaitable[None]]) -> None:
        self.app = app

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["method"] in ("GET", "HEAD"):
            scope["headers"].append((b"x-request-disconnect-disabled", b"?1"))
        await self.app(scope, receive, send)


def middlewares() -> list[Any]:
    """The middlewares of Serve's HTTP servers, in proxies and ingress replicas."""
    from starlette.middleware import Middleware

    return [Middleware(IgnoreDisconnect)]


if __name__ == "__main__":  # the command `ray`, in a process that keeps pandas out
    from ray.scripts.scripts import main

    main()  # type: ignore[no-untyped-call]
