"""A caller's parameters, and the log of who used a varied one."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import model_validator

from shoal import Parameters
from shoal.contract.experiments import ExperimentRecord, Variant
from shoal.router.assignment import Assignment, assignment_bucket
from shoal.router.exposures import resolve, varied_by

from ..conftest import GreetingParameters, Log, World

TREATED, CONTROLLED = (
    next(f"u{i}" for i in range(100) if (assignment_bucket("warm", f"u{i}") >= 5000) is treated)
    for treated in (True, False)
)


def experiment(id: str = "warm", values: Any = None, **fields: Any) -> ExperimentRecord:
    arms = (
        Variant(name="control", allocation=50),
        Variant(
            name="treatment",
            allocation=50,
            parameters={"warmth": 0.9} if values is None else values,
        ),
    )
    return ExperimentRecord(
        **{
            "id": id,
            "tenant": "acme",
            "capability": "greeting",
            "status": "running",
            "variants": arms,
            **fields,
        }
    )


async def run(world: World, *records: ExperimentRecord) -> None:
    for record in records:
        await world.directory.put_experiment(record)
    await world.router.snapshot.catch_up()


async def warmth(
    world: World, user: str | None = TREATED, key: str = "acme-editor", **headers: str
) -> float:
    headers = {f"shoal-{name}": value for name, value in headers.items()}
    response = await world.get(
        "/warmth", key, headers={**headers, **({"shoal-user": user} if user else {})}
    )
    assert response.status_code == 200, response.text
    return float(response.json()["warmth"])


def exposures(world: World, tenant: str = "acme") -> list[Any]:
    return (
        [event for event in world.logs[tenant].events if event.type == "experiment.exposure"]
        if tenant in world.logs
        else []
    )


@pytest.mark.anyio
async def test_variants_override_the_tenants_values_which_override_defaults(world: World) -> None:
    assert await warmth(world) == 0.5
    await world.directory.put_parameters("acme", "greeting", {"warmth": 0.7})
    await run(world)
    assert await warmth(world) == 0.7
    await run(world, experiment())
    assert (await warmth(world), await warmth(world, CONTROLLED), await warmth(world, None)) == (
        0.9,
        0.7,
        0.7,
    )
    assert await warmth(world, key="globex-editor") == 0.5


@pytest.mark.anyio
async def test_the_context_lists_the_variants(world: World) -> None:
    await run(
        world,
        experiment(),
        experiment("elsewhere", capability="search"),
        experiment("anywhere", capability=None),
        experiment("draft", status="draft"),
    )
    answer = (await world.get("/who", headers={"shoal-user": TREATED})).json()
    assert answer["variants"]["warm"] == "treatment"
    assert set(answer["variants"]) == {"warm", "anywhere"}


@pytest.mark.anyio
async def test_a_platform_experiment_includes_every_tenant_until_it_stops(world: World) -> None:
    await run(world, experiment(tenant=None))
    assert [await warmth(world, key=f"{t}-editor") for t in ("acme", "globex")] == [0.9, 0.9]
    await run(world, experiment(tenant=None, status="stopped"))
    assert [await warmth(world, key=f"{t}-editor") for t in ("acme", "globex")] == [0.5, 0.5]


@pytest.mark.anyio
async def test_units_may_be_tenants_and_sessions(world: World) -> None:
    all_treated = (
        Variant(name="a", allocation=0),
        Variant(name="b", allocation=100, parameters={"warmth": 1.0}),
    )
    await run(world, experiment(unit="session", variants=all_treated))
    assert (await warmth(world, None), await warmth(world, None, session="s1")) == (0.5, 1.0)
    await run(world, experiment(unit="tenant", variants=all_treated))
    assert await warmth(world, None) == 1.0


@pytest.mark.anyio
async def test_targeting_may_use_the_role(world: World) -> None:
    await run(world, experiment(targeting=[{"attribute": "role", "values": ["reader"]}]))
    assert (await warmth(world), await warmth(world, key="acme-reader")) == (0.5, 0.9)


@pytest.mark.anyio
async def test_a_units_first_use_logs_one_exposure(world: World) -> None:
    await run(world, experiment())
    for _ in range(3):
        await warmth(world)
        await warmth(world, CONTROLLED)
    await world.get("/who", headers={"shoal-user": "never-used-a-parameter"})
    await world.router.stop()
    found = exposures(world)
    assert sorted(event.data["variant"] for event in found) == ["control", "treatment"]
    treated = next(event for event in found if event.data["variant"] == "treatment")
    assert treated.data == {
        "experiment": "warm",
        "variant": "treatment",
        "unit": TREATED,
        "unit_type": "user",
        "capability": "greeting",
    }
    assert (treated.subject, treated.source) == (TREATED, "shoal/router")


@pytest.mark.anyio
async def test_replicas_and_restarts_log_an_exposure_once(world: World) -> None:
    await run(world, experiment())
    for _ in range(2):
        router = world.new_router()
        world.client = World.connect(router)
        await warmth(world)
        await router.stop()
    assert len(exposures(world)) == 1


@pytest.mark.anyio
async def test_concurrent_replicas_log_an_exposure_with_one_id(world: World) -> None:
    await run(world, experiment())
    routers = [world.new_router() for _ in range(3)]
    for router in routers:
        world.client = World.connect(router)
        await warmth(world)
    await asyncio.gather(*(router.stop() for router in routers))
    assert len({(event.source, event.id) for event in exposures(world)}) == 1


@pytest.mark.anyio
async def test_exposures_wait_while_the_log_is_unavailable(world: World) -> None:
    await run(world, experiment())
    await warmth(world)  # opens the log
    log = world.logs["acme"]
    log.fault = ConnectionError("away")
    await asyncio.sleep(0.3)
    assert exposures(world) == []
    log.fault = None
    await world.router.stop()
    assert len(exposures(world)) == 1


@pytest.mark.anyio
async def test_no_exposure_is_logged_for_an_erased_tenant(world: World) -> None:
    log = world.logs["acme"] = Log()
    log.fault = ConnectionError("away")
    await run(world, experiment())
    await warmth(world)
    await world.directory.begin_removal("acme", notice=0)
    await world.router.snapshot.catch_up()
    log.fault = None
    await world.router.stop()
    assert exposures(world) == []


@pytest.mark.anyio
async def test_an_outdated_override_is_ignored_with_a_warning(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    await world.directory.put_parameters(
        "acme", "greeting", {"warmth": 7, "tone": "dry", "gone": 1}
    )
    await run(world, experiment(values={"warmth": "hot"}))
    response = await world.get("/warmth", headers={"shoal-user": TREATED})
    assert response.json() == {"warmth": 0.5, "tone": "dry"}
    assert "warmth" in caplog.text and "gone" in caplog.text
    await world.router.stop()
    assert exposures(world) == []


class Window(Parameters):
    low: int = 1
    high: int = 10

    @model_validator(mode="after")
    def _ordered(self) -> "Window":
        if self.low >= self.high:
            raise ValueError("low must be below high")
        return self


def assignment(experiment: str, **values: Any) -> Assignment:
    return Assignment(experiment, "b", "user", values)


def test_values_that_are_invalid_together_are_ignored_together() -> None:
    varied = {"e": frozenset({"low"}), "f": frozenset({"high"})}
    resolved = resolve(
        Window, {"low": 5}, [assignment("e", low=20), assignment("f", high=30)], varied, "test"
    )
    assert resolved.parameters == Window(low=5, high=30)
    assert [a.experiment for a in resolved.exposing] == ["f"]


def test_experiments_on_other_parameters_are_not_exposed() -> None:
    records = [
        experiment("other", values={"speed": 1}),
        experiment("aa", values={}),
        experiment("mine"),
    ]
    varied = varied_by(records)
    resolved = resolve(
        GreetingParameters,
        {},
        [assignment("other"), assignment("aa"), assignment("mine")],
        varied,
        "test",
    )
    assert [a.experiment for a in resolved.exposing] == ["aa", "mine"]


@pytest.mark.anyio
async def test_the_service_context_has_the_tenants_values(
    world: World, new_world: Callable[..., Any]
) -> None:
    from shoal.contract.usage import UNCOUNTED
    from shoal.router.service_context import service_context

    await world.directory.put_parameters("acme", "greeting", {"warmth": 0.7})
    await run(world, experiment(unit="tenant"))
    ctx = await service_context(
        "acme",
        directory=world.directory,
        stores=world.open_stores("acme"),
        services=None,
        operations=lambda name, ctx: (name, ctx),
        usage=UNCOUNTED,
        capability="greeting",  # type: ignore[arg-type, return-value]
    )
    assert (ctx.tenant, ctx.role, ctx.user, ctx.boards) == ("acme", "admin", None, None)
    assert ctx.parameters(GreetingParameters).warmth == 0.7
    assert ctx.capability("search") == ("search", ctx)
