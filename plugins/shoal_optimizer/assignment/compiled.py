"""The decorator of compiled functions."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit

F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F) -> F:
    """Compile a function with Numba: it releases the GIL and is cached on disk."""
    return cast(F, njit(nogil=True, cache=True)(function))
