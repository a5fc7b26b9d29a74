"""The platform's own capability at `/platform`: tenants, keys, boards, events, jobs,
parameters, experiments, audit.
"""

import asyncio
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shoal.contract.batch import read_rows, validate_rows, validation_errors
from shoal.contract.capability import Capability, Job, JobContext
from shoal.contract.context import Role, TenantContext, admin, editor, reader
from shoal.contract.errors import Forbidden, Invalid, LimitExceeded, NotFound
from shoal.contract.events import Event
from shoal.contract.experiments import ExperimentRecord
from shoal.contract.names import Identifier, TenantId
from shoal.contract.parameters import Parameters
from shoal.eventlog.codec import write
from shoal.eventlog.redis_log import EventLog
from shoal.runtime.job_runs import WAITING, Run, Runs
from shoal.tenants.lifecycle import erase_tenant, notify_tenant_added
from shoal.tenants.records import PLATFORM, Limits

if TYPE_CHECKING:
    from shoal.runtime.context import PlatformContext

MAX_EVENTS = 10_000
"""Events in one request; more is 422."""


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


_EVENTS = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": {}},
            "application/x-ndjson": {"schema": {"type": "string"}},
        },
    }
}


class NewTenant(Body):
    id: TenantId
    name: str = Field("", max_length=200)


class NewKey(Body):
    role: Role
    user: Identifier | None = None


class Members(Body):
    users: list[Identifier] = Field(max_length=100_000)


class NewRun(Body):
    tenant: TenantId | None = None
    arguments: dict[str, Any] = Field(default_factory=dict)


class Replay(Body):
    group: str
    """`<capability>.<stream>`."""
    ids: list[str] | None = None
    after: str | None = None


def platform_capability(platform: "PlatformContext") -> Capability:
    """The platform as a capability like the others, except that its routes hold the
    directory itself.
    """
    return Capability(
        "platform",
        "Tenants, keys, boards, events, jobs, parameters and the audit log.",
        routes=lambda _: routes(platform),
        jobs=[
            Job("compact", compact, "Merge the lake's small files of each day.", cron="30 2 * * *")
        ],
    )


async def compact(job: JobContext) -> dict[str, int]:
    """Merge each tenant's small files, day by day."""
    merged = 0
    for done, ctx in enumerate(job.tenants):
        job.progress(done, len(job.tenants), ctx.tenant)
        for table in await ctx.stores.lake.tables():
            merged += await ctx.stores.lake.compact(table)
    return {"files_merged": merged}


