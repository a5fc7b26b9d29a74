"""PATCH requests (RFC 7644, section 3.5.2)."""

from typing import Any, TypeVar

from scim2_models import Context, InvalidPathException, InvalidSyntaxException, PatchOp, Resource

from .resources import POLICY

R = TypeVar("R", bound=Resource[Any])
MAX_OPERATIONS = 100
MAX_PATH = 1000
"""The most characters of an operation's path."""


def read_patch(model: type[R], document: dict[str, Any]) -> PatchOp[R]:
    """The operations that a request carries.

    Raises:
        SCIMException, ValidationError: They are not valid, or too many.
    """
    operations = document.get("Operations", document.get("operations"))
    if isinstance(operations, list):
        if len(operations) > MAX_OPERATIONS:
            raise InvalidSyntaxException(detail=f"there are over {MAX_OPERATIONS} operations")
        for operation in operations:
            path = operation.get("path") if isinstance(operation, dict) else None
            if isinstance(path, str) and len(path) > MAX_PATH:
                raise InvalidPathException(detail=f"a path is over {MAX_PATH:,} characters")
    return PatchOp[model].model_validate(  # type: ignore[valid-type]
        document, scim_ctx=Context.RESOURCE_PATCH_REQUEST, scim_policy=POLICY
    )
