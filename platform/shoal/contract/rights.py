"""What callers may do: rights, and the roles that are sets of them."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Literal, get_args

Right = Literal[
    "read:own",
    "write:own",
    "read:boards",
    "write:boards",
    "read:tenant",
    "write:tenant",
    "admin:tenant",
    "admin:platform",
]
"""An action, and the data that it may touch.

`own` is the caller's own data (also what is nobody's, such as a calculation), `boards`
that of the boards that the caller may see, `tenant` everything of the tenant, and
`platform` every tenant.
"""
RIGHTS: tuple[Right, ...] = get_args(Right)

MEANINGS: Mapping[Right, str] = {
    "read:own": "read their own data",
    "write:own": "change their own data",
    "read:boards": "read data of the boards that they see",
    "write:boards": "change data of the boards that they see",
    "read:tenant": "read all data of the tenant",
    "write:tenant": "change all data of the tenant",
    "admin:tenant": "administer the tenant: its keys, roles and audit log",
    "admin:platform": "operate the platform",
}
"""What a caller with the right may do."""

PERSONAL: frozenset[Right] = frozenset({"read:own", "write:own", "read:boards", "write:boards"})
"""What a service may do at most while it acts for a user."""


class Role(StrEnum):
    """The built-in roles. `reader` ⊂ `editor` ⊂ `admin`."""

    reader = "reader"
    editor = "editor"
    admin = "admin"


_READ: frozenset[Right] = frozenset({"read:own", "read:boards", "read:tenant"})
_WRITE: frozenset[Right] = _READ | {"write:own", "write:boards", "write:tenant"}

SERVICE_RIGHTS: Mapping[str, frozenset[Right]] = {
    Role.reader: _READ,
    Role.editor: _WRITE,
    Role.admin: _WRITE | {"admin:tenant"},
}
"""The rights of a built-in role in a credential that has no user."""
USER_RIGHTS: Mapping[str, frozenset[Right]] = {
    Role.reader: _READ & PERSONAL,
    Role.editor: _WRITE & PERSONAL,
    Role.admin: SERVICE_RIGHTS[Role.admin],
}
"""The rights of a built-in role in a credential of a user."""
