"""Where the capability keeps things in Redis. One hash tag per tenant, so that one
script can write them all at once.
"""


def key(*parts: str) -> tuple[str, ...]:
    return ("{}", "anomalies", "{}", *parts)


SERIES = key("series")  # hash: series id → what it is (JSON)
STATES = key("states")  # hash: series id → the detector's state
MODELS = key("models")  # hash: series id → the fitted season (JSON)
FORESTS = key("forests")  # hash: group of series → the fitted forest (NumPy archive)
FITTED = key("fitted")  # when models were last fitted
FRESH = key("fresh")  # list: points that the long-term store does not have yet
FOUND = key("found")  # sorted set by time: anomalies (JSON)
FEEDBACK = key("feedback")  # hash: anomaly id → verdict of a person (JSON)
MISSED = key("missed")  # hash: id → what a person says was not found (JSON)
SUGGESTED = key("suggested")  # the parameters that this feedback asks for (JSON)
RULES, WINDOWS, CHANNELS = key("rules"), key("windows"), key("channels")  # hashes: id → JSON
BOOK = key("book")  # hash: version, book (JSON)
HISTORY = key("history")  # sorted set by time: alerts resolved for a while (JSON)
OUTBOX = key("outbox")  # hash: notice's key → what to send (JSON)
SENT = key("sent")  # sorted set by time: keys of notices that went, or were given up
DELIVERIES = key("deliveries")  # list: the last attempts (JSON), newest first


def tail(series: str) -> tuple[str, ...]:
    """The last points of a series, packed."""
    return key("tail", series)


def claim(notice: str) -> tuple[str, ...]:
    """Held by whoever is sending a notice."""
    return key("claim", notice)
