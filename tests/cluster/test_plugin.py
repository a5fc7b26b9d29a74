"""The example plugin, end to end."""

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import httpx
import pytest

from shoal import Client, Invalid, NotFound, Unauthenticated
from shoal.testing import wait_until

pytestmark = pytest.mark.cluster


def test_it_answers_over_http(platform: Any, acme: str) -> None:
    with platform.client(acme) as client:
        answer = client.greeting.greet(name="Ana")
    assert answer == {
        "text": "Hello Ana",
        "tenant": "acme",
        "user": None,
        "warmth": 0.5,
        "variants": {},
    }


def test_it_answers_through_the_ray_client_with_the_same_result(platform: Any, acme: str) -> None:
    with platform.client(acme) as http, Client(platform.ray, platform.key(acme)) as ray:
        assert ray.greeting.greet(name="Ana") == http.greeting.greet(name="Ana")
        ray.greeting.put_note(id="through-ray", text="hi")
        assert http.greeting.get_note(id="through-ray") == ray.greeting.get_note(id="through-ray")


def test_the_ray_client_gets_the_same_refusals(platform: Any, acme: str) -> None:
    for address in (platform.address, platform.ray):
        with Client(address) as client, pytest.raises(Unauthenticated):
            client.greeting.greet()
        with Client(address, platform.key(acme)) as client, pytest.raises(NotFound):
            client.greeting.get_note(id="nobody wrote this")


def test_its_root_answers_with_and_without_a_slash(platform: Any, acme: str) -> None:
    headers = {"Authorization": f"Bearer {platform.key(acme)}"}
    for path in ("/greeting", "/greeting/"):
        assert httpx.get(platform.address + path, headers=headers).status_code == 200


def test_tenants_do_not_see_each_others_notes(platform: Any, acme: str, globex: str) -> None:
    with platform.client(acme) as ours, platform.client(globex) as theirs:
        ours.greeting.put_note(id="secret", text="of acme")
        with pytest.raises(NotFound):
            theirs.greeting.get_note(id="secret")
        assert ours.greeting.get_note(id="secret")["text"] == "of acme"


def test_a_backends_error_reaches_the_client(platform: Any, acme: str) -> None:
    with platform.client(acme) as client, pytest.raises(Invalid) as caught:
        client.greeting.refusal()
    assert caught.value.errors == [{"location": "shouter", "message": "no"}]


def test_a_backend_exceeds_grpcs_default_message_size(platform: Any, acme: str) -> None:
    with platform.client(acme) as client:
        assert client.greeting.echo(size=6_000_000)["size"] == 12_000_000


def test_a_plugins_bug_is_a_500_without_details(platform: Any, acme: str) -> None:
    answer = httpx.get(
        f"{platform.address}/greeting/fault",
        headers={"Authorization": f"Bearer {platform.key(acme)}"},
    )
    assert answer.status_code == 500 and "secret" not in answer.text
    assert answer.json()["request_id"] == answer.headers["x-request-id"]


def test_an_experiment_varies_its_parameter_and_logs_one_exposure(
    platform: Any, tenants: Callable[[], str]
) -> None:
    tenant = tenants()
    with platform.client(tenant) as service:
        service.platform.put_experiment(
            id="warm",
            body={
                "capability": "greeting",
                "status": "running",
                "variants": [
                    {"name": "cool", "allocation": 50, "parameters": {}},
                    {"name": "hot", "allocation": 50, "parameters": {"warmth": 1.0}},
                ],
            },
        )
        seen: dict[str, str] = {}

        def varied() -> bool:
            answers = [
                Client(platform.address, platform.key(tenant), user=f"u{i}").greeting.greet()
                for i in range(20)
            ]
            for i, answer in enumerate(answers):
                if answer["variants"]:
                    seen[f"u{i}"] = answer["variants"]["warm"]
                    assert answer["warmth"] == (1.0 if seen[f"u{i}"] == "hot" else 0.5)
                    assert answer["text"] == (
                        "HELLO YOU" if seen[f"u{i}"] == "hot" else "Hello you"
                    )
            return len(seen) == 20

        wait_until(varied)
        assert set(seen.values()) == {"cool", "hot"}
        assert varied(), "assignment is sticky"
        with pytest.raises(Invalid) as caught:
            service.platform.put_experiment(
                id="too-hot",
                body={
                    "capability": "greeting",
                    "variants": [
                        {"name": "a", "allocation": 50},
                        {"name": "b", "allocation": 50, "parameters": {"warmth": 7}},
                    ],
                },
            )
        assert caught.value.errors[0]["location"] == "variants.b.parameters.warmth"


