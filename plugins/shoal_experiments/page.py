"""The console's page: the experiments, a form with a live sample size, and results
drawn.
"""

from __future__ import annotations

import json
import math
from collections.abc import Awaitable, Callable
from html import escape
from typing import Any

from nicegui import ui
from pydantic import ValidationError

from shoal import PageContext, ShoalError

from . import charts
from .design import Design

STATES = {
    "draft": "off",
    "running": "good",
    "promoted": "good",
    "promoting": "good",
    "rolled back": "warn",
}
DECISIONS = {"ship": "good", "do not ship": "bad", "invalid": "bad", "inconclusive": "off"}
PRODUCT = "(a product experiment)"


async def draw(page: PageContext) -> None:
    await _Pages(page).list()


class _Pages:
    """What is shown: the list, one experiment, or the form. One at a time, in one
    column.
    """

    def __init__(self, page: PageContext) -> None:
        self._page = page
        self._api = page.client.experiments
        self._column = ui.column().classes("w-full")

    async def _try(self, work: Awaitable[Any]) -> Any:
        """The work's answer; None after a refusal, which is shown."""
        try:
            return await work
        except ShoalError as error:
            said = "; ".join(
                f"{e.get('location')}: {e.get('message')}" for e in error.errors
            ) or str(error)
            ui.notify(said, type="negative", multi_line=True, timeout=8000)
            return None

    def _clear(self) -> ui.column:
        self._column.clear()
        return self._column

    # The list

    async def list(self) -> None:
        found = await self._try(self._api.list_experiments(limit=1000))
        with self._clear():
            with ui.row().classes("w-full items-center"):
                ui.label("Experiments").classes("sh-h2 grow")
                if self._page.role != "reader":
                    ui.button("New experiment", icon="add", on_click=self.form).props(
                        "unelevated"
                    ).mark("new")
            rows = found["experiments"] if found else []
            if not rows:
                ui.label("No experiments yet.").classes("sh-empty")
            for row in reversed(rows):
                self._row(row)

    def _row(self, row: dict[str, Any]) -> None:
        async def go() -> None:
            await self.show(row["id"])

        with (
            ui.element("div")
            .classes("sh-card w-full cursor-pointer")
            .on("click", go)
            .mark("experiment"),
            ui.row().classes("w-full items-center no-wrap"),
        ):
            with ui.column().classes("grow min-w-0 gap-0"):
                ui.label(row["id"]).classes("sh-h2")
                ui.label(row["hypothesis"]).classes("sh-muted")
            _pill(row["capability"] or "product", "")
            _pill(" · ".join(row["variants"]), "")
            _pill(row["status"], STATES.get(row["status"], ""))

    # One experiment

    async def show(self, id: str) -> None:
        document = await self._try(self._api.get(id=id))
        if document is None:
            return
        report = await self._try(self._api.results(id=id)) if document["started_at"] else None
        with self._clear():
            with ui.row().classes("w-full items-center"):
                ui.button("All experiments", icon="arrow_back", on_click=self.list).props(
                    "flat dense"
                )
                ui.label(id).classes("sh-h2 grow")
                _pill(document["status"], STATES.get(document["status"], ""))
                if self._page.role != "reader":
                    self._actions(document)
            ui.label(document["design"]["hypothesis"])
            self._design(document)
            if report:
                self._report(document, report)
            with ui.expansion("History").classes("w-full"):
                for change in document["history"]:
                    ui.label(
                        f"{change['at'][:19].replace('T', ' ')} · {change['by']} · {change['what']}"
                    ).classes("sh-muted break-all")

    def _actions(self, document: dict[str, Any]) -> None:
        id = document["id"]

        def act(work: Callable[..., Awaitable[Any]], **more: Any) -> Callable[[], Awaitable[None]]:
            async def run() -> None:
                await self._try(work(id=id, **more))
                await self.show(id)

            return run

        if document["status"] == "draft":
            ui.button("Start", on_click=act(self._api.start)).props("unelevated").mark("start")
        if document["status"] == "running":
            ui.button("Stop", on_click=act(self._api.stop, body={})).props("outline").mark("stop")
        if document["status"] in ("running", "stopped"):
            ui.button("Promote the winner", on_click=act(self._api.promote, body={})).props(
                "outline"
            ).mark("promote")
        if document["status"] in ("promoted", "promoting"):
            ui.button("Roll back", on_click=act(self._api.rollback, body={})).props("outline").mark(
                "rollback"
            )

    def _design(self, document: dict[str, Any]) -> None:
        design, plan = document["design"], document["plan"] or {}
        facts = {
            "Capability": design["capability"] or "none: a product experiment",
            "Unit": design["unit"],
            "Primary metric": f"{design['primary']['name']} ({design['primary']['kind']}, {design['primary']['better']} is better)",
            "Guardrails": ", ".join(g["name"] for g in design["guardrails"]) or "none",
            "Analysis": f"{design['analysis'].replace('_', '-')}, alpha {design['alpha']:g}, power {design['power']:g}, {design['correction']}",
            "Registered": f"{plan['per_arm']:,} units per arm, {plan['duration_days']:g} days"
            if plan
            else "not yet",
            "SHA-256": (document["hash"] or "")[:16] + "…" if document["hash"] else "at the start",
        }
        with (
            ui.element("div")
            .classes("sh-card w-full grid gap-x-6 gap-y-1")
            .style("grid-template-columns: max-content 1fr")
        ):
            for name, value in facts.items():
                ui.label(name).classes("sh-muted")
                ui.label(value)
            for variant in design["variants"]:
                ui.label(
                    variant["name"] + (" (control)" if variant["name"] == design["control"] else "")
                ).classes("sh-muted")
                ui.label(
                    f"{variant['allocation']:g} % {json.dumps(variant['parameters']) if variant['parameters'] else ''}"
                ).classes("sh-mono")

    def _report(self, document: dict[str, Any], report: dict[str, Any]) -> None:
        health, verdict = report["health"], report["verdict"]
        with ui.element("div").classes("sh-card w-full").mark("verdict"):
            with ui.row().classes("items-center"):
                ui.label("Verdict").classes("sh-h2")
                _pill(verdict["decision"], DECISIONS[verdict["decision"]])
            for reason in verdict["reasons"]:
                ui.label(reason)
        with ui.element("div").classes("sh-card w-full").mark("health"):
            ui.label("Health").classes("sh-h2")
            units = health["units_per_arm"]
            days = health["days"]
            _progress(
                f"{units['smallest']:,} of {units['planned']:,} units in the smallest arm",
                units["smallest"] / max(units["planned"], 1),
            )
            _progress(
                f"day {days['elapsed']:.1f} of {days['planned']:g}",
                days["elapsed"] / days["planned"] if days["planned"] else 1.0,
            )
            ratio = health["sample_ratio"]
            ui.label(
                f"Units: {', '.join(f'{a} {n:,}' for a, n in health['units'].items())}. Sample ratio p = {ratio['p_value']:.3g}"
                + (": mismatch!" if ratio["mismatch"] else ".")
            ).classes("sh-muted")
            if health["crossovers"]["units"]:
                ui.label(
                    f"{health['crossovers']['units']:,} units in more than one variant, left out."
                ).classes("sh-muted")
            for name, arms in health["guardrails"].items():
                for arm, row in arms.items():
                    said = (
                        "harm is shown!"
                        if row["harm_shown"]
                        else row.get("waiting", "no harm shown")
                    )
                    ui.label(f"Guardrail {name}, {arm}: {said}").classes("sh-muted")
            for arm, levels in health["service"].items():
                if levels["requests"]:
                    ui.label(
                        f"{arm}: {levels['requests']:,.0f} requests, errors {100 * (levels['error_rate'] or 0):.2f} %, p95 {levels['latency_p95'] or 0:.1f} ms"
                    ).classes("sh-muted")
        if not report["metrics"]:
            return
        relative = document["design"]["effect"] == "relative"
        with ui.element("div").classes("sh-card w-full").mark("results"):
            ui.label(f"Effects, {'relative to the control' if relative else 'absolute'}").classes(
                "sh-h2"
            )
            ui.html(
                charts.intervals(charts.bars_of(report["metrics"]), relative=relative),
                sanitize=False,
            )
            for metric in report["metrics"]:
                self._metric(metric, relative)
        treatments = [
            v["name"]
            for v in document["design"]["variants"]
            if v["name"] != document["design"]["control"]
        ]
        pictures = [
            (arm, charts.growth(report["timeline"] or [], arm, relative=relative))
            for arm in treatments
        ]
        if any(picture for _, picture in pictures):
            with ui.element("div").classes("sh-card w-full").mark("growth"):
                ui.label("As it accumulated").classes("sh-h2")
                for arm, picture in pictures:
                    ui.label(arm).classes("sh-muted")
                    ui.html(picture, sanitize=False)

    def _metric(self, metric: dict[str, Any], relative: bool) -> None:
        def text(value: float | None, percent: bool = False) -> str:
            return "–" if value is None else f"{100 * value:.2f} %" if percent else f"{value:.4g}"

        ui.label(f"{metric['metric']} ({metric['role']})").classes("sh-h3")
        rows = []
        for arm, values in metric["arms"].items():
            c = metric["comparisons"].get(arm, {})
            ends = c.get("interval")
            belief = (metric["beliefs"] or {}).get(arm, {})
            rows.append(
                {
                    "arm": arm,
                    "n": f"{values['n']:,}",
                    "value": text(values["value"], metric["kind"] in ("proportion", "retention")),
                    "effect": text(c.get("effect", c.get("harm")), relative),
                    "interval": f"{text(ends[0], relative)} to {text(ends[1], relative)}"
                    if ends
                    else "–",
                    "p": text(c.get("p_value_adjusted", c.get("p_value"))),
                    "result": c.get("undefined")
                    or (
                        "kept"
                        if c.get("kept")
                        else "not kept"
                        if "kept" in c
                        else "significant"
                        if c.get("significant")
                        else "–"
                        if not c
                        else "not significant"
                    ),
                    "best": text(belief.get("best"), True),
                }
            )
        names = {
            "arm": "Arm",
            "n": "Units",
            "value": "Value",
            "effect": "Harm" if metric["role"] == "guardrail" else "Effect",
            "interval": "Interval",
            "p": "p",
            "result": "Result",
            "best": "Chance to be best",
        }
        ui.table(
            rows=rows,
            columns=[
                {"name": k, "label": v, "field": k, "align": "left"} for k, v in names.items()
            ],
        ).classes("w-full").props("flat dense")

    # The form

    async def form(self) -> None:
        known = await self._try(self._page.client.platform.list_capabilities())
        models = {
            c["name"]: c["parameters"]
            for c in (known or {"capabilities": []})["capabilities"]
            if c.get("parameters")
        }
        with self._clear():
            _Form(self, self._page, models)

    async def save(self, id: str, design: dict[str, Any]) -> None:
        if await self._try(self._api.draft(id=id, body=design)) is not None:
            await self.show(id)


