"""The pytest plugin for authors, on the example plugin, and the conformance suite on
every capability of ours.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from shoal import Capability, Invalid, NotFound
from shoal.testing import CapabilityApp
from shoal.testing.conformance import Conformance

sys.path.insert(0, str(Path(__file__).parents[2] / "greeting_plugin"))
import shoal_greeting

GREETING: Capability = shoal_greeting.shoal_capabilities()[0]


@pytest.fixture(scope="module")
def app(shoal_app: Callable[..., CapabilityApp]) -> CapabilityApp:
    return shoal_app(capabilities=[GREETING], settings={"greeting": {"greeting": "Ahoy"}})


def test_it_answers_behind_the_router_with_its_settings(app: CapabilityApp) -> None:
    assert app.client("acme").greeting.greet(name="Ana")["text"] == "Ahoy Ana"


def test_a_batched_backend_gets_a_list(app: CapabilityApp) -> None:
    app.client("acme").platform.put_parameters(capability="greeting", body={"warmth": 1.0})
    deadline = time.monotonic() + 60
    while (text := app.client("acme").greeting.greet()["text"]) != "AHOY YOU":  # replicas follow
        assert time.monotonic() < deadline, text


def test_a_backends_error_reaches_the_client(app: CapabilityApp) -> None:
    with pytest.raises(Invalid):
        app.client("acme").greeting.refusal()


def test_its_stream_and_job_can_be_run(app: CapabilityApp) -> None:
    app.stream(
        "greeting.memory",
        [{"id": "1", "type": "greeting.said"}, {"id": "1", "type": "greeting.said"}],
    )
    assert app.client("acme").greeting.seen() == {"ids": ["1"]}
    with pytest.raises(ValueError, match="always fails"):
        app.job("greeting.fail")


def test_tenants_are_isolated(app: CapabilityApp) -> None:
    app.client("acme").greeting.put_note(id="1", text="ours")
    with pytest.raises(NotFound):
        app.client("globex").greeting.get_note(id="1")


def test_it_calls_another_capability(app: CapabilityApp) -> None:
    assert app.client("acme").greeting.neighbours()["capabilities"] == ["platform", "greeting"]


class TestGreeting(Conformance):
    capability = "greeting"

    @pytest.fixture(scope="class")
    @classmethod
    def app(cls, shoal_app: Callable[..., CapabilityApp]) -> CapabilityApp:
        return shoal_app(capabilities=[GREETING])


class TestPlatform(Conformance):
    capability = "platform"

    @pytest.fixture(scope="class")
    @classmethod
    def app(cls, shoal_app: Callable[..., CapabilityApp]) -> CapabilityApp:
        return shoal_app(capabilities=[GREETING])
