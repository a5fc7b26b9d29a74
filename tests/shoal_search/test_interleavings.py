"""Whatever the order in which changes of items arrive, and the way, the newest counts.

The ways in run beside each other: each of their calls of a store is a step, of which a
drawn schedule takes one at a time. Some are stopped in between, as by a crash. In the
end a dictionary, filled from the log, says what the index must have.
"""

import asyncio
import hashlib
import multiprocessing
import random
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shoal import Egress, Event, ShoalError, TenantContext
from shoal.eventlog.codec import sort_key
from shoal.stores.configuration import StoreConfig
from shoal.stores.connections import close_connections
from shoal.testing.app import LocalJobRun
from shoal_search import jobs, stream
from shoal_search.embedder import EmbeddedItem, EmbedRequest
from shoal_search.items import Item
from shoal_search.parameters import SearchSettings
from shoal_search.routes import routes
from shoal_search.writer import Writer

from .conftest import service

ITEMS = ("1", "2")
NOW = datetime.now(UTC)
TIMES = [NOW + timedelta(days=days) for days in (-3, -2, -1, 9)]


class Hashes:
    """An embedder without a model: it counts what it embeds."""

    def __init__(self) -> None:
        self.texts = 0

    def settings(self, model: type[Any]) -> Any:
        return model()

    def backend(self, name: str) -> Any:
        return self

    @property
    def egress(self) -> Egress:
        return Egress()

    async def embed(self, request: EmbedRequest) -> Any:
        self.texts += len(request[1])
        return hashed(request[1]) if request[0] != "item" else list(map(embedded, request[1]))

    async def onnx_model(self) -> None:
        return None


def hashed(texts: Sequence[str]) -> np.ndarray:
    """A vector of length 1 for each text."""
    digests = [hashlib.sha256(text.encode()).digest()[:8] for text in texts]
    made = np.array([list(digest) for digest in digests], np.float32).reshape(-1, 8) + 1
    return made / np.linalg.norm(made, axis=1, keepdims=True)


class Turns:
    """Where one way in waits before each call of a store, until it may go on."""

    def __init__(self) -> None:
        self._may = asyncio.Semaphore(0)
        self.waits = asyncio.Event()
        self.is_open = False

    async def __call__(self) -> None:
        if not self.is_open:
            self.waits.set()
            await self._may.acquire()

    def step(self) -> None:
        self.waits.clear()
        self._may.release()

    def open(self) -> None:
        self.is_open = True
        self._may.release()


class Gated:
    """A store, or all stores, whose calls pass a gate first."""

    def __init__(self, target: Any, gate: Turns) -> None:
        self._target, self._gate = target, gate

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._target, name)
        if not callable(found):
            return Gated(found, self._gate)
        if name == "read" and hasattr(self._target, "append"):
            return found  # iterates

        async def call(*args: Any, **options: Any) -> Any:
            await self._gate()
            return await found(*args, **options)

        return call


class GatedStores:
    def __init__(self, stores: Any, gate: Turns) -> None:
        self.vectors, self.events = Gated(stores.vectors, gate), Gated(stores.events, gate)
        self.online, self.lake = stores.online, stores.lake


