"""Where the directory is in Redis, and the scripts that change it.

All keys begin with `{%shoal}:` (no tenant's key does: an id begins with a letter or a
digit) and are in one Cluster slot. Below that prefix:

    tenant:<tenant>                   hash: tenant, key/<id>, limits/<capability>,
                                      parameters/<capability>, experiment/<id>
    keys                              hash: key id → tenant
    version                           counts changes; each is published to `changed`
    changes                           sorted set: tenant → version of its latest change
    erased                            sorted set: erased tenant → time
    boards:<tenant>                   set of boards
    board:<tenant>:<board>            set of the board's users
    user:<tenant>:<user>              set of the user's boards
    audit:<tenant>                    stream of audit entries
    exposed:<tenant>                  set of experiments
    exposed:<tenant>:<experiment>     set of digests of exposures that were logged
    capabilities                      set of capabilities that had requests
    active:<capability>               sorted set: tenant → minute of its latest request
    minute:<capability>:<minute>:<tenant>   hash of request counts; expires
    users:<capability>:<minute>:<tenant>    HyperLogLog of users; expires
    closed:<capability>:<minute>      a replica appends that minute's metrics; expires
    replicas:<capability>             sorted set: replica → time of its last heartbeat
"""

PREFIX = "{%shoal}:"
VERSION, CHANGES, CHANNEL, KEYS, CAPABILITIES = (
    PREFIX + name for name in ("version", "changes", "changed", "keys", "capabilities")
)
AUDIT_LENGTH = 100_000
NOTICE_SECONDS = 1.0
ERASED = PREFIX + "erased"
"""The tenants erased recently, for work that outlasts an erasure."""
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
"""Set fields of a tenant's hash and announce the change.

KEYS: the tenant's hash, `version`, `changes`, the channel. ARGV: the tenant; `new` or
`old` where it must not exist yet or must exist; then field, value, … ('' deletes).
Returns the number of changed fields, -1 or -2 where the condition failed.
"""

MEMBERS = """
local boards, board, users, tenant, name = KEYS[4], KEYS[5], ARGV[1], ARGV[2], ARGV[3]
local wanted = {}
for i = 5, #ARGV do wanted[ARGV[i]] = true end
for _, user in ipairs(redis.call('SMEMBERS', board)) do
  if not wanted[user] then
    redis.call('SREM', board, user)
    redis.call('SREM', users .. user, name)
  end
end
for user, _ in pairs(wanted) do
  redis.call('SADD', board, user)
  redis.call('SADD', users .. user, name)
end
local known = redis.call(ARGV[4], boards, name)
redis.call('ZADD', KEYS[2], redis.call('INCR', KEYS[1]), tenant)
redis.call('PUBLISH', KEYS[3], tenant)
return known
"""
"""Replace a board's members, in both directions, and announce the change.

KEYS: `version`, `changes`, the channel, the set of boards, the board's users. ARGV: the
prefix of users' keys, the tenant, the board, SADD or SREM for the set of boards, then
the users. Returns what the last did to the set of boards.
"""


def tenant_key(tenant: str) -> str:
    return f"{PREFIX}tenant:{tenant}"


def user_key(tenant: str, user: str) -> str:
    return f"{PREFIX}user:{tenant}:{user}"


def boards_key(tenant: str) -> str:
    return f"{PREFIX}boards:{tenant}"


def board_key(tenant: str, board: str) -> str:
    return f"{PREFIX}board:{tenant}:{board}"


def audit_key(tenant: str) -> str:
    return f"{PREFIX}audit:{tenant}"


def exposed_key(tenant: str, experiment: str | None = None) -> str:
    return f"{PREFIX}exposed:{tenant}" + ("" if experiment is None else f":{experiment}")


def active_key(capability: str) -> str:
    return f"{PREFIX}active:{capability}"


def minute_keys(capability: str, minute: int, tenant: str) -> tuple[str, str]:
    """The request counts of a tenant's minute, and its users. Both expire."""
    return (
        f"{PREFIX}minute:{capability}:{minute}:{tenant}",
        f"{PREFIX}users:{capability}:{minute}:{tenant}",
    )