class _Form:
    """A draft's fields, and below them what sample they need, as one types."""

    def __init__(self, pages: _Pages, page: PageContext, models: dict[str, Any]) -> None:
        self._pages, self._page, self._models = pages, page, models
        with ui.row().classes("w-full items-center"):
            ui.button("All experiments", icon="arrow_back", on_click=pages.list).props("flat dense")
            ui.label("New experiment").classes("sh-h2")
        with ui.element("div").classes("sh-card w-full flex flex-col"):
            with ui.row().classes("w-full"):
                self.id = self._text("Id", "ranking-weights")
                self.capability = (
                    ui.select(
                        [PRODUCT, *models], value=PRODUCT, label="Capability", on_change=self._hint
                    )
                    .props("outlined dense")
                    .classes("w-56")
                )
                self.unit = (
                    ui.select(["user", "tenant", "session"], value="user", label="Unit")
                    .props("outlined dense")
                    .classes("w-36")
                )
            self.hypothesis = self._text("Hypothesis", "").classes("w-full")
            self.hint = ui.label().classes("sh-muted break-all")
            ui.label("Variants; the first is the control").classes("sh-h3")
            self.variants = (
                ui.textarea(value="control 50\ntreatment 50", on_change=self.estimate)
                .props(
                    'outlined autogrow aria-label="Variants" hint="One a line: name, percent, and parameters as JSON"'
                )
                .classes("w-full sh-mono")
            )
        with ui.element("div").classes("sh-card w-full flex flex-col"):
            with ui.row().classes("w-full"):
                self.metric = self._text("Primary metric", "bought")
                self.kind = (
                    ui.select(
                        ["proportion", "mean"],
                        value="proportion",
                        label="Kind",
                        on_change=self.estimate,
                    )
                    .props("outlined dense")
                    .classes("w-36")
                )
                self.event = self._text("Event type", "experiment.outcome")
                self.better = (
                    ui.select(["increase", "decrease"], value="increase", label="Better")
                    .props("outlined dense")
                    .classes("w-36")
                )
            with ui.row().classes("w-full"):
                self.baseline = self._number("Baseline", 0.1)
                self.effect = self._number("Smallest effect worth finding", 0.02)
                self.variance = self._number("Variance (means)", None)
                self.alpha = self._number("Alpha", 0.05)
                self.power = self._number("Power", 0.8)
                self.per_day = self._number("Units a day", None)
            with ui.row().classes("w-full"):
                self.analysis = (
                    ui.select(
                        {
                            "fixed": "Fixed horizon",
                            "group_sequential": "Group-sequential",
                            "always_valid": "Always valid",
                        },
                        value="fixed",
                        label="Analysis",
                        on_change=self.estimate,
                    )
                    .props("outlined dense")
                    .classes("w-48")
                )
                self.duration = self._number("Days (computed when empty)", None)
            self.guardrails = (
                ui.textarea(on_change=self.estimate)
                .props(
                    'outlined autogrow aria-label="Guardrails" hint="One a line: metric, percent of harm that is excluded, more|less (which is better)"'
                )
                .classes("w-full sh-mono")
            )
        self.needed = ui.label().classes("sh-card w-full").mark("needed")
        ui.button("Save the draft", on_click=self.save).props("unelevated").mark("save")
        ui.timer(0.1, self.estimate, once=True)

    def _text(self, label: str, value: str) -> ui.input:
        return ui.input(label, value=value).props("outlined dense").classes("w-56")

    def _number(self, label: str, value: float | None) -> ui.number:
        return (
            ui.number(label, value=value, on_change=self.estimate)
            .props("outlined dense debounce=200")
            .classes("w-40")
        )

    def _hint(self) -> None:
        model = self._models.get(self.capability.value)
        fields = (model or {}).get("properties", {})
        self.hint.set_text(
            "Parameters: " + ", ".join(f"{n} ({_bounds(s)})" for n, s in fields.items())
            if fields
            else ""
        )

    def estimate(self) -> None:
        """The sample as it would be registered."""
        try:
            arms = [{"name": v["name"], "allocation": v["allocation"]} for v in self._variants()]
            numbers = {
                "baseline": self.baseline,
                "minimum_effect": self.effect,
                "alpha": self.alpha,
                "power": self.power,
                "variance": self.variance,
            }
            given = {
                name: field.value for name, field in numbers.items() if field.value is not None
            }
            if missing := [
                name
                for name in ("baseline", "minimum_effect", "alpha", "power")
                if name not in given
            ]:
                raise ValueError(f"fill in {', '.join(missing).replace('_', ' ')}")
            design = Design.model_validate(
                {
                    "hypothesis": "?",
                    "variants": arms,
                    "primary": {"name": "?", "kind": self.kind.value},
                    "analysis": self.analysis.value,
                    **given,
                }
            )
            per_arm = design.sample_size()
            if per_arm is None:
                raise ValueError("a mean needs the variance between units")
            said = f"{per_arm:,} units per arm, {math.ceil(per_arm / min(design.shares().values())):,} in all."
            if len({*design.shares().values()}) > 1:
                said = said.replace("per arm", "in the smallest arm")
            if self.per_day.value and (days := design.weeks(per_arm, self.per_day.value)):
                said += f" At {self.per_day.value:,.0f} units a day: {days:g} days."
            self.needed.set_text(said)
        except ValidationError as error:
            self.needed.set_text(
                "No sample size yet: "
                + "; ".join(e["msg"].removeprefix("Value error, ") for e in error.errors())
            )
        except ValueError as error:
            self.needed.set_text(f"No sample size yet: {error}")

    def _variants(self) -> list[dict[str, Any]]:
        arms = []
        for line in (self.variants.value or "").splitlines():
            if line.strip():
                name, _, rest = line.strip().partition(" ")
                percent, _, parameters = rest.strip().partition(" ")
                try:
                    arms.append(
                        {
                            "name": name,
                            "allocation": float(percent.rstrip("%")),
                            "parameters": json.loads(parameters) if parameters.strip() else {},
                        }
                    )
                except ValueError:
                    raise ValueError(
                        f"cannot read the variant {line.strip()!r}: a name, a percentage, and parameters as JSON"
                    ) from None
        return arms

    def _guardrails(self) -> list[dict[str, Any]]:
        found = []
        for line in (self.guardrails.value or "").splitlines():
            words = line.split()
            if not words:
                continue
            try:
                better = {"more": "increase", "less": "decrease"}[
                    words[2] if len(words) > 2 else "more"
                ]
                found.append(
                    {
                        "name": words[0],
                        "margin": float(words[1].rstrip("%")) / 100,
                        "better": better,
                    }
                )
            except (IndexError, KeyError, ValueError):
                raise ValueError(
                    f"cannot read the guardrail {line.strip()!r}: a metric, a percentage, and more or less"
                ) from None
        return found

    async def save(self) -> None:
        try:
            design: dict[str, Any] = {
                "hypothesis": self.hypothesis.value,
                "unit": self.unit.value,
                "variants": self._variants(),
                "guardrails": self._guardrails(),
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
        except ValueError as error:
            ui.notify(str(error), type="negative")
            return
        optional = {
            "baseline": self.baseline,
            "variance": self.variance,
            "units_per_day": self.per_day,
            "duration_days": self.duration,
        }
        design |= {name: field.value for name, field in optional.items() if field.value is not None}
        await self._pages.save(self.id.value or "", design)


def _bounds(schema: dict[str, Any]) -> str:
    low, high = (
        schema.get("minimum", schema.get("exclusiveMinimum")),
        schema.get("maximum", schema.get("exclusiveMaximum")),
    )
    kind = schema.get("type", "any")
    if schema.get("enum"):
        return " or ".join(map(str, schema["enum"]))
    return (
        kind
        if low is None and high is None
        else f"{'' if low is None else f'{low:g}'}..{'' if high is None else f'{high:g}'}"
    )


def _pill(text: str, state: str) -> None:
    ui.html(
        f'<span class="sh-pill {"sh-" + state if state else ""}">{escape(text)}</span>',
        sanitize=False,
    )


def _progress(text: str, share: float) -> None:
    ui.label(text).classes("sh-muted")
    ui.linear_progress(min(1.0, share), show_value=False, size="6px").props("rounded")