def routes(platform: "PlatformContext") -> APIRouter:
    router = APIRouter()
    directory = platform.directory()
    runs = Runs(platform.stores.online)
    log = EventLog(platform.stores)
    operator = PLATFORM

    def whole_platform(ctx: TenantContext) -> None:
        """Operating the platform is for admins of the operator's own tenant, not for an
        admin of some company.
        """
        if ctx.tenant != operator:
            raise Forbidden(
                "this operation is the platform operator's; the credential is a tenant's"
            )

    def whole_company(ctx: TenantContext) -> None:
        """What reaches every board of a company is not for somebody who may see some of
        them.
        """
        if ctx.boards is not None and ctx.role is not Role.admin:
            raise Forbidden(
                "this operation is for the company's own service (a key without a user) or an admin"
            )

    def of(ctx: TenantContext, tenant: str) -> str:
        """`tenant`, where the caller may administer it; anyone else's does not exist
        for them.
        """
        if ctx.tenant not in (operator, tenant):
            raise NotFound(f"no tenant {tenant!r}")
        return tenant

    # Tenants and keys

    @router.post("/tenants", status_code=201)
    async def create_tenant(body: NewTenant, ctx: TenantContext = Depends(admin)) -> dict[str, Any]:
        """Make a tenant. 409 when the id is taken."""
        whole_platform(ctx)
        tenant = await directory.create_tenant(body.id, body.name or None)
        await notify_tenant_added(platform, body.id)
        return tenant.model_dump(mode="json")

    @router.get("/tenants")
    async def list_tenants(
        limit: int = Query(100, ge=1, le=1000),
        cursor: str | None = None,
        ctx: TenantContext = Depends(admin),
    ) -> dict[str, Any]:
        """All tenants, in order of id, with `limit` and `cursor`."""
        whole_platform(ctx)
        records, after = await directory.list_tenants(limit, cursor)
        return {"tenants": [t.model_dump(mode="json") for t in records], "cursor": after}

    @router.delete("/tenants/{id}")
    async def delete_tenant(id: str, ctx: TenantContext = Depends(admin)) -> dict[str, Any]:
        """Erase a tenant from every store and plugin; answers with what went, per
        store. Its keys stop working first.
        """
        whole_platform(ctx)
        return {"tenant": id, "erased": await erase_tenant(platform, directory, id)}

    @router.post("/tenants/{id}/keys", status_code=201)
    async def create_key(
        id: str, body: NewKey, ctx: TenantContext = Depends(admin)
    ) -> dict[str, Any]:
        """Make an API key. The answer is the only time that it is shown: only its hash
        is stored.
        """
        record, key = await directory.create_key(of(ctx, id), body.role, user=body.user)
        return {**record.public(), "key": key}

    @router.get("/tenants/{id}/keys")
    async def list_keys(id: str, ctx: TenantContext = Depends(admin)) -> dict[str, Any]:
        """A tenant's keys, without their secrets."""
        return {"keys": [k.public() for k in await directory.list_keys(of(ctx, id))]}

    @router.delete("/keys/{id}")
    async def delete_key(id: str, ctx: TenantContext = Depends(admin)) -> dict[str, Any]:
        """Revoke a key: everywhere within a second."""
        await directory.revoke_key(id, None if ctx.tenant == operator else ctx.tenant)
        return {"revoked": id}

    @router.get("/tenants/{id}/limits")
    async def get_limits(id: str, ctx: TenantContext = Depends(admin)) -> dict[str, Any]:
        """A tenant's own limits by capability (`*`: all), and the platform's, which
        hold where it has none.
        """
        own = await directory.get_limits(of(ctx, id))
        return {
            "own": {
                name: limits.model_dump(mode="json", exclude_none=True)
                for name, limits in own.items()
            },
            "default": platform.config.router.limits.model_dump(mode="json"),
        }

    @router.put("/tenants/{id}/limits/{capability}")
    async def put_limits(
        id: str, capability: str, body: Limits, ctx: TenantContext = Depends(admin)
    ) -> dict[str, Any]:
        """Set a tenant's limits on one capability, or on all (`*`); `{}` goes back to
        the platform's.
        """
        whole_platform(ctx)
        if capability != "*":
            platform.capability(capability)
        await directory.set_limits(
            id, capability, body if body.model_dump(exclude_none=True) else None
        )
        return await get_limits(id, ctx)

    # What a tenant's own service does

    @router.put("/boards/{board}/members")
    async def put_members(
        board: Identifier, body: Members, ctx: TenantContext = Depends(editor)
    ) -> dict[str, Any]:
        """Say who may see a board, replacing whoever could before. For the company's
        own service, or an admin: a user could let themselves in anywhere.
        """
        whole_company(ctx)
        await directory.set_board_members(ctx.tenant, board, body.users)
        return {"board": board, "members": len(set(body.users))}

    @router.get("/boards/{board}/members")
    async def get_members(
        board: Identifier, ctx: TenantContext = Depends(reader)
    ) -> dict[str, Any]:
        """Who may see a board."""
        if not ctx.may_see(board):
            raise NotFound(f"no board {board!r}")
        return {"board": board, "users": await directory.board_members(ctx.tenant, board)}

    @router.post("/events", status_code=202, openapi_extra=_EVENTS)
    async def append_events(
        request: Request, ctx: TenantContext = Depends(editor)
    ) -> dict[str, Any]:
        """Append one CloudEvent, an array of them, or NDJSON. Good ones are taken, and
        durable before the answer. For the company's own service, or an admin: events
        are facts about any board and user.
        """
        whole_company(ctx)
        content_type = request.headers.get("content-type", "")
        rows = read_rows(await request.body(), content_type, limit=MAX_EVENTS)
        batch = validate_rows(rows, Event.model_validate)
        try:
            await ctx.stores.events.append(list(batch.accepted.values()))
        except Invalid:  # nothing was appended; encoding each event beforehand costs too much
            for index, event in list(batch.accepted.items()):
                try:
                    write(event)
                except Invalid as error:
                    batch.reject(index, error.detail)
            await ctx.stores.events.append(list(batch.accepted.values()))
        return batch.response()

    @router.get("/events/dead")
    async def dead_letters(
        limit: int = Query(100, ge=1, le=1000),
        cursor: str = "0",
        ctx: TenantContext = Depends(reader),
    ) -> dict[str, Any]:
        """Events that a stream could not handle, oldest first, with the error. For the
        company's own service, or an admin.
        """
        whole_company(ctx)
        found = await log.dead_letters(ctx.tenant, after=cursor, limit=limit)
        letters = [
            {
                "id": d.id,
                "group": d.group,
                "error": d.error,
                "deliveries": d.deliveries,
                "event": d.event.model_dump(mode="json"),
            }
            for d in found
        ]
        return {"events": letters, "cursor": found[-1].id if len(found) == limit else None}

    @router.post("/events/replay", status_code=202)
    async def replay(body: Replay, ctx: TenantContext = Depends(editor)) -> dict[str, Any]:
        """Handle events again: the dead letters `ids` (all of the group's when neither
        is given), or everything after a position.
        """
        whole_company(ctx)
        groups = platform.streams()
        if (
            body.group not in groups
        ):  # its position would keep the log from being trimmed, for nobody
            raise NotFound(f"no stream {body.group!r}; there are {', '.join(groups)}")
        ids = body.ids
        if ids is None and body.after is None:
            ids = [d.id for d in await log.dead_letters(ctx.tenant, group=body.group, limit=1000)]
        return {"replayed": await log.replay(ctx.tenant, body.group, ids=ids, after=body.after)}

    @router.get("/whoami")
    async def whoami(ctx: TenantContext = Depends(reader)) -> dict[str, Any]:
        """Whom this credential stands for: tenant, its name, role, and the user it acts
        for.
        """
        name = (
            "Platform" if ctx.tenant == operator else (await directory.get_tenant(ctx.tenant)).name
        )
        return {"tenant": ctx.tenant, "name": name, "role": ctx.role, "user": ctx.user}

    # Capabilities and their parameters

    @router.get("/capabilities")
    async def list_capabilities(ctx: TenantContext = Depends(reader)) -> dict[str, Any]:
        """What is deployed: name, version, status, the schema of its parameters; and
        which plugins are left out, and why.
        """
        return {
            "capabilities": await describe(platform),
            "problems": [{"plugin": p.plugin, "cause": p.cause} for p in platform.plugins.problems],
        }

    @router.get("/parameters/{capability}")
    async def get_parameters(
        capability: str, ctx: TenantContext = Depends(reader)
    ) -> dict[str, Any]:
        """The tenant's own values, and what is in force with them."""
        model = parameters_of(platform, capability)
        own = await directory.get_parameters(ctx.tenant, capability)
        return {"own": own, "effective": {**model().model_dump(mode="json"), **own}}

    @router.put("/parameters/{capability}")
    async def put_parameters(
        capability: str, body: dict[str, Any], ctx: TenantContext = Depends(editor)
    ) -> dict[str, Any]:
        """Replace the tenant's own values; `{}` goes back to the defaults."""
        validated(platform, capability, body)
        await directory.put_parameters(ctx.tenant, capability, body)
        return await get_parameters(capability, ctx)

    @router.post("/parameters/{capability}/validate", openapi_extra={"x-shoal-safe": True})
    async def validate_parameters(
        capability: str, body: dict[str, Any], ctx: TenantContext = Depends(reader)
    ) -> dict[str, Any]:
        """Whether these values would be taken: 422 with what is wrong and where, else
        the effective values.
        """
        return validated(platform, capability, body).model_dump(mode="json")

    # Experiments: what the router assigns

    @router.put("/experiments/{id}")
    async def put_experiment(
        id: Identifier, body: dict[str, Any], ctx: TenantContext = Depends(editor)
    ) -> dict[str, Any]:
        """Store an experiment for the router to assign. Overrides are checked against
        the capability's parameters.
        """
        try:
            record = ExperimentRecord.model_validate(
                {**body, "id": id, "tenant": None if ctx.tenant == operator else ctx.tenant}
            )
        except ValidationError as error:
            raise Invalid("the experiment is not valid", errors=validation_errors(error)) from None
        for variant in record.variants:
            if variant.parameters:
                if record.capability is None:
                    raise Invalid(
                        f"variant {variant.name}: parameters, but the experiment names no capability"
                    )
                validated(
                    platform,
                    record.capability,
                    variant.parameters,
                    f"variants.{variant.name}.parameters.",
                )
        await directory.put_experiment(record)
        return record.model_dump(mode="json")

    @router.get("/experiments")
    async def list_experiments(ctx: TenantContext = Depends(reader)) -> dict[str, Any]:
        """The experiments that the router knows, of this tenant."""
        return {
            "experiments": [
                e.model_dump(mode="json") for e in await directory.list_experiments(ctx.tenant)
            ]
        }

    @router.get("/experiments/{id}")
    async def get_experiment(id: str, ctx: TenantContext = Depends(reader)) -> dict[str, Any]:
        """One experiment as the router knows it."""
        return (await directory.get_experiment(ctx.tenant, id)).model_dump(mode="json")

    @router.delete("/experiments/{id}")
    async def delete_experiment(id: str, ctx: TenantContext = Depends(editor)) -> dict[str, Any]:
        """Forget an experiment; nobody is assigned to it any more."""
        await directory.delete_experiment(ctx.tenant, id)
        return {"deleted": id}

    # Jobs

    @router.get("/jobs")
    async def list_jobs(ctx: TenantContext = Depends(reader)) -> dict[str, Any]:
        """The jobs there are, with their schedules."""
        return {
            "jobs": [
                {"name": name, "summary": j.summary, "cron": j.cron, "timezone": j.timezone or platform.config.timezone,
                 "deadline_seconds": j.deadline.total_seconds() if j.deadline else None}
                for name, j in sorted(platform.jobs().items())
            ]
        }  # fmt: skip

    @router.post("/jobs/{name}/runs", status_code=202)
    async def run_job(
        name: str, body: NewRun | None = None, ctx: TenantContext = Depends(editor)
    ) -> dict[str, Any]:
        """Queue a run. A tenant's key runs it for that tenant; the operator may name
        one, or none for all.
        """
        platform.job(name)
        body = body or NewRun()
        tenant = body.tenant if ctx.tenant == operator else of(ctx, body.tenant or ctx.tenant)
        if tenant is not None:
            await directory.get_tenant(tenant)
            if await asyncio.to_thread(runs.unfinished, tenant) >= WAITING:
                raise LimitExceeded(
                    f"{WAITING} runs of {tenant} wait or run already", retry_after=10
                )
        run = await asyncio.to_thread(runs.add, name, tenant=tenant, arguments=body.arguments)
        return run.model_dump(mode="json")

    @router.get("/jobs/runs")
    async def list_runs(
        limit: int = Query(50, ge=1, le=1000), ctx: TenantContext = Depends(reader)
    ) -> dict[str, Any]:
        """The newest runs."""
        mine = None if ctx.tenant == operator else ctx.tenant
        found = await asyncio.to_thread(runs.recent, tenant=mine, limit=limit)
        return {"runs": [r.model_dump(mode="json") for r in found]}

    async def visible(ctx: TenantContext, run_id: str) -> Run:
        run = await asyncio.to_thread(runs.get, run_id)
        if ctx.tenant not in (operator, run.tenant):
            raise NotFound(f"no run {run_id!r}")
        return run

    @router.get("/jobs/runs/{id}")
    async def get_run(id: str, ctx: TenantContext = Depends(reader)) -> dict[str, Any]:
        """A run's state and progress."""
        return (await visible(ctx, id)).model_dump(mode="json")

    @router.delete("/jobs/runs/{id}")
    async def cancel_run(id: str, ctx: TenantContext = Depends(editor)) -> dict[str, Any]:
        """Cancel a run; 409 when it is done."""
        await visible(ctx, id)
        return (await asyncio.to_thread(runs.cancel, id)).model_dump(mode="json")

    # Audit

    @router.get("/audit")
    async def list_audit(
        limit: int = Query(100, ge=1, le=1000),
        cursor: str | None = None,
        ctx: TenantContext = Depends(admin),
    ) -> dict[str, Any]:
        """Every write, newest first: who, what, when, with what outcome."""
        entries, after = await directory.list_audit(ctx.tenant, limit, cursor)
        return {"entries": [e.model_dump(mode="json") for e in entries], "cursor": after}

    return router


