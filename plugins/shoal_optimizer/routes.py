"""The HTTP operations on one task: candidates, recommendations and decisions."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Response
from pydantic import Field

from shoal import (
    Cursor,
    Identifier,
    Invalid,
    Services,
    TenantContext,
    read_cursor,
    requires,
    write_cursor,
)

from . import bodies, decisions, exchange_routes, plan_routes, record_routes, scenario_routes
from .checks import RequestBody, check_distinct, check_people
from .inputs import InputsLoader
from .record_routes import Limit
from .records import Person
from .responses import answers, json_response
from .store import RecordStore
from .tasks import get_task

CONFLICT: dict[int | str, dict[str, Any]] = {409: {}}


People = Annotated[list[Identifier], Field(max_length=50)]


class Wishes(RequestBody):
    """Who must, and who must not, be in the recommended team."""

    include: People = Field([])
    exclude: People = Field([])


class AlternativeWishes(Wishes):
    """Also members to replace: the new team has all the others, and none of these."""

    replace: People = Field([])


class Assignment(RequestBody):
    people: list[Identifier] = Field(min_length=1, max_length=50)
    override: bool = False
    reason: str = Field("", max_length=1000)


class OptimizerRoutes:
    """The operations, over one cache of inputs per process and the solver's backend."""

    def __init__(self, services: Services) -> None:
        self.solver = services.backend("solver")
        self.inputs = InputsLoader()

    async def candidates(
        self,
        id: Identifier,
        limit: Limit = 100,
        cursor: Cursor = None,
        ctx: TenantContext = Depends(requires("read:boards")),
    ) -> Response:
        """Score everyone for a task, the best first.

        By default score = 0.5 · skill match + 0.3 · availability + 0.2 · past success.
        """
        _, raw = await get_task(ctx, id)
        rows = await self.solver.candidates(await self.inputs.load(ctx, [raw]), raw)
        start = read_cursor("optimizer.candidates", cursor, int) or 0
        end = start + limit
        more = write_cursor("optimizer.candidates", end) if end < len(rows) else None
        return json_response(
            {"task": id, "candidates": rows[start:end], "total": len(rows), "cursor": more}
        )

    async def why(
        self,
        id: Identifier,
        person: Identifier,
        ctx: TenantContext = Depends(requires("read:boards")),
    ) -> Response:
        """Tell why a person is not in the best team, and what would have to change.

        The best team is compared, term by term, with the best that has the person.
        Where no team may, the answer has the conflict and the changes that would help.
        """
        _, raw = await get_task(ctx, id)
        inputs = await self.inputs.load(ctx, [raw])
        check_people(inputs)
        if person not in inputs.ids:
            raise Invalid.at("person", f"there is no person {person!r}")
        return json_response(await self.solver.why(inputs, raw, person))

    async def recommend(
        self,
        id: Identifier,
        body: Wishes | None = None,
        ctx: TenantContext = Depends(requires("write:boards")),
    ) -> Response:
        """Recommend the best team for a task, proved and explained.

        Where there is none, the answer says why, and what would make one possible. For
        a broken assignment it is a repair: as few people as possible change.
        """
        task, raw = await get_task(ctx, id)
        inputs = await self.inputs.load(ctx, [raw])
        check_people(inputs)
        wishes = (body or Wishes.model_validate({})).model_dump()
        record = await decisions.recommend(ctx, self.solver, inputs, task, raw, wishes)
        return json_response(decisions.public(record))

    async def get_recommendation(
        self, id: Identifier, ctx: TenantContext = Depends(requires("read:boards"))
    ) -> Response:
        """Get a recommendation and the decision on it."""
        recommendation = await decisions.get_recommendation(ctx, id)
        return json_response(decisions.public(recommendation.record))

    async def list_recommendations(
        self,
        task: Identifier | None = None,
        limit: Limit = 100,
        cursor: Cursor = None,
        ctx: TenantContext = Depends(requires("read:boards")),
    ) -> Response:
        """List recommendations, of one task or of all, the latest first."""
        before = read_cursor("optimizer.recommendations", cursor, str)
        rows = await decisions.list_recommendations(ctx, task, before, limit + 1)
        more = None
        if len(rows) > limit:
            more = write_cursor("optimizer.recommendations", rows[limit - 1]["id"])
        return json_response({"recommendations": rows[:limit], "cursor": more})

    async def accept(
        self, id: Identifier, ctx: TenantContext = Depends(requires("write:boards"))
    ) -> Response:
        """Commit the recommended team. Accepting twice is the same as once.

        409 when anyone in the team, or the task, has changed since, or when the team
        now breaks a rule.
        """
        recommendation = await decisions.get_recommendation(ctx, id)
        inputs = await self.inputs.load(ctx, [recommendation.task_raw])
        record = await decisions.accept(ctx, inputs, recommendation)
        return json_response(decisions.public(record))

    async def alternative(
        self,
        id: Identifier,
        body: AlternativeWishes | None = None,
        ctx: TenantContext = Depends(requires("write:boards")),
    ) -> Response:
        """Recommend the next best team, never one that was shown before.

        `status` is "none" when there is no other.
        """
        recommendation = await decisions.get_recommendation(ctx, id)
        inputs = await self.inputs.load(ctx, [recommendation.task_raw])
        wishes = (body or AlternativeWishes.model_validate({})).model_dump()
        replaced = wishes.pop("replace")
        record = await decisions.suggest_alternative(
            ctx, self.solver, inputs, recommendation, wishes, replaced
        )
        return json_response(decisions.public(record))

    async def assign(
        self,
        id: Identifier,
        body: Assignment,
        ctx: TenantContext = Depends(requires("write:boards")),
    ) -> Response:
        """Assign a team manually.

        422 when it violates a rule, with the amount; `override` assigns it anyway, and
        the violations are recorded.
        """
        check_distinct("people", body.people)
        recommendation = await decisions.get_recommendation(ctx, id)
        inputs = await self.inputs.load(ctx, [recommendation.task_raw])
        record = await decisions.assign(
            ctx,
            self.solver,
            inputs,
            recommendation,
            body.people,
            body.override,
            body.reason,
        )
        return json_response(decisions.public(record))

    async def check_team(
        self,
        id: Identifier,
        body: Assignment,
        ctx: TenantContext = Depends(requires("read:boards")),
    ) -> Response:
        """Tell what a team would violate for a task, and by how much."""
        task, raw = await get_task(ctx, id)
        inputs = await self.inputs.load(ctx, [raw])
        stored = await RecordStore(ctx).get_many("people", body.people)
        unknown = [
            {"location": f"people.{n}", "message": f"no person {body.people[n]!r}"}
            for n, found in enumerate(stored)
            if found is None
        ]
        if unknown:
            raise Invalid("; ".join(fault["message"] for fault in unknown), errors=unknown)
        people = [Person.model_validate_json(found) for found in stored if found is not None]
        violations = decisions.team_violations(ctx, inputs, task, people)
        return json_response({"violations": violations})


