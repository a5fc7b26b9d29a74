"""Filters: which resources may match, and which do."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, TypeVar

from scim2_models import Resource, ScimFilter, TooManyException
from scim2_models.path import CompareOperator, Comparison, LogicalExpr, LogicalOperator

R = TypeVar("R", bound=Resource[Any])
MAX_SCANNED = 5000
"""The most resources that a filter is tried on."""
CHUNK = 50
"""Resources tried before other requests have their turn."""


def required_value(node: Any, attribute: str) -> str | None:
    """The text that an attribute must equal for a filter to match; None if any may."""
    if isinstance(node, LogicalExpr) and node.op is LogicalOperator.and_:
        for term in node.terms:
            if (found := required_value(term, attribute)) is not None:
                return found
    if not isinstance(node, Comparison) or node.op is not CompareOperator.eq:
        return None
    path, value = node.attr_path, node.value
    same = path.sub_attr is None and path.attr.lower() == attribute.lower()
    return value if same and isinstance(value, str) else None


async def matching(condition: ScimFilter[R], resources: AsyncIterator[R]) -> list[R]:
    """The resources that a filter matches.

    Raises:
        TooManyException: There are more resources than it may be tried on.
    """
    found, tried = [], 0
    async for resource in resources:
        tried += 1
        if tried > MAX_SCANNED:
            raise TooManyException(
                detail=f"the filter would be tried on more than {MAX_SCANNED:,} resources:"
                " filter by userName, externalId, displayName or id with eq"
            )
        if condition.match(resource):
            found.append(resource)
        if tried % CHUNK == 0:
            await asyncio.sleep(0)
    return found
