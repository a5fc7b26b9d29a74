"""Reading of stored rules, maintenance windows and alerts.

One that is damaged, or of another version, must not stop a tenant's points: it counts
as none, and says so in the log.
"""

import logging
from collections.abc import Mapping
from typing import TypeVar

import orjson
from pydantic import BaseModel, ValidationError

from .alert_manager import AlertManager
from .maintenance import MaintenanceWindow
from .rules import DEFAULT_RULES, Rule

T = TypeVar("T", bound=BaseModel)

log = logging.getLogger("shoal.anomalies")


def load_rules(stored: Mapping[bytes, bytes]) -> dict[str, Rule]:
    """The default rules with the tenant's changes; a stored `null` removes one.

    In place of a rule that cannot be read, the default of that name counts, if there is
    one.
    """
    rules = dict(DEFAULT_RULES)
    for name, text in stored.items():
        if text == b"null":
            rules.pop(name.decode(), None)
        elif (rule := _load(Rule, "rule", name, text)) is not None:
            rules[name.decode()] = rule
    return rules


def load_windows(stored: Mapping[bytes, bytes]) -> dict[str, MaintenanceWindow]:
    """The tenant's maintenance windows that can be read."""
    windows = {k.decode(): _load(MaintenanceWindow, "window", k, v) for k, v in stored.items()}
    return {name: window for name, window in windows.items() if window is not None}


def load_alerts(stored: bytes | None) -> AlertManager:
    """The tenant's alerts; none if they cannot be read, as rules will fire again."""
    if stored:
        try:
            return AlertManager.from_dict(orjson.loads(stored))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            log.error("alerts are unreadable, starting without any: %s", type(error).__name__)
    return AlertManager()


def _load(kind: type[T], what: str, name: bytes, text: bytes) -> T | None:
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        count = error.error_count()
        log.warning("%s %r is unreadable and ignored: %d errors", what, name.decode(), count)
        return None
