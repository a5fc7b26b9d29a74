"""What fails of a job's work, kept until the rest is done."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from shoal import InternalError

MAX_NAMED = 20
"""Failed parts that a run's error names."""

log = logging.getLogger("shoal.features")


class Failures:
    """The failed parts of some work.

    Args:
        kind: What the parts are, such as `views`.
    """

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._errors: dict[str, Exception] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._errors

    @contextmanager
    def set_aside(self, name: str) -> Iterator[None]:
        """Keep what fails within as the failure of a part."""
        try:
            yield
        except Exception as error:
            self._errors.setdefault(name, error)

    def raise_any(self, total: int) -> None:
        """Fail if any of `total` parts did, naming them.

        Raises:
            InternalError: With the first failure.
        """
        for name, error in self._errors.items():
            log.error("%s: %s failed", self._kind, name, exc_info=error)
        if self._errors:
            names = ", ".join(list(self._errors)[:MAX_NAMED])
            first = next(iter(self._errors.values()))
            raise InternalError(
                f"{len(self._errors)} of {total} {self._kind} failed"
                f" ({names}{', …' if len(self._errors) > MAX_NAMED else ''}),"
                f" the first with {type(first).__name__}: {first}"
            )
