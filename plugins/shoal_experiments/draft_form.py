"""The console's form for a new experiment, with the sample size it needs."""

from __future__ import annotations

import json
import math
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import anyio.to_thread
from nicegui import ui
from pydantic import ValidationError

from shoal import PageContext

from .design import Design
from .required_units import required_units

PRODUCT = "(a product experiment)"
ANALYSES = {
    "fixed": "Fixed horizon",
    "group_sequential": "Group-sequential",
    "always_valid": "Always valid",
}
VARIANTS_HINT = "One per line: name, percent, and parameters as JSON"
GUARDRAILS_HINT = (
    "One per line: metric, non-inferiority margin in %, and which is better: more or less"
)


class DraftForm:
    """The fields of a design. The sample size below them follows what is typed.

    Args:
        page: Whom it is drawn for.
        schemas: JSON schema of the parameters of each capability.
        save: Saves a design under an experiment's id.
    """

    def __init__(
        self,
        page: PageContext,
        schemas: Mapping[str, dict[str, Any]],
        save: Callable[[str, dict[str, Any]], Awaitable[None]],
    ) -> None:
        self._page, self._schemas, self._save_draft = page, schemas, save
        self._asked = 0
        with ui.element("div").classes("sh-card w-full flex flex-col"):
            self._draw_variants()
        with ui.element("div").classes("sh-card w-full flex flex-col"):
            self._draw_metric()
            self._draw_analysis()
        self.needed = ui.label().classes("sh-card w-full").mark("needed")
        ui.button("Save the draft", on_click=self._save).props("unelevated").mark("save")
        ui.timer(0.1, self._show_sample_size, once=True)

    def _draw_variants(self) -> None:
        with ui.row().classes("w-full"):
            self.id = self._text("Experiment ID", "ranking-weights")
            self.capability = self._select(
                "Capability", [PRODUCT, *self._schemas], "w-56", on_change=self._show_parameters
            )
            self.unit = self._select("Unit", ["user", "tenant", "session"], "w-36")
        self.hypothesis = self._text("Hypothesis", "").classes("w-full")
        self.hint = ui.label().classes("sh-muted break-all")
        self._page.heading("Variants; the first is the control", 3)
        self.variants = self._lines("Variants", VARIANTS_HINT, "control 50\ntreatment 50")

    def _draw_metric(self) -> None:
        with ui.row().classes("w-full"):
            self.metric = self._text("Primary metric", "bought")
            self.kind = self._select(
                "Kind", ["proportion", "mean"], "w-36", on_change=self._show_sample_size
            )
            self.event = self._text("Event type", "experiment.outcome")
            self.better = self._select("Better", ["increase", "decrease"], "w-36")
        with ui.row().classes("w-full"):
            self.baseline = self._number("Baseline", 0.1)
            self.effect = self._number("Minimum effect", 0.02)
            self.variance = self._number("Variance (means)", None)
            self.alpha = self._number("Alpha", 0.05)
            self.power = self._number("Power", 0.8)
            self.per_day = self._number("Units per day", None)

    def _draw_analysis(self) -> None:
        with ui.row().classes("w-full"):
            self.analysis = self._select(
                "Analysis", ANALYSES, "w-48", on_change=self._show_sample_size
            )
            self.duration = self._number("Days (optional)", None)
        self._page.heading("Guardrails", 3)
        self.guardrails = self._lines("Guardrails", GUARDRAILS_HINT, "")

    def _text(self, label: str, value: str) -> ui.input:
        return ui.input(label, value=value).props("outlined dense").classes("w-56 max-w-full")

    def _number(self, label: str, value: float | None) -> ui.number:
        field = ui.number(label, value=value, on_change=self._show_sample_size)
        return field.props("outlined dense debounce=200").classes("w-40")

    def _select(
        self,
        label: str,
        options: list[str] | dict[str, str],
        width: str,
        on_change: Callable[[], Any] | None = None,
    ) -> ui.select:
        field = ui.select(options, value=next(iter(options)), label=label, on_change=on_change)
        return field.props("outlined dense").classes(width)

    def _lines(self, label: str, hint: str, value: str) -> ui.textarea:
        field = ui.textarea(value=value, on_change=self._show_sample_size)
        field.props(f'outlined autogrow aria-label="{label}" hint="{hint}"')
        return field.classes("w-full sh-mono")

    def _show_parameters(self) -> None:
        """Show the parameters of the chosen capability."""
        fields = self._schemas.get(self.capability.value, {}).get("properties", {})
        names = ", ".join(f"{name} ({_describe_type(schema)})" for name, schema in fields.items())
        self.hint.set_text(f"Parameters: {names}" if names else "")

    async def _show_sample_size(self) -> None:
        """Show the sample size as it would be registered, or why there is none yet."""
        self._asked += 1
        asked = self._asked
        try:
            text = await self._sample_size()
        except ValidationError as error:
            messages = [e["msg"].removeprefix("Value error, ") for e in error.errors()]
            text = f"No sample size yet: {'; '.join(messages)}"
        except ValueError as error:
            text = f"No sample size yet: {error}"
        if asked == self._asked:  # else something else was typed meanwhile
            self.needed.set_text(text)

    async def _sample_size(self) -> str:
        numbers = {
            "baseline": self.baseline.value,
            "minimum_effect": self.effect.value,
            "alpha": self.alpha.value,
            "power": self.power.value,
        }
        if missing := [name.replace("_", " ") for name, value in numbers.items() if value is None]:
            raise ValueError(f"fill in {', '.join(missing)}")
        variants = parse_variants(self.variants.value or "")
        design = Design.model_validate(
            {
                "hypothesis": "?",
                "variants": [{"name": v["name"], "allocation": v["allocation"]} for v in variants],
                "primary": {"name": "?", "kind": self.kind.value},
                "analysis": self.analysis.value,
                "variance": self.variance.value,
                **numbers,
            }
        )
        per_arm = await anyio.to_thread.run_sync(required_units, design)
        if per_arm is None:
            raise ValueError("a mean needs the variance between units")
        shares = design.shares().values()
        arm = "per arm" if len({*shares}) == 1 else "in the smallest arm"
        text = f"{per_arm:,} units {arm}, {math.ceil(per_arm / min(shares)):,} in all."
        per_day = self.per_day.value
        if per_day and (days := design.whole_weeks(per_arm, per_day)):
            text += f" At {per_day:,.0f} units per day: {days:g} days."
        return text

    async def _save(self) -> None:
        try:
            variants = parse_variants(self.variants.value or "")
            guardrails = parse_guardrails(self.guardrails.value or "")
        except ValueError as error:
            ui.notify(str(error), type="negative")
            return
        design = {
            "hypothesis": self.hypothesis.value,
            "unit": self.unit.value,
            "variants": variants,
            "guardrails": guardrails,
            "capability": None if self.capability.value == PRODUCT else self.capability.value,
            "primary": {
                "name": self.metric.value,
                "kind": self.kind.value,
                "event": self.event.value,
                "better": self.better.value,
            },
            "minimum_effect": self.effect.value,
            "alpha": self.alpha.value,
            "power": self.power.value,
            "analysis": self.analysis.value,
        }
        optional = {
            "baseline": self.baseline.value,
            "variance": self.variance.value,
            "units_per_day": self.per_day.value,
            "duration_days": self.duration.value,
        }
        design |= {name: value for name, value in optional.items() if value is not None}
        await self._save_draft(self.id.value or "", design)


