"""Where the directory lies in Redis, and the scripts that change it.

Everything lies under `{%shoal}:`, which no tenant's key can be (a tenant's id begins
with a letter or digit), in one Cluster slot:

    {%shoal}:tenant:<tenant>          hash: tenant, key/<id>, limits/<capability>, parameters/<capability>, experiment/<id>
    {%shoal}:keys                     hash: key id → tenant
    {%shoal}:version                  counts changes; each is announced on the channel {%shoal}:changed
    {%shoal}:changes                  sorted set: tenant → version of its latest change
    {%shoal}:boards:<tenant>          set of boards; {%shoal}:board:<tenant>:<board> its users; {%shoal}:user:<tenant>:<user> the reverse
    {%shoal}:audit:<tenant>           stream
    {%shoal}:exposed:<tenant>         set of experiments; {%shoal}:exposed:<tenant>:<experiment> digests of exposures logged
    {%shoal}:active:<capability>      sorted set: tenant → minute of its latest request; {%shoal}:capabilities those there are
    {%shoal}:minute|users:<capability>:<minute>:<tenant>   the account's counts and its HyperLogLog of users; they expire
    {%shoal}:closed:<capability>:<minute>                  somebody appends that minute's metrics; expires
    {%shoal}:replicas:<capability>    sorted set: replica → time of its last sign of life
"""

PREFIX = "{%shoal}:"
VERSION, CHANGES, CHANNEL, KEYS, CAPABILITIES = (
    PREFIX + name for name in ("version", "changes", "changed", "keys", "capabilities")
)
AUDIT_LENGTH = 100_000
NOTICE_SECONDS = 1.0
ERASED = PREFIX + "erased"
"""Sorted set: the tenants erased lately, by when, for work that outlasts an erasure."""
ERASED_SECONDS = 7 * 86_400

EDIT = """
local exists = redis.call('HEXISTS', KEYS[1], 'tenant')
if ARGV[2] == 'new' and exists == 1 then return -1 end
if ARGV[2] == 'old' and exists == 0 then return -2 end
local done = 0
for i = 3, #ARGV, 2 do
  if ARGV[i + 1] == '' then done = done + redis.call('HDEL', KEYS[1], ARGV[i])
  else redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]); done = done + 1 end
end
if done > 0 then
  redis.call('ZADD', KEYS[3], redis.call('INCR', KEYS[2]), ARGV[1])
  redis.call('PUBLISH', KEYS[4], ARGV[1])
end
return done
"""
"""Set (or, given '', delete) fields of a tenant's hash and announce the change, all or
nothing.
"""

MEMBERS = """
local boards, board, users, tenant, name = KEYS[4], KEYS[5], ARGV[1], ARGV[2], ARGV[3]
local wanted = {}
for i = 5, #ARGV do wanted[ARGV[i]] = true end
for _, user in ipairs(redis.call('SMEMBERS', board)) do
  if not wanted[user] then redis.call('SREM', board, user); redis.call('SREM', users .. user, name) end
end
for user, _ in pairs(wanted) do redis.call('SADD', board, user); redis.call('SADD', users .. user, name) end
local known = redis.call(ARGV[4], boards, name)
redis.call('ZADD', KEYS[2], redis.call('INCR', KEYS[1]), tenant)
redis.call('PUBLISH', KEYS[3], tenant)
return known
"""
"""Make the given users all that a board has, in both directions; ARGV[4] (SADD or SREM)
is done to the set of boards.
"""


def tenant_key(tenant: str) -> str:
    return f"{PREFIX}tenant:{tenant}"


def user_key(tenant: str, user: str) -> str:
    return f"{PREFIX}user:{tenant}:{user}"


def exposed_key(tenant: str, experiment: str | None = None) -> str:
    return f"{PREFIX}exposed:{tenant}" + ("" if experiment is None else f":{experiment}")


def active_key(capability: str) -> str:
    return f"{PREFIX}active:{capability}"


def minute_keys(capability: str, minute: int, tenant: str) -> tuple[str, str]:
    """The account of one tenant's minute: a hash of counts, and a HyperLogLog of its
    users. They expire by themselves.
    """
    return (
        f"{PREFIX}minute:{capability}:{minute}:{tenant}",
        f"{PREFIX}users:{capability}:{minute}:{tenant}",
    )