def parameters_of(platform: "PlatformContext", capability: str) -> type[Parameters]:
    model = platform.capability(capability).parameters
    if model is None:
        raise NotFound(f"{capability} has no parameters")
    return model


def validated(
    platform: "PlatformContext", capability: str, values: dict[str, Any], prefix: str = ""
) -> Parameters:
    """The capability's parameters with these values; Invalid says what is wrong and
    where.
    """
    try:
        return parameters_of(platform, capability)(**values)
    except ValidationError as error:
        raise Invalid(
            f"not valid parameters of {capability}", errors=validation_errors(error, prefix)
        ) from None


async def describe(platform: "PlatformContext") -> list[dict[str, Any]]:
    """Each capability with the state that Serve reports."""
    states = await platform.states()
    found = []
    for name, capability in [
        ("platform", platform.capability("platform")),
        *platform.plugins.capabilities.items(),
    ]:
        state = states.get(name, {"status": "NOT_DEPLOYED", "message": ""})
        found.append(
            {
                "name": name,
                "version": capability.version,
                "summary": capability.summary,
                "status": state["status"],
                "message": state["message"],
                "parameters": capability.parameters.model_json_schema()
                if capability.parameters
                else None,
                "jobs": [f"{name}.{j.name}" for j in capability.jobs],
                "page": capability.page is not None,
            }
        )
    return found