def parse_variants(text: str) -> list[dict[str, Any]]:
    """Variants from lines of a name, a percentage, and parameters as JSON.

    Raises:
        ValueError: A line cannot be read.
    """
    variants = []
    for line in filter(None, map(str.strip, text.splitlines())):
        name, _, rest = line.partition(" ")
        percent, _, parameters = rest.strip().partition(" ")
        try:
            variants.append(
                {
                    "name": name,
                    "allocation": float(percent.rstrip("%")),
                    "parameters": json.loads(parameters) if parameters.strip() else {},
                }
            )
        except ValueError:
            raise ValueError(
                f"cannot read the variant {line!r}: "
                "expected a name, a percentage, and parameters as JSON"
            ) from None
    return variants


def parse_guardrails(text: str) -> list[dict[str, Any]]:
    """Guardrails from lines of a metric, a margin in percent, and "more" or "less".

    Raises:
        ValueError: A line cannot be read.
    """
    directions = {"more": "increase", "less": "decrease"}
    guardrails = []
    for line in filter(None, map(str.strip, text.splitlines())):
        try:
            name, margin, direction = [*line.split(), "more"][:3]
            guardrails.append(
                {
                    "name": name,
                    "margin": float(margin.rstrip("%")) / 100,
                    "better": directions[direction],
                }
            )
        except (KeyError, ValueError):
            raise ValueError(
                f"cannot read the guardrail {line!r}: "
                "expected a metric, a percentage, and more or less"
            ) from None
    return guardrails


def _describe_type(schema: dict[str, Any]) -> str:
    """A parameter's values in words: its options, its bounds, or its type."""
    if schema.get("enum"):
        return " or ".join(map(str, schema["enum"]))
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    high = schema.get("maximum", schema.get("exclusiveMaximum"))
    if low is None and high is None:
        return str(schema.get("type", "any"))
    return f"{'' if low is None else f'{low:g}'}..{'' if high is None else f'{high:g}'}"
