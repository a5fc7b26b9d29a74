"""The last readings of a counter, and the rates that follow from them."""

import math
from bisect import bisect_left
from dataclasses import dataclass, field
from struct import Struct

KEPT = 60
NO_START = -math.inf
_RECORD = Struct("<3d")

Reading = tuple[float, float, float]  # epoch seconds, count, epoch seconds it counts from


@dataclass(slots=True)
class CounterReadings:
    """The newest readings of a counter, ordered by time; at most `KEPT`."""

    _items: list[Reading] = field(default_factory=list)

    def add(self, time: float, value: float, start: float = NO_START) -> list[tuple[float, float]]:
        """Take in a reading: a new one, a late one, or a correction.

        Args:
            time: Epoch seconds.
            value: The count.
            start: Epoch seconds from when it counts; `NO_START` if that is unknown.

        Returns:
            (time, rate per second) of the reading and of the next one, where they are
            known. None for a repetition, or a reading from before those that are kept.
        """
        items, reading = self._items, (time, value, start)
        place = bisect_left(items, time, key=lambda item: item[0])
        if place < len(items) and items[place][0] == time:
            if items[place] == reading:
                return []
            items[place] = reading
        elif place == 0 and len(items) >= KEPT:
            return []
        else:
            items.insert(place, reading)
        rates = [(items[i][0], self._rate(i)) for i in (place, place + 1) if 0 < i < len(items)]
        del items[:-KEPT]
        return [(when, rate) for when, rate in rates if math.isfinite(rate)]

    def _rate(self, place: int) -> float:
        """The rate since the reading before; a counter that restarted began at 0."""
        before, count, _ = self._items[place - 1]
        time, value, start = self._items[place]
        increase = value if value < count or start > before else value - count
        return increase / (time - before)

    def to_bytes(self) -> bytes:
        """The readings, packed; `from_bytes` is the inverse."""
        return b"".join(_RECORD.pack(*item) for item in self._items)

    @staticmethod
    def from_bytes(packed: bytes | None) -> "CounterReadings":
        """The readings that `to_bytes` packed; an incomplete last one is left out."""
        packed = packed or b""
        whole = packed[: len(packed) // _RECORD.size * _RECORD.size]
        return CounterReadings(
            [(time, value, start) for time, value, start in _RECORD.iter_unpack(whole)]
        )
