"""What a tenant's use is counted in, and how a capability counts it."""

from typing import Literal, Protocol, get_args

Meter = Literal["requests", "items", "events", "embedding_texts"]
METERS: tuple[Meter, ...] = get_args(Meter)


class Usage(Protocol):
    """One tenant's usage of one capability: `ctx.usage`.

    Requests are counted by the platform. A capability counts what else a tenant hands
    to it, once it is stored and before the response:

        ctx.usage.require("items", len(items))
        await store(items)
        ctx.usage.add("items", len(items))
    """

    def require(self, meter: Meter, count: int = 1) -> None:
        """Check the tenant's quotas before `count` more are accepted.

        For items and events also its quota of storage. In streams and jobs nothing is
        refused.

        Raises:
            QuotaExceeded: One of the quotas has less left.
        """

    def add(self, meter: Meter, count: int = 1) -> None:
        """Count what was accepted.

        Once this returns, the count survives the end of this process.
        """


class Uncounted:
    """The `Usage` where there is nothing to count into, such as in a test."""

    def require(self, meter: Meter, count: int = 1) -> None:
        pass

    def add(self, meter: Meter, count: int = 1) -> None:
        pass


UNCOUNTED = Uncounted()
