"""How many dead letters each group has is what is listed, whatever happened to them."""

from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shoal import Event
from shoal.contract.errors import NotFound
from shoal.eventlog.codec import encode_event
from shoal.eventlog.dead_letters import add_dead_letter
from shoal.eventlog.redis_log import RedisEventLog, erase
from shoal.eventlog.retraction import Selection, retract_events
from shoal.stores.configuration import StoreConfig
from shoal.stores.connections import close_connections
from shoal.stores.redis_client import async_redis
from shoal.testing.servers import RedisServer

pytestmark = [pytest.mark.anyio, pytest.mark.integration]
GROUPS = ("search.index", "kafka.out", "b:c")
STEPS = st.one_of(
    st.tuples(st.just("add"), st.sampled_from(GROUPS)),
    st.tuples(st.sampled_from(["delete", "replay", "replay twice", "retract"]), st.integers(0, 9)),
    st.tuples(st.just("erase"), st.just(0)),
)


@pytest.fixture
def config(redis_server: RedisServer, tmp_path) -> StoreConfig:
    return StoreConfig(online=redis_server.url, vectors="/none", lake=str(tmp_path))


async def add(config: StoreConfig, tenant: str, group: str, number: int, size: int = 1) -> None:
    event = Event(id=str(number), source="test", type="a", data="x" * size)
    fields = {name.encode(): value for name, value in encode_event(event).items()}
    entry = (b"%d-0" % number, fields)
    await add_dead_letter(async_redis(config.events), tenant, group, entry, "no", 1)


@given(st.lists(STEPS, max_size=12))
@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
async def test_counts_by_group_are_those_of_the_list(
    config: StoreConfig, tenant: str, steps: list
) -> None:
    log = RedisEventLog(config)
    await erase(config, tenant)
    for number, (step, what) in enumerate(steps, 1):
        letters = await log.dead_letters(tenant)
        letter = letters[what % len(letters)] if letters and step not in ("add", "erase") else None
        if step == "add":
            await add(config, tenant, what, number)
        elif step == "erase":
            await erase(config, tenant)
        elif letter is None:
            continue
        elif step == "delete":
            assert await log.delete_dead_letters(tenant, [letter.id, "1-1", letter.id]) == 1
            assert await log.delete_dead_letters(tenant, [letter.id]) == 0
        elif step == "retract":
            gone = Selection.of_ids([("test", letter.event.id)])
            await retract_events(config, tenant, gone, GROUPS, lambda _: _nothing())
        else:
            ids = [letter.id] * (1 + (step == "replay twice"))
            assert await log.replay(tenant, letter.group, ids=ids) == 1
            with pytest.raises(NotFound):
                await log.replay(tenant, letter.group, ids=ids)
        left = Counter(each.group for each in await log.dead_letters(tenant))
        assert await log.dead_letter_counts(tenant) == left
    await close_connections()


async def _nothing() -> None: ...


async def test_counting_sends_no_dead_letter(
    config: StoreConfig, redis_server: RedisServer, tenant: str
) -> None:
    for number in range(1, 21):
        await add(config, tenant, GROUPS[number % 2], number, size=50_000)

    def sent() -> int:
        return redis_server.client.info("stats")["total_net_output_bytes"]

    before = sent()
    assert await RedisEventLog(config).dead_letter_counts(tenant) == {GROUPS[0]: 10, GROUPS[1]: 10}
    assert sent() - before < 50_000
    await close_connections()
