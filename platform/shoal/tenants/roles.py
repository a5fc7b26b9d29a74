"""Roles that a tenant defines, and the rights that a credential's role gives."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pydantic import ValidationError

from shoal.contract.batch import validation_errors
from shoal.contract.errors import Conflict, Invalid, NotFound
from shoal.contract.rights import PERSONAL, SERVICE_RIGHTS, USER_RIGHTS, Right, Role

from .records import PLATFORM, RoleRecord

if TYPE_CHECKING:
    from .directory import Directory

MAX_ROLES = 100
"""Roles that one tenant may define."""
OPERATE: frozenset[Right] = frozenset({"admin:platform"})
NOTHING: frozenset[Right] = frozenset()


class Roles:
    """The roles of each tenant, part of the directory.

    Those of the tenant `platform` are for every tenant that has none of that name.

    Every operation raises:
        NotFound: There is no such tenant or role.
        Unavailable: Redis cannot be reached.
    """

    def __init__(self, directory: "Directory") -> None:
        self._directory = directory

    async def put(self, tenant: str, name: str, rights: frozenset[Right]) -> RoleRecord:
        """Define a role, or change its rights.

        Raises:
            Conflict: A built-in role has the name, or the tenant has too many.
            Invalid: The name or the rights are not valid.
        """
        if name in SERVICE_RIGHTS:
            raise Conflict(f"{name!r} is a built-in role: choose another name")
        try:
            record = RoleRecord(name=name, rights=rights)
        except ValidationError as error:
            raise Invalid("Invalid role", errors=validation_errors(error)) from None
        if name not in (defined := await self.list(tenant)) and len(defined) >= MAX_ROLES:
            raise Conflict(f"a tenant defines at most {MAX_ROLES} roles: delete one first")
        await self._directory.edit(tenant, {f"role/{name}": record.model_dump_json()}, guard="old")
        return record

    async def delete(self, tenant: str, name: str) -> None:
        """Delete a role. Credentials that carry it may do nothing any more.

        Raises:
            Conflict: The role is a built-in one.
            NotFound: The tenant has not defined it.
        """
        if name in SERVICE_RIGHTS:
            raise Conflict(f"{name!r} is a built-in role, which cannot be deleted")
        if not await self._directory.edit(tenant, {f"role/{name}": ""}):
            raise NotFound(f"no role {name!r}")

    async def list(self, tenant: str) -> dict[str, RoleRecord]:
        """The roles that a tenant defined, by name."""
        fields = await self._directory.fields(tenant, "role")
        return {name: RoleRecord.model_validate_json(fields[name]) for name in sorted(fields)}

    async def rights(self, tenant: str, role: str, user: str | None) -> frozenset[Right]:
        """The rights that a credential of a tenant would have.

        Raises:
            Invalid: There is no such role.
        """
        defined = {**await self.list(PLATFORM), **await self.list(tenant)}
        if role not in SERVICE_RIGHTS and role not in defined:
            known = ", ".join([*Role, *defined])
            raise Invalid(
                f"no role {role[:100]!r}; the roles are {known}",
                errors=[{"location": "role", "message": "unknown"}],
            )
        custom = {name: record.rights for name, record in defined.items()}
        return rights_of(tenant, role, custom, has_user=user is not None)


def rights_of(
    tenant: str, role: str, custom: Mapping[str, frozenset[Right]], *, has_user: bool
) -> frozenset[Right]:
    """The rights that a credential has by its role; none where the role is not defined.

    Args:
        tenant: The credential's tenant.
        role: The name of its role.
        custom: The rights of the roles that are not built in.
        has_user: Whether it is of a user. Of the built-in roles, only `admin` then has
            rights over the whole tenant.
    """
    built_in = (USER_RIGHTS if has_user else SERVICE_RIGHTS).get(role)
    rights = custom.get(role, NOTHING) if built_in is None else built_in
    if tenant != PLATFORM:
        return rights - OPERATE
    return rights | OPERATE if role == Role.admin else rights


def rights_for_user(rights: frozenset[Right]) -> frozenset[Right]:
    """What remains of a service's rights while it acts for a user."""
    return rights & PERSONAL