def test_a_tenants_own_value_affects_no_other_tenant(
    platform: Any, tenants: Callable[[], str]
) -> None:
    one, other = tenants(), tenants()
    with platform.client(one) as client, platform.client(other) as theirs:
        client.platform.put_parameters(capability="greeting", body={"warmth": 0.9})
        wait_until(lambda: client.greeting.greet()["warmth"] == 0.9)
        assert theirs.greeting.greet()["warmth"] == 0.5
        with pytest.raises(Invalid):
            client.platform.put_parameters(capability="greeting", body={"warmth": 2})


def test_its_stream_handles_events_once_despite_poison(
    platform: Any, tenants: Callable[[], str]
) -> None:
    with platform.client(tenants()) as client:
        ids = [f"{uuid4().hex}" for _ in range(50)]
        events = [{"id": i, "source": "test", "type": "greeting.said", "data": {}} for i in ids]
        events.insert(
            25, {"id": "bad", "source": "test", "type": "greeting.said", "data": {"poison": True}}
        )
        assert client.platform.append_events(body=events) == {"accepted": 51, "rejected": []}
        client.platform.append_events(body=events[:10])  # the same again
        wait_until(lambda: len(client.greeting.seen()["ids"]) == 50, 60)
        assert client.greeting.seen()["ids"] == ids
        dead = wait_until(lambda: client.platform.dead_letters()["events"])
        assert dead[0]["event"]["id"] == "bad" and "poison" in dead[0]["error"]


def test_it_calls_another_capability_as_the_same_caller(platform: Any, acme: str) -> None:
    with platform.client(acme) as client:
        answer = client.greeting.neighbours()
    assert "greeting" in answer["capabilities"] and answer["nowhere"] is True


def test_its_job_reports_progress_and_a_result(platform: Any, acme: str) -> None:
    run = platform.shoal("jobs", "run", "greeting.count", "--tenant", acme, "-a", "total=100")
    assert run["state"] == "succeeded"
    assert run["result"] == {"sum": sum(i * i for i in range(100)), "tenants": [acme]}
    assert run["progress"]["done"] == 100


def test_a_failed_job_has_its_cause_and_exit_status_1(platform: Any, acme: str) -> None:
    status, run = platform.shoal("jobs", "run", "greeting.fail", "--tenant", acme, check=False)
    assert status == 1 and run["state"] == "failed" and "this job always fails" in run["error"]


def test_a_job_can_be_cancelled(platform: Any, acme: str) -> None:
    run = platform.shoal("jobs", "run", "greeting.sleep", "--tenant", acme, "--no-wait")
    with platform.client(acme) as client:
        wait_until(lambda: client.platform.get_run(id=run["id"])["progress"]["done"] > 0)
        client.platform.cancel_run(id=run["id"])
        wait_until(lambda: client.platform.get_run(id=run["id"])["state"] == "cancelled")


def test_a_tenants_runs_are_hidden_from_others(platform: Any, acme: str, globex: str) -> None:
    run = platform.shoal("jobs", "run", "greeting.count", "--tenant", acme)
    with platform.client(globex) as theirs, pytest.raises(NotFound):
        theirs.platform.get_run(id=run["id"])


def test_broken_plugins_are_reported_and_the_others_run(platform: Any, acme: str) -> None:
    with platform.client(acme) as client:
        answer = client.platform.list_capabilities()
    problems = {p["plugin"]: p["cause"] for p in answer["problems"]}
    states = {c["name"]: c for c in answer["capabilities"]}
    assert "a_package_that_nobody_has" in problems["broken_dependency"]
    assert "already greeting's" in problems["zz_broken_name"]
    assert (
        states["failing"]["status"] == "DEPLOY_FAILED"
        and "the model file is not there" in states["failing"]["message"]
    )
    assert states["greeting"]["status"] == "RUNNING" and states["greeting"]["version"] == "1.2.0"
    assert states["greeting"]["parameters"]["properties"]["warmth"]["maximum"] == 1


def test_the_plugins_hooks_are_called_for_a_tenant(platform: Any) -> None:
    name = f"t-{uuid4().hex[:8]}"
    key = platform.shoal("tenants", "create", name)["key"]
    with Client(platform.address, key) as client:
        assert client.greeting.get_note(id="welcome")["text"] == f"welcome, {name}"
        client.platform.append_events(
            body={"id": "1", "source": "t", "type": "greeting.said", "data": {}}
        )
        answer = platform.shoal("tenants", "delete", name, "--yes")
        assert (
            answer["erased"]["greeting.farewells"] == 1 and answer["erased"]["directory.keys"] == 1
        )
        with pytest.raises(Unauthenticated):
            client.greeting.greet()
