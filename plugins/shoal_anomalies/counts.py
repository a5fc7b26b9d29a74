"""Whether counts prove that a limit is exceeded, or chance may have done it.

All tests are exact and one-sided: the limit counts as exceeded if counts like these
were rarer than `CHANCE` with the true rate at the limit.
"""

from dataclasses import dataclass
from typing import Literal

CHANCE = 0.001
ROUNDING = 1e-9

Comparison = Literal["above", "below", "drop", "rise", "unusual"]


@dataclass(frozen=True, slots=True)
class Tally:
    """What consecutive points count together.

    events: those that happened: errors, or requests.
    of: of how many (a share), or how many were expected (a drop or a rise).
    """

    events: float = 0.0
    of: float = 0.0

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(self.events + other.events, self.of + other.of)

    def exceeds(self, condition: Comparison, limit: float) -> bool:
        """Whether a limit is exceeded, and not by chance.

        Args:
            condition: Of a share (`above`, `below`), which is binomial, or of a number
                compared with the expected one (`drop`, `rise`), which is Poisson.
            limit: In [0, 1] for a share; the relative change for the others.
        """
        if condition in ("above", "below"):
            probability = self._share_at_least(limit, condition == "above")
        else:
            probability = self._number_beyond(limit, condition == "rise")
        return probability <= CHANCE * (1 + ROUNDING)

    def _share_at_least(self, limit: float, above: bool) -> float:
        """Of as many events of `of`, or more (or fewer), if each is one by `limit`."""
        from scipy.special import betainc

        others = max(self.of - self.events, 0.0)
        # P(X ≥ k) = I_p(k, n - k + 1), which also takes averages that are not whole.
        events, others, share = (
            (self.events, others, limit) if above else (others, self.events, 1 - limit)
        )
        return float(betainc(events, others + 1, share)) if events > 0 else 1.0

    def _number_beyond(self, limit: float, above: bool) -> float:
        """Of as many events or more (or fewer) with this mean."""
        from scipy.special import gammainc, gammaincc

        mean = max(self.of, 0.0) * (1 + limit if above else 1 - limit)
        if above:
            return float(gammainc(self.events, mean)) if self.events > 0 else 1.0
        return float(gammaincc(max(self.events, 0.0) + 1, mean)) if mean > 0 else 1.0
