"""Operations on a tenant's rules, channels and maintenance windows."""

from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, Depends

from shoal import (
    Conflict,
    EgressRefused,
    Identifier,
    Invalid,
    NotFound,
    Services,
    TenantContext,
    requires,
)

from . import bodies, keys
from .channels import AnyChannel, Channel, Email, Webhook, dump_channel, load_channel
from .maintenance import MaintenanceWindow
from .rules import DEFAULT_RULES, Rule
from .settings import AnomalySettings
from .stored_rules import load_rules, load_windows
from .stored_series import load_all_series

MAX_ENTRIES = 1_000  # of each kind

router = APIRouter()


@router.get("/rules", responses={200: {"model": bodies.Rules}})
async def list_rules(ctx: TenantContext = Depends(requires("read:tenant"))) -> dict[str, Any]:
    """List the effective rules: the defaults with the tenant's changes."""
    rules = load_rules(await ctx.stores.online.hgetall(keys.RULES))
    return {"rules": {name: rule.model_dump(mode="json") for name, rule in sorted(rules.items())}}


@router.put("/rules/{id}", responses={200: {"model": bodies.StoredRule}, 409: {}})
async def put_rule(
    id: Identifier, body: Rule, ctx: TenantContext = Depends(requires("write:tenant"))
) -> dict[str, Any]:
    """Create or replace a rule. `matches` is the number of known series it covers.

    The channels that it names must be defined, but for those that it named before: the
    default rules name some that a tenant may not have.
    """
    pipe = ctx.stores.online.pipeline()
    pipe.hkeys(keys.CHANNELS).hgetall(keys.RULES)
    channels, stored = await pipe.execute()
    _check_channel_names(body, {name.decode() for name in channels}, load_rules(stored).get(id))
    await put_entry(ctx, keys.RULES, id, body.model_dump_json())
    known = load_all_series(await ctx.stores.online.hgetall(keys.SERIES)).values()
    matches = sum(body.match.covers(s.metric, s.labels) for s in known)
    return {"id": id, **body.model_dump(mode="json"), "matches": matches}


@router.get("/rules/{id}", responses={200: {"model": bodies.NamedRule}})
async def get_rule(
    id: Identifier, ctx: TenantContext = Depends(requires("read:tenant"))
) -> dict[str, Any]:
    """One effective rule."""
    rule = load_rules(await ctx.stores.online.hgetall(keys.RULES)).get(id)
    if rule is None:
        raise NotFound(f"no rule {id!r}")
    return {"id": id, **rule.model_dump(mode="json")}


@router.delete("/rules/{id}", status_code=204)
async def delete_rule(
    id: Identifier, ctx: TenantContext = Depends(requires("write:tenant"))
) -> None:
    """Delete a rule, also a default one; alerts that only it could clear resolve."""
    if id not in load_rules(await ctx.stores.online.hgetall(keys.RULES)):
        raise NotFound(f"no rule {id!r}")
    if id in DEFAULT_RULES:
        await ctx.stores.online.hset(keys.RULES, id, "null")
    else:
        await ctx.stores.online.hdel(keys.RULES, id)


@router.get("/channels", responses={200: {"model": bodies.Channels}})
async def list_channels(ctx: TenantContext = Depends(requires("read:tenant"))) -> dict[str, Any]:
    """List the channels by name, without their secrets.

    One whose stored form cannot be read is left out, as nothing is sent to it.
    """
    stored = sorted((await ctx.stores.online.hgetall(keys.CHANNELS)).items())
    channels = {name.decode(): load_channel(name.decode(), text) for name, text in stored}
    return {"channels": {name: c.shown() for name, c in channels.items() if c is not None}}


@router.put("/channels/{id}", responses={200: {"model": bodies.ShownChannel}, 409: {}})
async def put_channel(
    id: Identifier, body: Channel, ctx: TenantContext = Depends(requires("write:tenant"))
) -> dict[str, Any]:
    """Create or replace a channel of a service. Rules name channels by their id.

    Secrets are stored and never shown; all that is to be kept must be sent again.
    """
    _check_channel(ctx.services, body)
    await put_entry(ctx, keys.CHANNELS, id, dump_channel(body))
    return {"id": id, **body.shown()}


@router.get("/channels/{id}", responses={200: {"model": bodies.ShownChannel}})
async def get_channel(
    id: Identifier, ctx: TenantContext = Depends(requires("read:tenant"))
) -> dict[str, Any]:
    """One channel, without its secrets."""
    channel = load_channel(id, await ctx.stores.online.hget(keys.CHANNELS, id))
    if channel is None:
        raise NotFound(f"no channel {id!r}, or it cannot be read: define it again")
    return {"id": id, **channel.shown()}


