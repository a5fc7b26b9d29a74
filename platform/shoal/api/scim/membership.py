"""The members of a group in requests and responses.

A group may have ten thousand, and a request as many operations on them. The models of
scim2-models would take seconds for these, so that sets of ids take their place.
"""

import re
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from scim2_models import (
    InvalidFilterException,
    InvalidPathException,
    InvalidSyntaxException,
    InvalidValueException,
    PayloadTooLargeException,
)
from scim2_models.path import CompareOperator, Comparison, LogicalExpr, Not, Present, ValuePath

from .resources import Group, encode_id

MAX_MEMBERS = 10_000
"""The most members of a group that SCIM may change."""
PATH = re.compile(
    rf'({re.escape(str(Group.__schema__))}:)?members(\[\s*value\s+eq\s+"([^"\\]*)"\s*\])?', re.I
)
OPERATIONS = ("add", "remove", "replace")


def take_members(document: dict[str, Any]) -> list[str] | None:
    """Take `members` out of a group that was sent: ids of users; None if absent.

    Raises:
        SCIMException: They are not valid, or too many.
    """
    name = next((name for name in document if name.lower() == "members"), None)
    return None if name is None else read_ids(document.pop(name))


def read_ids(value: Any) -> list[str]:
    """The ids of users in a list of members, such as `[{"value": "YW5h"}]`."""
    entries = value if isinstance(value, list) else [] if value is None else [value]
    if len(entries) > MAX_MEMBERS:
        raise too_many()
    ids = [entry.get("value") if isinstance(entry, dict) else None for entry in entries]
    texts = [scim_id for scim_id in ids if isinstance(scim_id, str)]
    if len(texts) < len(ids):
        raise InvalidValueException(detail='members: each must be {"value": "<a user\'s id>"}')
    return texts


def patch_members(operations: Any, before: Collection[str]) -> tuple[set[str], list[Any]]:
    """Apply the operations of a PATCH that are on members.

    Args:
        operations: The operations, as decoded JSON.
        before: The ids of the members.

    Returns:
        The ids of the members afterwards, and the operations on something else.

    Raises:
        SCIMException: An operation is not valid.
    """
    ids, others = set(before), []
    for operation in operations if isinstance(operations, list) else ():
        taken = _take_operation(operation)
        if taken is None:
            others.append(operation)
            continue
        if operation.get("path") is None and operation["value"]:
            others.append(operation)  # the other attributes of its value
        kind, selected, value = taken
        if kind == "remove":
            ids -= {selected} if selected is not None else ids if value is None else {*value}
        elif selected is not None or value is None:
            raise InvalidPathException(detail=f"members cannot be changed by {kind} with this path")
        else:
            ids = {*value} if kind == "replace" else ids | {*value}
    return ids, others


def _take_operation(operation: Any) -> tuple[str, str | None, list[str] | None] | None:
    """An operation on members: its kind, the id that it selects, and its ids."""
    if not isinstance(operation, dict):
        return None
    path, value = operation.get("path"), operation.get("value")
    if isinstance(path, str) and "members" in path.lower():
        if (match := PATH.fullmatch(path)) is None:
            raise InvalidPathException(
                detail='members are selected by members or members[value eq "<a user\'s id>"]'
            )
        selected, ids = match[3], None if value is None else read_ids(value)
    elif path is None and isinstance(value, dict) and (ids := take_members(value)) is not None:
        selected = None
    else:
        return None
    kind = str(operation.get("op")).lower()
    if kind not in OPERATIONS or (kind == "remove" and path is None):
        raise InvalidSyntaxException(detail="op must be add, replace, or remove with a path")
    return kind, selected, ids


def member_documents(users: Sequence[str], base: str) -> list[dict[str, str]]:
    """Members as SCIM has them. `base` is the address of the service."""
    ids = map(encode_id, users)
    return [{"value": scim_id, "$ref": f"{base}/Users/{scim_id}"} for scim_id in ids]


def compared_members(node: Any) -> set[str]:
    """The ids of members that a filter compares with.

    Raises:
        InvalidFilterException: It compares members otherwise than by eq.
    """
    return set(_compared(node, inside=False))


def _compared(node: Any, *, inside: bool) -> Iterator[str]:
    if isinstance(node, LogicalExpr):
        for term in node.terms:
            yield from _compared(term, inside=inside)
    elif isinstance(node, Not):
        yield from _compared(node.expr, inside=inside)
    elif isinstance(node, ValuePath) and node.attr_path.attr.lower() == "members":
        yield from _compared(node.val_filter, inside=True)
    elif isinstance(node, Comparison | Present):
        if not inside and node.attr_path.attr.lower() != "members":
            return
        if not isinstance(node, Comparison) or node.op is not CompareOperator.eq:
            raise InvalidFilterException(detail="members can be filtered by eq only")
        if isinstance(node.value, str):
            yield node.value


def too_many() -> PayloadTooLargeException:
    return PayloadTooLargeException(
        detail=f"a group that SCIM changes has at most {MAX_MEMBERS:,} members"
    )
