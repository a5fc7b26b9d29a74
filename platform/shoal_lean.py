"""Less memory: pandas, and the pyarrow that comes with it, stay out of processes that have no use for them, 35 MB and more in each of a dozen.

A module of its own, for Ray's workers import it before anything else, and most of them have nothing else of Shoal's. Importing it is enough.
"""

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

ASKERS = ("ray.serve._private.utils", "sklearn.utils.fixes")
"""They import pandas where it is installed, say `except ImportError`, and then use it for nothing that Shoal does."""
PRELOAD = {"RAY_preload_python_modules": __name__}
"""Has Ray's workers import this when they start, where they can."""


class _Without(MetaPathFinder):
    """Has those that can do without pandas do so; everyone else imports it as ever."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name == "pandas" and (asker := _asking()) in ASKERS:
            raise ModuleNotFoundError(f"{asker} does without {name}", name=name)
        return None


def _asking() -> str:
    """The module whose import statement is being carried out."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith((__name__, "importlib")):
        frame = frame.f_back
    return str(frame.f_globals.get("__name__", ""))


sys.meta_path.insert(0, _Without())

if __name__ == "__main__":  # `ray …`, and nothing else of Shoal's in its memory
    from ray.scripts.scripts import main

    main()  # type: ignore[no-untyped-call]