@dataclass
class World:
    """One tenant, and the position of the stream in its log."""

    ctx: TenantContext
    position: str = "0"
    running: list[tuple[Turns, asyncio.Task[Any]]] = field(default_factory=list)
    rejected: list[tuple[str, datetime]] = field(default_factory=list)

    def start(self, way: Callable[[TenantContext], Any]) -> None:
        gate = Turns()
        ctx = replace(self.ctx, stores=GatedStores(self.ctx.stores, gate))
        self.running.append((gate, asyncio.create_task(way(ctx))))

    async def step(self, number: int, *, crash: bool) -> None:
        """Take one of those that run one call further, or end it."""
        if not self.running:
            return
        gate, task = self.running[number % len(self.running)]
        await waits_or_ends(gate, task)
        if crash:
            task.cancel()
        else:
            gate.step()
            await waits_or_ends(gate, task)
        if crash or task.done():
            self.running.remove((gate, task))
            await asyncio.gather(task, return_exceptions=crash)

    async def finish(self) -> None:
        for gate, _ in self.running:
            gate.open()
        await asyncio.gather(*(task for _, task in self.running))

    # The ways in

    async def post(self, ctx: TenantContext, rows: list[dict[str, Any]]) -> None:
        async with client(ctx) as http:
            answer = (await http.post("/search/items", json=rows)).json()
        for fault in answer["rejected"]:
            row = rows[fault["index"]]
            self.rejected.append((row["id"], datetime.fromisoformat(row["updated_at"])))

    async def delete(self, ctx: TenantContext, id: str) -> None:
        async with client(ctx) as http:
            assert (await http.delete(f"/search/items/{id}")).status_code in (200, 404)

    async def append(self, ctx: TenantContext, event: Event) -> None:
        await ctx.stores.events.append([event])

    async def follow(self, ctx: TenantContext, count: int) -> None:
        """Handle some events as a worker does, which moves on only if no other did."""
        position = self.position
        found = [pair async for pair in ctx.stores.events.read(position)][:count]
        if found:
            await stream.index_events(ctx, [event.at(at) for at, event in found])
            if self.position == position:
                self.position = found[-1][0]

    async def redeliver(self, ctx: TenantContext, number: int) -> None:
        """Handle one event of the log again, as from the dead letters."""
        found = [pair async for pair in ctx.stores.events.read()]
        if found:
            at, event = found[number % len(found)]
            await stream.index_events(ctx, [event.at(at)])

    async def replay(self, ctx: TenantContext) -> None:
        self.position = "0"

    async def reindex(self, ctx: TenantContext, fresh: bool) -> None:
        await jobs.reindex_tenant(LocalJobRun([ctx], {}), ctx, fresh=fresh)

    # What must be

    async def expected(self) -> dict[str, str]:
        newest: dict[str, tuple[tuple[datetime, tuple[int, int]], str | None]] = {}
        async for position, event in self.ctx.stores.events.read():
            id, at = event.data["id"], datetime.fromisoformat(event.data["updated_at"])
            is_deletion = event.type == "item.deleted"
            if is_deletion and event.source == "shoal/search" and id in newest:
                at = max(at, newest[id][0][0])
            state = (at, sort_key(position))
            if id not in newest or state > newest[id][0]:
                newest[id] = state, None if is_deletion else event.data["text"]
        for id, at in self.rejected:
            assert at < newest[id][0][0]
        return {id: text for id, (_, text) in newest.items() if text is not None}

    async def indexed(self) -> dict[str, str]:
        writer = Writer(SearchSettings(), self.ctx.services.backend("embedder").embed)
        return {id: r["body"] for id, r in (await writer.rows(self.ctx, ITEMS, ["body"])).items()}


async def waits_or_ends(gate: Turns, task: asyncio.Task[Any]) -> None:
    waits = asyncio.create_task(gate.waits.wait())
    await asyncio.wait([waits, task], return_when="FIRST_COMPLETED")
    waits.cancel()


def client(ctx: TenantContext) -> httpx.AsyncClient:
    app = FastAPI()
    app.include_router(routes(ctx.services), prefix="/search")

    @app.exception_handler(ShoalError)
    async def problem(request: Request, error: ShoalError) -> JSONResponse:
        return JSONResponse(error.problem(), error.status)

    async def guarded(scope: Any, receive: Any, send: Any) -> None:
        scope["shoal.context"] = ctx
        await app(scope, receive, send)

    return httpx.AsyncClient(transport=httpx.ASGITransport(guarded), base_url="http://shoal")


@st.composite
def rows(draw: st.DrawFn, ids: Sequence[str] = ITEMS) -> dict[str, Any]:
    return {
        "id": draw(st.sampled_from(ids)),
        "board_id": "b",
        "type": "item",
        "title": "",
        "text": draw(st.sampled_from(["red", "green", "blue"])),
        "updated_at": draw(st.sampled_from(TIMES)).isoformat(),
    }


@st.composite
def events(draw: st.DrawFn) -> Event:
    data = draw(rows())
    kind = draw(st.sampled_from(["created", "updated", "deleted"]))
    return Event(type=f"item.{kind}", source="app", data=data)


ways = st.one_of(
    st.tuples(
        st.just("post"), st.lists(rows(), min_size=1, max_size=2, unique_by=lambda r: r["id"])
    ),
    st.tuples(st.just("delete"), st.sampled_from(ITEMS)),
    st.tuples(st.just("append"), events()),
    st.tuples(st.just("follow"), st.integers(1, 4)),
    st.tuples(st.just("redeliver"), st.integers(0, 20)),
    st.tuples(st.just("replay")),
    st.tuples(st.just("reindex"), st.booleans()),
)
steps = st.one_of(
    st.tuples(st.sampled_from(["start", "run"]), ways),
    st.tuples(st.just("step"), st.integers(0, 9), st.sampled_from([False] * 9 + [True])),
)


