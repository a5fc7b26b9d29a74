"""Where the directory is in Redis, and the scripts that change it.

All keys begin with `{%shoal}:` (no tenant's key does: an id begins with a letter or a
digit) and are in one Cluster slot. Below that prefix:

    tenant:<tenant>                   hash: tenant, key/<id>, role/<name>,
                                      limits/<capability>, parameters/<capability>,
                                      changed/<capability>/<parameter> (a time),
                                      experiment/<id>
    keys                              hash: key id → tenant
    version                           counts changes; each is published to `changed`
    changes                           sorted set: tenant → version of its latest change
    erased                            sorted set: erased tenant → time
    erased_meanwhile:<tenant>         hash: store → what work erased itself; expires
    boards:<tenant>                   set of boards
    board:<tenant>:<board>            set of the board's users
    user:<tenant>:<user>              set of the user's boards
    role_names:<tenant>               set of roles that have members
    role:<tenant>:<role>              set of the users whom the role is given
    user_roles:<tenant>:<user>        set of the roles given to the user
    user_records:<tenant>             hash: user → record of a provisioned user
    user_order:<tenant>               sorted set of these users, by their ids
    user_external:<tenant>            hash: id at the identity provider → user
    inactive:<tenant>                 set of users who are refused
    group_records:<tenant>            hash: board or role → its record
    audit:<tenant>                    stream of audit entries
    exposed:<tenant>                  set of experiments
    exposed:<tenant>:<experiment>     set of digests of exposures that were logged
    capabilities                      set of capabilities that had requests
    active:<capability>               sorted set: tenant → minute of its latest request
    minute:<capability>:<minute>:<tenant>   hash of request counts; expires
    users:<capability>:<minute>:<tenant>    HyperLogLog of users; expires
    closed:<capability>:<minute>      a replica appends that minute's metrics; expires
    replicas:<capability>             sorted set: replica → time of its last heartbeat
    watch:<capability>:<replica>      what it reports of its event loop; expires
    ceiling:<tenant>                  hash: its bucket of all capabilities; expires
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
if ARGV[4] ~= '' and redis.call('HEXISTS', KEYS[1], ARGV[3]) == 0
  and redis.call('HLEN', KEYS[1]) >= 10000 then return -3 end
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
Returns the number of changed fields, -1 or -2 where the condition failed, -3 where the
hash has as many fields as it may.
"""

MEMBERS = """
local groups, group, users, tenant, name = KEYS[4], KEYS[5], ARGV[1], ARGV[2], ARGV[3]
local added, removed, last = {}, {}, 7 + tonumber(ARGV[6])
if ARGV[5] == 'known' and redis.call('SISMEMBER', groups, name) == 0 then return {-1} end
for i = last + 1, #ARGV do
  if redis.call('SREM', group, ARGV[i]) == 1 then
    redis.call('SREM', users .. ARGV[i], name)
    removed[#removed + 1] = ARGV[i]
  end
end
if redis.call('SCARD', group) + last - 7 > tonumber(ARGV[7]) then return {-2} end
for i = 8, last do
  if redis.call('SADD', group, ARGV[i]) == 1 then
    redis.call('SADD', users .. ARGV[i], name)
    added[#added + 1] = ARGV[i]
  end
end
local known = redis.call(ARGV[4], groups, name)
if known + #added + #removed > 0 then
  redis.call('ZADD', KEYS[2], redis.call('INCR', KEYS[1]), tenant)
  redis.call('PUBLISH', KEYS[3], tenant)
end
return {known, added, removed}
"""
"""Change the members of a board or role, in both directions, and announce the change.

KEYS: `version`, `changes`, the channel, the set of groups, the group's users. ARGV: the
prefix of the keys of users, the tenant, the group, SADD or SREM for the set of groups,
`known` where it must be in that, the number of users to add, the most members, then
these users, then those to remove. Returns what happened to the set of groups (-1: no
such group, -2: too many members, none were added), the users added, and those removed.
"""

