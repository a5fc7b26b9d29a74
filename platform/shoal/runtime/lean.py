"""Memory: Ray Serve imports pandas, which brings pyarrow, into each of its dozen processes, 35 MB each, to encode data frames that no
answer of ours is."""

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

UNWANTED, ASKER = "pandas", "ray.serve._private.utils"
HOOK = {"__RAY_WORKER_PROCESS_SETUP_HOOK_ENV_VAR": f"{__name__}.keep_pandas_from_serve"}
"""Ray's workers call this when they start (it is what `worker_process_setup_hook` of a runtime environment sets, without one)."""


class _Without(MetaPathFinder):
    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name == UNWANTED and _asking() == ASKER:
            raise ModuleNotFoundError(f"{ASKER} does without it", name=name)
        return None


def keep_pandas_from_serve() -> None:
    """Have Ray Serve, which can do without pandas, do without it; everyone else imports it as ever. Before Serve is imported."""
    if not any(isinstance(finder, _Without) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Without())


def _asking() -> str:
    """The module whose import statement is being carried out."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith((__name__, "importlib")):
        frame = frame.f_back
    return str(frame.f_globals.get("__name__", ""))


if __name__ == "__main__":  # `ray …`, and nothing else of Shoal's in its memory
    keep_pandas_from_serve()
    from ray.scripts.scripts import main

    main()  # type: ignore[no-untyped-call]
