"""A tenant's indexes, one for each model: which is searched, and which are written."""

from collections.abc import Awaitable, Callable, Collection, Iterable
from typing import Any

from shoal import Conflict, Services, TenantContext, Unavailable

from .embedder import EmbedRequest
from .onnx_encoder import OnnxModel
from .parameters import SearchSettings
from .query_encoder import QueryEncoder
from .states import State
from .writer import Writer

SERVING = ("{}", "search", "{}", "serving")
"""The name of the model whose index is searched; without it, the configured one."""
NEXT = ("{}", "search", "{}", "next")
"""The name of the model whose index is written as well, as it is about to serve."""
NEXT_SECONDS = 3_600
"""How long a run that was killed leaves its model to be written."""
SWITCH = """
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1])
redis.call('DEL', KEYS[2])
return 1
"""


class Indexes:
    """A tenant's indexes.

    One is searched. While another is about to take its place, both are written: what
    was written before that, the reindexing job reads in the log. So each has all that
    was acknowledged at the moment of the switch.

    Args:
        services: The settings, and the embedder.
    """

    def __init__(self, services: Services) -> None:
        self._settings = services.settings(SearchSettings)
        self._embedder = services.backend("embedder")
        self._writers: dict[str, Writer] = {}

    async def serving(self, ctx: TenantContext) -> Writer:
        """The index that is searched."""
        return self.of(self._read(await ctx.stores.online.get(SERVING)))

    async def written(self, ctx: TenantContext) -> list[Writer]:
        """The indexes that changes are written to: first the one that is searched."""
        pipe = ctx.stores.online.pipeline()
        # In this order: after a switch in between, the new one is found all the same.
        following, serving = await pipe.get(NEXT).get(SERVING).execute()
        names = [self._read(serving), *([self._read(following)] if following else [])]
        return [self.of(name) for name in dict.fromkeys(names)]

    def of(self, model: str) -> Writer:
        """The index of a configured model.

        Raises:
            Invalid: The operator has not configured it.
        """
        if model not in self._writers:
            self._writers[model] = Writer(self._settings.using(model), self._embed(model))
        return self._writers[model]

    def query_encoder(self, model: str) -> QueryEncoder:
        """Encodes queries with a model."""
        embedder = self._embedder
        if model == self._settings.model:
            return QueryEncoder(embedder.embed, embedder.onnx_model)

        async def fetch_model() -> OnnxModel | None:
            found: OnnxModel | None = await embedder.onnx_model_of(model)
            return found

        return QueryEncoder(self._embed(model), fetch_model)

    async def write(self, ctx: TenantContext, states: Iterable[State]) -> None:
        """Write states to each index that is written: see `Writer.write`.

        They are in the log already. From there an index has them that is offered after
        this has begun.
        """
        states = list(states)
        for writer in await self.written(ctx):
            await writer.write(ctx, states)

    async def unknown(self, ctx: TenantContext, states: Collection[State]) -> list[State]:
        """Those states that an index lacks which is written: see `Writer.unknown`."""
        lacking: dict[str, State] = {}
        for writer in await self.written(ctx):
            lacking |= {state.id: state for state in await writer.unknown(ctx, states)}
        return list(lacking.values())

    async def offer(self, ctx: TenantContext, model: str) -> None:
        """From now on, write to the index of a model as well."""
        await ctx.stores.online.set(NEXT, model, ex=NEXT_SECONDS)

    async def withdraw(self, ctx: TenantContext) -> None:
        """Write only to the index that is searched."""
        await ctx.stores.online.delete(NEXT)

    async def switch(self, ctx: TenantContext, model: str) -> None:
        """Search the index of a model, which has been offered.

        Raises:
            Conflict: Another run has offered its own since, or it was long ago.
        """
        if not await ctx.stores.online.eval(SWITCH, [SERVING, NEXT], [model]):
            raise Conflict(
                "another run of search.reindex has begun meanwhile, or this one took more than "
                "an hour for the latest changes; the former index is searched. Run it again"
            )

    def _read(self, name: bytes | None) -> str:
        model = self._settings.model if name is None else name.decode()
        if model not in self._settings.names:
            raise Unavailable(
                f"the tenant is searched with the model {model!r}, which is not configured: "
                "name it in capabilities.search.models"
            )
        return model

    def _embed(self, model: str) -> Callable[[EmbedRequest], Awaitable[Any]]:
        if model == self._settings.model:
            embed: Callable[[EmbedRequest], Awaitable[Any]] = self._embedder.embed
            return embed

        async def embed_with(request: EmbedRequest) -> Any:
            return await self._embedder.embed_with(model, request)

        return embed_with
