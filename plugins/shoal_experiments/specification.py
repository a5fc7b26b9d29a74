"""How people write the fields of a design, as the design stores them.

variants            {"a": {"model": "m1", "allocation": "50%"}, …} → a list, with the
                    other fields as parameters
metrics             {"primary": …, "secondary": […]} → those fields
a metric            "clicks" → {"name": "clicks"}
duration            "14 days" or "2 weeks" → days
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_DURATION = re.compile(r"\s*(\d{1,4}(?:\.\d{1,4})?)\s*(days?|weeks?)\s*", re.IGNORECASE)
_GROUPS = ("primary", "secondary", "guardrails")


def read_variants(value: Any) -> Any:
    """Variants as a list, from a list or from an object with one field for each."""
    if isinstance(value, Mapping):
        return [_named_variant(name, fields) for name, fields in value.items()]
    if isinstance(value, list | tuple):
        return [_with_percent(v) if isinstance(v, Mapping) else v for v in value]
    return value


def _named_variant(name: Any, fields: Any) -> dict[str, Any]:
    if not isinstance(fields, Mapping):
        raise ValueError(f"variant {name} must be an object with an `allocation`")
    payload = {key: field for key, field in fields.items() if key not in ("allocation", "name")}
    if "parameters" in payload and len(payload) > 1:
        others = ", ".join(sorted(map(str, {*payload} - {"parameters"})))
        raise ValueError(f"variant {name} has `parameters`, so {others} must be among these")
    known = {key: fields[key] for key in ("allocation",) if key in fields}
    return _with_percent({"name": name, **known, "parameters": payload.get("parameters", payload)})


def _with_percent(fields: Mapping[str, Any]) -> dict[str, Any]:
    allocation = fields.get("allocation")
    if isinstance(allocation, str):
        return {**fields, "allocation": allocation.strip().removesuffix("%").strip()}
    return dict(fields)


def read_metric(value: Any) -> Any:
    """A metric that is only named has posted outcomes of that name."""
    return {"name": value} if isinstance(value, str) else value


def read_duration(value: Any) -> Any:
    """Days, from a number or from a text such as "14 days"."""
    if not isinstance(value, str):
        return value
    found = _DURATION.fullmatch(value)
    if found is None:
        raise ValueError('must be a number of days, or a text such as "14 days" or "2 weeks"')
    return float(found[1]) * (7 if found[2].casefold().startswith("week") else 1)


def spread_metrics(values: dict[str, Any]) -> dict[str, Any]:
    """The fields of a design whose metrics are in one object, `metrics`."""
    metrics = values.get("metrics")
    if not isinstance(metrics, Mapping) or set(metrics) - set(_GROUPS):
        raise ValueError(f"metrics must be an object with {', '.join(_GROUPS)}")
    if twice := [group for group in metrics if group in values]:
        raise ValueError(f"{', '.join(twice)} must be given once, in `metrics` or beside it")
    return {**{k: v for k, v in values.items() if k != "metrics"}, **metrics}


def control_of(variants: Any) -> str:
    """The variant that is the control when none is named: "control", else the first."""
    listed = variants if isinstance(variants, list | tuple) else ()
    names = [v.get("name") if isinstance(v, dict) else getattr(v, "name", "") for v in listed]
    if isinstance(variants, Mapping):
        names = ["control"] if "control" in variants else list(variants)
    return names[0] if names and isinstance(names[0], str) else ""