def embedded(item: tuple[str, str]) -> EmbeddedItem:
    return EmbeddedItem([(0, len(item[1]))], hashed(["\n".join(item)]))


def embed_without_a_model(items: list[Item], *_: Any) -> Iterator[Any]:
    yield {item.id: embedded((item.title, item.text)) for item in items}


@pytest.fixture
def world(config: StoreConfig, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], World]]:
    monkeypatch.setattr(jobs, "embed_items", embed_without_a_model)
    # It waits for no request: both write.
    monkeypatch.setattr(stream, "REQUEST_SECONDS", -stream.GRACE_SECONDS)

    def make() -> World:
        tenant = f"acme-{secrets.token_hex(6)}"
        return World(service(config, tenant, Hashes()))

    yield make


async def run(world: World, taken: Sequence[Any]) -> None:
    try:
        for kind, *arguments in taken:
            if kind == "run":
                [[way, *given]] = arguments
                await getattr(world, way)(world.ctx, *given)
            elif kind == "start":
                [[way, *given]] = arguments
                world.start(lambda ctx, way=way, given=given: getattr(world, way)(ctx, *given))
            else:
                await world.step(arguments[0], crash=arguments[1])
        await world.finish()
        while True:  # as a worker does, to the end of the log
            before = world.position
            await world.follow(world.ctx, 3)
            if world.position == before:
                break
        assert await world.indexed() == await world.expected()
        await settle(world)
    finally:
        await close_connections()


async def settle(world: World) -> None:
    """All of it once more changes nothing, and embeds nothing."""
    embedded = world.ctx.services.texts
    before = await world.indexed()
    world.position = "0"
    await world.follow(world.ctx, 1_000)
    await jobs.reindex_tenant(LocalJobRun([world.ctx], {}), world.ctx, fresh=False)
    assert await world.indexed() == before
    assert world.ctx.services.texts == embedded


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(taken=st.lists(steps, max_size=40))
def test_the_newest_state_counts_whatever_the_interleaving(
    world: Callable[[], World], taken: list[Any]
) -> None:
    asyncio.run(run(world(), taken))


async def act_as_replica(world: World, draw: random.Random, changes: int) -> None:
    for _ in range(changes):
        row = {
            "id": draw.choice(ITEMS),
            "board_id": "b",
            "type": "item",
            "title": "",
            "text": draw.choice(["red", "green", "blue"]),
            "updated_at": draw.choice(TIMES).isoformat(),
        }
        kind = draw.choice(["created", "updated", "deleted"])
        event = Event(type=f"item.{kind}", source="app", data=row)
        await draw.choice(
            [
                lambda: world.post(world.ctx, [row]),  # noqa: B023
                lambda: world.delete(world.ctx, row["id"]),  # noqa: B023
                lambda: world.append(world.ctx, event),  # noqa: B023
                lambda: world.follow(world.ctx, 3),
                lambda: world.redeliver(world.ctx, draw.randrange(99)),
                lambda: world.reindex(world.ctx, draw.random() < 0.5),
            ]
        )()


def replica(config: StoreConfig, tenant: str, seed: int, both_appended: Any) -> None:
    """A process of its own: it changes items, then follows the log to its end."""
    stream.REQUEST_SECONDS = -stream.GRACE_SECONDS
    jobs.embed_items = embed_without_a_model
    world = World(service(config, tenant, Hashes()))

    async def work() -> None:
        await act_as_replica(world, random.Random(seed), 40)
        await asyncio.to_thread(both_appended.wait)
        while True:
            before = world.position
            await world.follow(world.ctx, 10)
            if world.position == before:
                break

    asyncio.run(work())


@pytest.mark.parametrize("seed", range(2))
def test_two_processes_agree_on_the_newest_states(config: StoreConfig, seed: int) -> None:
    tenant, spawn = f"acme-{secrets.token_hex(6)}", multiprocessing.get_context("spawn")
    barrier = spawn.Barrier(2)
    processes = [
        spawn.Process(target=replica, args=(config, tenant, 2 * seed + n, barrier)) for n in (0, 1)
    ]
    killed = spawn.Process(target=replica, args=(config, tenant, 99 + seed, spawn.Barrier(2)))
    for process in (*processes, killed):
        process.start()
    killed.join(5)
    killed.kill()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0

    async def check() -> None:
        world = World(service(config, tenant, Hashes()))
        assert await world.ctx.stores.events.length() > 0
        assert await world.indexed() == await world.expected()
        await close_connections()

    asyncio.run(check())