PUT_USER = """
local tenant, user, before, record, external = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local now = redis.call('HGET', KEYS[4], user) or ''
if now ~= before then return -1 end
local holder = external ~= '' and redis.call('HGET', KEYS[6], external)
if holder and holder ~= user then return -2 end
if before == '' and redis.call('ZCARD', KEYS[5]) >= tonumber(ARGV[8]) then return -3 end
if ARGV[6] ~= '' then redis.call('HDEL', KEYS[6], ARGV[6]) end
if record == '' then
  redis.call('HDEL', KEYS[4], user)
  redis.call('ZREM', KEYS[5], user)
else
  redis.call('HSET', KEYS[4], user, record)
  redis.call('ZADD', KEYS[5], 0, user)
  if external ~= '' then redis.call('HSET', KEYS[6], external, user) end
end
redis.call(ARGV[7] == '1' and 'SREM' or 'SADD', KEYS[7], user)
redis.call('ZADD', KEYS[2], redis.call('INCR', KEYS[1]), tenant)
redis.call('PUBLISH', KEYS[3], tenant)
return 1
"""
"""Create, replace or delete the record of a provisioned user, and announce the change.

KEYS: `version`, `changes`, the channel, the records, their order, the external ids, the
inactive users. ARGV: the tenant, the user, the record that must be there ('' for none),
the new record ('' deletes), its external id, the former external id, 1 if the user is
active, the most users. Returns 1; -1 where another record was there, -2 where another
user has the external id, -3 where there are too many users.
"""


def tenant_key(tenant: str) -> str:
    return f"{PREFIX}tenant:{tenant}"


def erased_meanwhile_key(tenant: str) -> str:
    return f"{PREFIX}erased_meanwhile:{tenant}"


def user_key(tenant: str, user: str) -> str:
    return f"{PREFIX}user:{tenant}:{user}"


def boards_key(tenant: str) -> str:
    return f"{PREFIX}boards:{tenant}"


def board_key(tenant: str, board: str) -> str:
    return f"{PREFIX}board:{tenant}:{board}"


def role_names_key(tenant: str) -> str:
    return f"{PREFIX}role_names:{tenant}"


def role_key(tenant: str, role: str) -> str:
    return f"{PREFIX}role:{tenant}:{role}"


def user_roles_key(tenant: str, user: str) -> str:
    return f"{PREFIX}user_roles:{tenant}:{user}"


def user_records_key(tenant: str) -> str:
    return f"{PREFIX}user_records:{tenant}"


def user_order_key(tenant: str) -> str:
    return f"{PREFIX}user_order:{tenant}"


def user_external_key(tenant: str) -> str:
    return f"{PREFIX}user_external:{tenant}"


def inactive_key(tenant: str) -> str:
    return f"{PREFIX}inactive:{tenant}"


def group_records_key(tenant: str) -> str:
    return f"{PREFIX}group_records:{tenant}"


def audit_key(tenant: str) -> str:
    return f"{PREFIX}audit:{tenant}"


def exposed_key(tenant: str, experiment: str | None = None) -> str:
    return f"{PREFIX}exposed:{tenant}" + ("" if experiment is None else f":{experiment}")


def active_key(capability: str) -> str:
    return f"{PREFIX}active:{capability}"


def replicas_key(capability: str) -> str:
    return f"{PREFIX}replicas:{capability}"


def watch_key(capability: str, replica: str) -> str:
    return f"{PREFIX}watch:{capability}:{replica}"


def ceiling_key(tenant: str) -> str:
    return f"{PREFIX}ceiling:{tenant}"


def minute_keys(capability: str, minute: int, tenant: str) -> tuple[str, str]:
    """The request counts of a tenant's minute, and its users. Both expire."""
    return (
        f"{PREFIX}minute:{capability}:{minute}:{tenant}",
        f"{PREFIX}users:{capability}:{minute}:{tenant}",
    )
