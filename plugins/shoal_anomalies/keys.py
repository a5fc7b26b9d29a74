"""Keys of the capability in Redis.

All keys of a tenant share one hash tag, so that one script can write them all at once.
"""


def key(*parts: str) -> tuple[str, ...]:
    """The key with these parts, below the tenant and the capability."""
    return ("{}", "anomalies", "{}", *parts)


SERIES = key("series")  # hash: series id → metric, labels, kind (JSON)
READINGS = key("readings")  # hash: series id → a counter's last readings (packed)
STATES = key("states")  # hash: series id → state of its detector (compressed JSON)
SEASONS = key("seasons")  # hash: series id → fitted season (JSON)
FORESTS = key("forests")  # hash: group of series → fitted forest (NumPy archive)
FITTED_AT = key("fitted_at")  # string: when models were last fitted
UNARCHIVED = key("unarchived")  # list: points that the long-term store does not have yet
ANOMALIES = key("anomalies")  # sorted set by time: anomalies (JSON)
FEEDBACK = key("feedback")  # hash: anomaly id → a person's verdict (JSON)
MISSED = key("missed")  # hash: id → an anomaly that was reported as not found (JSON)
SUGGESTION = key("suggestion")  # string: suggested parameters (JSON)
RULES, WINDOWS, CHANNELS = key("rules"), key("windows"), key("channels")  # hashes: id → JSON
ALERT_STATE = key("alert_state")  # hash: version, alerts (JSON)
ALERT_HISTORY = key("alert_history")  # sorted set by time: alerts that cannot reopen (JSON)
OUTBOX = key("outbox")  # hash: notice key → what to send (JSON)
SENT = key("sent")  # sorted set by time: keys of notices that were sent or given up
DELIVERIES = key("deliveries")  # list: the last delivery attempts (JSON), newest first


def recent_points(series: str) -> tuple[str, ...]:
    """String: the last points of a series, packed."""
    return key("recent_points", series)


def delivery_claim(notice: str) -> tuple[str, ...]:
    """String: exists while some process is sending a notice."""
    return key("delivery_claim", notice)
