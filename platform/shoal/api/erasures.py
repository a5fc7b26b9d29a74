"""Erasing an entity's data, and retracting events."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from pydantic import Field

from shoal.contract.context import TenantContext, requires
from shoal.contract.names import Identifier
from shoal.runtime import erasures
from shoal.tenants.members import MemberChanges

from .bodies import Body
from .changes import audit_changes
from .dependencies import Platform

MAX_RETRACTED = 1_000
"""Events that one request retracts."""

router = APIRouter()


class EventName(Body):
    source: Identifier = "shoal"
    id: Identifier


class Retraction(Body):
    events: list[EventName] = Field(min_length=1, max_length=MAX_RETRACTED)


class RetractedEvents(Body):
    removed: dict[str, int]
    """How much was removed or computed again, by `<where>.<kind>`."""
    remains: dict[str, str]
    """What is still there, and until when, by place."""


class ErasedEntity(RetractedEvents):
    entity: str
    id: str


@router.post("/events/retract", responses={200: {"model": RetractedEvents}, 409: {}})
async def retract_events(
    body: Retraction,
    request: Request,
    platform: Platform,
    ctx: TenantContext = Depends(requires("write:tenant")),
) -> dict[str, Any]:
    """Retract events: out of the log, the archive, and what was computed from them.

    The answer counts what was removed; an event that is not there counts nothing. An
    event with the same source and id is not accepted again for 30 days. 409 while the
    log is being archived or other events are retracted; after any error, send the same
    request again.
    """
    names = [(event.source, event.id) for event in body.events]
    audit_changes(request, MemberChanges((), tuple(f"{source} {id}" for source, id in names)))
    done = await erasures.retract(platform, ctx.tenant, names)
    return {"removed": done.removed, "remains": done.remains}


@router.delete("/entities/{entity}", responses={200: {"model": ErasedEntity}, 409: {}})
async def erase_entity(
    entity: Identifier,
    request: Request,
    platform: Platform,
    id: Annotated[Identifier, Query(description="The entity's id, such as that of the user.")],
    ctx: TenantContext = Depends(requires("admin:tenant")),
) -> dict[str, Any]:
    """Erase what there is of one entity, such as the user 123, and the events about it.

    An event is about a user if `data.user_id` or `data.user` is the user's id, or by
    the definitions of features. The answer counts what was removed, and says what
    remains. What is sent of the entity afterwards is new. 409 as for retracting events;
    after any error, send the same request again.
    """
    audit_changes(request, MemberChanges((), (f"{entity} {id}",)))
    done = await erasures.erase_entity(platform, ctx.tenant, entity, id)
    return {"entity": entity, "id": id, "removed": done.removed, "remains": done.remains}
