"""Pictures of results as SVG text: intervals beside each other, and one interval as it
grew. No scripts, no libraries.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

WIDTH, LEFT, RIGHT, ROW = 720, 190, 24, 34
MUTED, LINE, ACCENT, GOOD, BAD = (
    "var(--sh-muted)",
    "var(--sh-line)",
    "var(--sh-accent)",
    "var(--sh-good)",
    "var(--sh-bad)",
)


@dataclass(frozen=True, slots=True)
class Bar:
    """One effect with its interval; an end that is None is open. `state` is good, bad
    or neither.
    """

    label: str
    effect: float
    low: float | None
    high: float | None
    state: str = ""


def bars_of(metrics: Sequence[dict[str, Any]]) -> list[Bar]:
    """Of the comparisons in a report: those of guardrails show harm and its bound."""
    bars = []
    for metric in metrics:
        for arm, row in metric["comparisons"].items():
            if metric["role"] == "guardrail" or row.get("effect") is None:
                continue
            low, high = row["interval"] or (None, None)
            good = (row["effect"] > 0) == (metric["better"] == "increase")
            state = "" if not row["significant"] else "good" if good else "bad"
            bars.append(Bar(f"{metric['metric']}: {arm}", row["effect"], low, high, state))
    return bars


def intervals(bars: Sequence[Bar], *, relative: bool) -> str:
    """Each effect as a dot on its interval, around the line of no effect."""
    if not bars:
        return ""
    low, high = _reach([x for b in bars for x in (b.low, b.high, b.effect, 0.0) if x is not None])
    height = ROW * len(bars) + 44
    parts = [_open(height, "Effects with their intervals")]
    zero = _x(0, low, high)
    for tick in _ticks(low, high):
        x = _x(tick, low, high)
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="6" y2="{height - 30}" stroke="{LINE}"/>')
        parts.append(
            f'<text x="{x:.1f}" y="{height - 12}" text-anchor="middle" fill="{MUTED}" font-size="12">{_number(tick, relative)}</text>'
        )
    parts.append(
        f'<line x1="{zero:.1f}" x2="{zero:.1f}" y1="6" y2="{height - 30}" stroke="{MUTED}" stroke-width="1.5"/>'
    )
    for index, bar in enumerate(bars):
        y = ROW * index + 24
        colour = {"good": GOOD, "bad": BAD}.get(bar.state, ACCENT)
        a = _x(low if bar.low is None else bar.low, low, high)
        b = _x(high if bar.high is None else bar.high, low, high)
        said = f"{bar.label} {_number(bar.effect, relative)}, from {_end(bar.low, relative)} to {_end(bar.high, relative)}"
        parts.append(
            f'<g class="interval" data-state="{bar.state or "none"}"><title>{escape(said)}</title>'
        )
        parts.append(
            f'<text x="{LEFT - 14}" y="{y + 4}" text-anchor="end" fill="currentColor" font-size="13">{escape(_short(bar.label))}</text>'
        )
        parts.append(
            f'<line x1="{a:.1f}" x2="{b:.1f}" y1="{y}" y2="{y}" stroke="{colour}" stroke-width="3" stroke-linecap="round"/>'
        )
        parts.append(
            f'<circle cx="{_x(bar.effect, low, high):.1f}" cy="{y}" r="5.5" fill="{colour}"/></g>'
        )
    return "".join([*parts, "</svg>"])


def growth(points: Sequence[dict[str, Any]], arm: str, *, relative: bool) -> str:
    """The effect of one arm by day, with its interval as a band."""
    rows = [
        (p["day"], p["comparisons"][arm])
        for p in points
        if p["comparisons"].get(arm, {}).get("effect") is not None
    ]
    rows = [(day, row) for day, row in rows if row["interval"] and None not in row["interval"]]
    if not rows:
        return ""
    low, high = _reach([x for _, row in rows for x in (*row["interval"], row["effect"], 0.0)])
    height = 230
    left, right, top, bottom = 70, 20, 12, 34

    def x(i: int) -> float:
        return left + (WIDTH - left - right) * (0.5 if len(rows) == 1 else i / (len(rows) - 1))

    def y(v: float) -> float:
        return top + (height - top - bottom) * (high - v) / (high - low)

    parts = [_open(height, f"The effect of {arm} as it accumulated")]
    for tick in _ticks(low, high):
        parts.append(
            f'<line x1="{left}" x2="{WIDTH - right}" y1="{y(tick):.1f}" y2="{y(tick):.1f}" stroke="{LINE}"/>'
        )
        parts.append(
            f'<text x="{left - 8}" y="{y(tick) + 4:.1f}" text-anchor="end" fill="{MUTED}" font-size="12">{_number(tick, relative)}</text>'
        )
    band = [(x(i), y(row["interval"][1])) for i, (_, row) in enumerate(rows)] + [
        (x(i), y(row["interval"][0])) for i, (_, row) in reversed(list(enumerate(rows)))
    ]
    parts.append(
        f'<polygon class="band" points="{" ".join(f"{a:.1f},{b:.1f}" for a, b in band)}" fill="{ACCENT}" opacity=".18"/>'
    )
    line = " ".join(f"{x(i):.1f},{y(row['effect']):.1f}" for i, (_, row) in enumerate(rows))
    parts.append(f'<polyline points="{line}" fill="none" stroke="{ACCENT}" stroke-width="2"/>')
    parts.append(
        f'<line x1="{left}" x2="{WIDTH - right}" y1="{y(0):.1f}" y2="{y(0):.1f}" stroke="{MUTED}" stroke-width="1.5"/>'
    )
    for i, (day, row) in enumerate(rows):
        said = f"{day}: {_number(row['effect'], relative)}, from {_number(row['interval'][0], relative)} to {_number(row['interval'][1], relative)}"
        parts.append(
            f'<circle class="day" cx="{x(i):.1f}" cy="{y(row["effect"]):.1f}" r="4" fill="{ACCENT}"><title>{escape(said)}</title></circle>'
        )
    for i in {0, len(rows) - 1}:
        anchor = "middle" if len(rows) == 1 else "start" if i == 0 else "end"
        parts.append(
            f'<text x="{x(i):.1f}" y="{height - 12}" text-anchor="{anchor}" fill="{MUTED}" font-size="12">{escape(rows[i][0])}</text>'
        )
    return "".join([*parts, "</svg>"])


def _open(height: float, title: str) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" width="100%" style="max-width:{WIDTH}px" role="img" '
        f'aria-label="{escape(title, quote=True)}" font-family="inherit">'
    )


def _reach(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    room = (high - low) * 0.08 or 1.0
    return low - room, high + room


def _x(value: float, low: float, high: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * (min(max(value, low), high) - low) / (high - low)


def _ticks(low: float, high: float) -> list[float]:
    raw = (high - low) / 5
    unit = 10 ** math.floor(math.log10(raw))
    step = next(unit * m for m in (1, 2, 5, 10) if unit * m >= raw)
    return [step * i for i in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _number(value: float, relative: bool) -> str:
    return f"{100 * value:+.3g} %" if relative else f"{value:+.3g}"


def _end(value: float | None, relative: bool) -> str:
    return "no bound" if value is None else _number(value, relative)


def _short(text: str) -> str:
    return text if len(text) <= 26 else text[:25] + "…"