@router.delete("/channels/{id}", status_code=204, responses={409: {}})
async def delete_channel(
    id: Identifier, ctx: TenantContext = Depends(requires("write:tenant"))
) -> None:
    """Delete a channel.

    Conflict while a rule of the tenant's own names it: nobody would be notified.
    """
    rules = load_rules(await ctx.stores.online.hgetall(keys.RULES))
    naming = [n for n, rule in rules.items() if id in (*rule.channels, *rule.escalation)]
    naming = [name for name in naming if rules[name] != DEFAULT_RULES.get(name)]
    if naming:
        raise Conflict(f"the rule {sorted(naming)[0]!r} names the channel; change the rule first")
    if not await ctx.stores.online.hdel(keys.CHANNELS, id):
        raise NotFound(f"no channel {id!r}")


@router.get("/maintenance", responses={200: {"model": bodies.Windows}})
async def list_maintenance(ctx: TenantContext = Depends(requires("read:tenant"))) -> dict[str, Any]:
    """List all maintenance windows, and whether each is active now."""
    stored = await ctx.stores.online.hgetall(keys.WINDOWS)
    windows = sorted(load_windows(stored).items())
    return {"maintenance": {name: _window(window) for name, window in windows}}


@router.put("/maintenance/{id}", responses={200: {"model": bodies.StoredWindow}, 409: {}})
async def put_maintenance(
    id: Identifier, body: MaintenanceWindow, ctx: TenantContext = Depends(requires("write:tenant"))
) -> dict[str, Any]:
    """Create or replace a maintenance window.

    While it is active, nobody is notified of the series it matches.
    """
    await put_entry(ctx, keys.WINDOWS, id, body.model_dump_json(by_alias=True))
    return {"id": id, **_window(body)}


@router.get("/maintenance/{id}", responses={200: {"model": bodies.StoredWindow}})
async def get_maintenance(
    id: Identifier, ctx: TenantContext = Depends(requires("read:tenant"))
) -> dict[str, Any]:
    """One maintenance window, and whether it is active now."""
    stored = await ctx.stores.online.hget(keys.WINDOWS, id)
    window = load_windows({id.encode(): stored}).get(id) if stored else None
    if window is None:
        raise NotFound(f"no maintenance window {id!r}")
    return {"id": id, **_window(window)}


@router.delete("/maintenance/{id}", status_code=204)
async def delete_maintenance(
    id: Identifier, ctx: TenantContext = Depends(requires("write:tenant"))
) -> None:
    """Delete a maintenance window.

    Alerts that it suppressed notify with the next point, if they are still active.
    """
    if not await ctx.stores.online.hdel(keys.WINDOWS, id):
        raise NotFound(f"no maintenance window {id!r}")


async def put_entry(ctx: TenantContext, place: tuple[str, ...], id: str, text: str | bytes) -> None:
    """Create or replace an entry of a hash.

    Raises:
        Conflict: There are `MAX_ENTRIES` others already.
    """
    pipe = ctx.stores.online.pipeline()
    pipe.hexists(place, id).hlen(place)
    known, count = await pipe.execute()
    if not known and count >= MAX_ENTRIES:
        raise Conflict(f"there are {count} entries already; at most {MAX_ENTRIES} are allowed")
    await ctx.stores.online.hset(place, id, text)


def _check_channel_names(rule: Rule, defined: set[str], replaced: Rule | None) -> None:
    """Raise Invalid for names of channels that do not exist."""
    known = defined.union(*((replaced.channels, replaced.escalation) if replaced else ()))
    for field in ("channels", "escalation"):
        for index, name in enumerate(getattr(rule, field)):
            if name not in known:
                raise _invalid(
                    f"{field}.{index}", f"no channel {name!r}; define it first, or correct the name"
                )


def _check_channel(services: Services, channel: AnyChannel) -> None:
    """Raise Invalid for a channel that the operator's settings do not let be used."""
    if isinstance(channel, Webhook):
        try:
            services.egress.check_url(channel.url.get_secret_value())
        except EgressRefused as error:
            raise _invalid("url", str(error)) from None
    elif isinstance(channel, Email):
        server = services.settings(AnomalySettings).email
        if server is None:
            raise _invalid("type", "the platform is not set up to send e-mail; ask its operator")
        for index, address in enumerate(channel.to):
            if not server.takes(address):
                domains = ", ".join(server.domains)
                raise _invalid(f"to.{index}", f"e-mail can only be sent to {domains}")


def _invalid(location: str, message: str) -> Invalid:
    errors = [{"location": location, "message": message}]
    return Invalid(f"{location}: {message}", errors=errors)


def _window(window: MaintenanceWindow) -> dict[str, Any]:
    return {
        **window.model_dump(mode="json", by_alias=True),
        "active": window.is_active(datetime.now(UTC)),
    }
