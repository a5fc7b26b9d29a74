from collections.abc import Callable

import pytest

from shoal.testing import CapabilityApp
from shoal.testing.conformance import Conformance


@pytest.fixture(scope="module")
def app(shoal_app: Callable[..., CapabilityApp]) -> CapabilityApp:
    return shoal_app("greeting")


def test_it_greets(app: CapabilityApp) -> None:
    assert app.client("acme").greeting.greet(name="Ana")["text"] == "Hello Ana."


def test_it_knows_whom_its_tenant_has_met(app: CapabilityApp) -> None:
    met = {"id": "1", "type": "person.met", "data": {"name": "Bo"}}
    assert app.stream("greeting.names", [met, met]) == []
    assert app.client("acme").greeting.greet(name="Bo")["has_met"] is True
    assert app.client("globex").greeting.greet(name="Bo")["has_met"] is False


def test_an_event_without_a_name_is_rejected(app: CapabilityApp) -> None:
    rejected = app.stream("greeting.names", [{"id": "2", "type": "person.met"}])
    assert [r.reason for r in rejected] == ["data.name: must be text"]


def test_the_job_counts_the_names(app: CapabilityApp) -> None:
    app.stream(
        "greeting.names", [{"id": "3", "type": "person.met", "data": {"name": "Cy"}}], "initech"
    )
    assert app.job("greeting.count", "initech")[0] == {"initech": 1}


class TestConformance(Conformance):
    capability = "greeting"
