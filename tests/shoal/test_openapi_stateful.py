"""Sequences of requests, each from an earlier response, against the documents."""

import itertools
import os
from collections.abc import Callable
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, seed, settings
from schemathesis import Case
from schemathesis.checks import CheckFunction
from schemathesis.generation.stateful.state_machine import normalize_name
from schemathesis.specs.openapi.checks import (
    negative_data_rejection,
    positive_data_acceptance,
    use_after_free,
)

from shoal.router.request_shape import JSON
from shoal_features.registry import Registry
from shoal_features.views import Feature, View

from .test_openapi import CAPABILITIES, JUDGED_BY_ROW, NOT_HTTP

SEQUENCES = int(os.environ.get("SHOAL_CONTRACT_SEQUENCES", "0"))
"""Runs of two sequences for each capability: none in `make test`, as eight take more
than a minute; `make test-contract` sets it.
"""
STEPS = 8
"""Requests of a sequence, at most."""
NOT_CALLED = {"delete_key", "delete_tenant"}
"""Operations that may remove the test's own credential."""
CANCELLED = {"get_plan", "get_run"}
"""What they read is still there after a DELETE, which cancels it."""
TENANTS = itertools.count()


DESIGN = {
    "hypothesis": "Green is seen sooner.",
    "variants": [{"name": "blue", "allocation": 50}, {"name": "green", "allocation": 50}],
    "primary": {"name": "bought"},
    "baseline": 0.12,
    "minimum_effect": 0.02,
    "duration_days": 14,
}
PROFILE = View("profile", "user", "user", "plain", (Feature("n", "int64"),))
ROW = {"user": "1", "event_timestamp": "2026-01-01T00:00:00Z", "n": 1}
NIGHT = {"from": "2030-01-01T00:00:00Z", "to": "2030-01-02T00:00:00Z"}
STARTS: dict[str, list[tuple[str, dict[str, str], Any]]] = {
    "platform": [
        ("put_role", {"name": "night-shift"}, {"rights": ["read:own"]}),
        ("put_experiment", {"id": "button"}, {"variants": DESIGN["variants"]}),
    ],
    "search": [("add_items", {}, [{"id": "1", "text": "a red bicycle"}])],
    "features": [
        ("apply", {}, Registry((PROFILE,)).to_dict()),
        (
            "push",
            {"view": "profile"},
            {"rows": [ROW]},
        ),
    ],
    "anomalies": [
        ("put_rule", {"id": "high"}, {"priority": "P3", "condition": "above", "limit": 1}),
        (
            "put_maintenance",
            {"id": "night"},
            {"from": "2030-01-01T00:00:00Z", "to": "2030-01-02T00:00:00Z"},
        ),
        ("put_channel", {"id": "page"}, {"type": "webhook", "url": "https://hooks.example/1"}),
    ],
    "experiments": [("draft", {"id": "button"}, DESIGN)],
    "optimizer": [
        ("put_person", {"id": "ana"}, {"name": "Ana"}),
        ("put_task", {"id": "report"}, {"name": "Report"}),
    ],
}
"""Requests that succeed, which generated ones seldom do: operation, path, body."""


# Operations that always succeed, so that each start has something to follow.
LISTINGS = {
    "platform": "list_roles",
    "search": "search",
    "features": "views",
    "anomalies": "list_rules",
    "experiments": "list_experiments",
    "optimizer": "list_people",
}


NOT_STABLE = {"experiments"}
"""Hypothesis reports FlakyStrategyDefinition there, for a reason not yet found."""


def add_starts(document: dict[str, Any], capability: str) -> None:
    """Let each of these requests follow a listing, and each other, by links."""
    paths = document["paths"]
    operations = {o["operationId"]: o for methods in paths.values() for o in methods.values()}
    links = {
        f"start {id}": {
            "operationId": id,
            "parameters": {f"path.{name}": value for name, value in path.items()},
            "requestBody": body,
            "x-schemathesis": {"merge_body": False},
        }
        for id, path, body in STARTS[capability]
    }
    for id in (LISTINGS[capability], *(id for id, _, _ in STARTS[capability])):
        operations[id]["responses"]["200"].setdefault("links", {}).update(links)
    for id, _, _ in STARTS[capability]:
        content = operations[id]["requestBody"]["content"]
        operations[id]["requestBody"]["content"] = {JSON: content[JSON]}


def called(operation: dict[str, Any]) -> bool:
    """Whether sequences have it; the operator's acts on what outlives their tenant."""
    return (
        operation["operationId"] not in NOT_CALLED
        and operation["x-shoal-right"] != "admin:platform"
    )


def machine_of(app: Any, capability: str, succeeded: set[str]) -> Any:
    document = httpx.get(f"{app.address}/{capability}/openapi.json", timeout=60).json()
    add_starts(document, capability)
    schema = schemathesis.openapi.from_dict(document).include(
        lambda context: called(context.operation.definition.raw)
    )
    schema.config.update(base_url=app.address)

    class Sequence(schema.as_state_machine()):  # type: ignore[misc]
        def setup(self) -> None:
            key = app.key(f"sequence-{next(TENANTS)}", "admin")
            self.headers = {"Authorization": f"Bearer {key}"}

        def before_call(self, case: Case) -> None:
            for name in ("Shoal-User", "Shoal-Session"):  # others see less, and find less
                case.headers.pop(name, None)

        def get_call_kwargs(self, case: Case) -> dict[str, Any]:
            return {"headers": self.headers}

        def validate_response(self, response: Any, case: Case, **options: Any) -> None:
            id = case.operation.definition.raw["operationId"]
            if response.status_code < 300:
                succeeded.add(id)
            if response.content == NOT_HTTP.encode():  # an address that no request line can have
                return
            excluded: list[CheckFunction] = [
                positive_data_acceptance
            ]  # a schema cannot say everything
            if id in CANCELLED:
                excluded.append(use_after_free)
            if id in JUDGED_BY_ROW or response.status_code in (413, 414):
                excluded.append(negative_data_rejection)
            case.validate_response(
                response, excluded_checks=excluded, transport_kwargs=options, recorder=self.recorder
            )

    for found in schema.get_all_operations():  # an id at random finds nothing
        label = found.ok().label
        if "{" in label and (name := normalize_name(f"RANDOM -> {label}")) in Sequence.root_rules:
            setattr(Sequence, name, None)
    return Sequence


@pytest.mark.skipif(SEQUENCES == 0, reason="run by make test-contract")
@pytest.mark.parametrize("capability", [c for c in CAPABILITIES if c not in NOT_STABLE])
def test_sequences_of_requests_keep_to_the_document(
    shoal_app: Callable[..., Any], capability: str
) -> None:
    succeeded: set[str] = set()
    machine = machine_of(shoal_app(*CAPABILITIES[1:]), capability, succeeded)
    for number in range(SEQUENCES):
        seed(number)(machine).run(
            settings=settings(
                max_examples=2,  # the first is Hypothesis's smallest
                stateful_step_count=STEPS,
                deadline=None,
                database=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
        )
    assert {id for id, _, _ in STARTS[capability]} & succeeded
