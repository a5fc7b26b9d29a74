"""The retry policy of both clients."""

from typing import Any

import tenacity

from shoal.contract.errors import LimitExceeded, ShoalError, Unavailable

RETRIES = 4
MAX_RETRY_AFTER = 10.0
"""Longest wait in seconds, whatever the server asks for."""

_backoff = tenacity.wait_random_exponential(multiplier=0.1)


def retry_options(retries: int, safe: bool) -> dict[str, Any]:
    """Arguments for tenacity's `Retrying` and `AsyncRetrying`.

    A call over its limit (429) was refused before anything happened, so it is sent
    again, unless a quota is used up that resets later than the longest wait. A call
    that failed (503, or no response) is sent again only if that is safe.

    Args:
        retries: Further attempts after the first.
        safe: Whether sending the call twice does no harm.
    """

    def is_retriable(error: BaseException) -> bool:
        if isinstance(error, LimitExceeded):
            return (error.retry_after or 0) <= MAX_RETRY_AFTER
        return safe and isinstance(error, Unavailable)

    return {
        "stop": tenacity.stop_after_attempt(retries + 1),
        "wait": _wait,
        "retry": tenacity.retry_if_exception(is_retriable),
        "reraise": True,
    }


def _wait(state: tenacity.RetryCallState) -> float:
    """Seconds: what the server asked for, else full jitter up to 0.1, 0.2, 0.4 … s."""
    error = state.outcome.exception() if state.outcome else None
    if isinstance(error, ShoalError) and error.retry_after is not None:
        return min(error.retry_after, MAX_RETRY_AFTER)
    return _backoff(state)