def routes(services: Services) -> APIRouter:
    """The capability's router."""
    handlers, router = OptimizerRoutes(services), APIRouter()
    router.include_router(record_routes.router)
    router.include_router(scenario_routes.router)
    router.include_router(exchange_routes.router)
    router.include_router(plan_routes.routes(services, handlers.inputs))
    recommendation = answers(bodies.Recommendation)
    decision = {**recommendation, **CONFLICT}
    alternative = {**answers(bodies.Recommendation | bodies.NoAlternative), **CONFLICT}
    listed = answers(bodies.Recommendations)
    router.get("/tasks/{id}/candidates", responses=answers(bodies.Candidates))(handlers.candidates)
    router.get("/tasks/{id}/why", responses=answers(bodies.Why))(handlers.why)
    router.post("/tasks/{id}/recommendation", responses=decision)(handlers.recommend)
    router.get("/recommendations", responses=listed)(handlers.list_recommendations)
    router.get("/recommendations/{id}", responses=recommendation)(handlers.get_recommendation)
    router.post("/recommendations/{id}/accept", responses=decision)(handlers.accept)
    router.post("/recommendations/{id}/alternative", responses=alternative)(handlers.alternative)
    router.post("/recommendations/{id}/assign", responses=decision)(handlers.assign)
    router.post(
        "/violations/{id}",
        openapi_extra={"x-shoal-safe": True},
        responses=answers(bodies.Violations),
    )(handlers.check_team)
    return router
