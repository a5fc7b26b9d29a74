"""Names that are used in keys, paths and file names."""

import re
from typing import Annotated
from urllib.parse import quote

from pydantic import AfterValidator, WithJsonSchema

TENANT = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
CAPABILITY = re.compile(r"[a-z][a-z0-9_-]{0,31}")
ROLE = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")

_TEXT = re.compile("[^\x00-\x1f\x7f\ud800-\udfff]{1,512}")
_SECRET = re.compile("(shoal_[a-z2-7]{16}_)[a-z2-7]{32}")
_UNSAFE = re.compile(r"[:{}%\x00-\x1f\x7f-\U0010ffff]")


def mask_keys(text: str) -> str:
    """The text without the secrets of API keys, which people paste where ids belong."""
    return _SECRET.sub(r"\1…", text)


def check_tenant(name: str) -> str:
    """Validate a tenant's id, and return it.

    Ids are lower case, because some file systems ignore case.

    Raises:
        ValueError: The id is invalid.
    """
    if not TENANT.fullmatch(name):
        raise ValueError(
            "a tenant's id is 1 to 63 of a-z, 0-9, _ and -, beginning with a letter or digit"
        )
    return name


def check_role(name: str) -> str:
    """Validate the name of a role, and return it.

    Raises:
        ValueError: The name is invalid.
    """
    if not ROLE.fullmatch(name):
        raise ValueError(
            "a role's name is 1 to 64 letters, digits, _, . and -, beginning with a letter"
        )
    return name


def check_text(value: str) -> str:
    """Validate an id or a short text, and return it.

    Raises:
        ValueError: It is empty, has more than 512 characters, or contains a control
            character or a lone surrogate.
    """
    if not _TEXT.fullmatch(value):
        raise ValueError(
            "1 to 512 characters, none of them a control character or half of a surrogate pair"
        )
    return value


def check_id(value: str) -> str:
    """Validate an id, and return it.

    Raises:
        ValueError: It is no text that `check_text` accepts, or it is `.` or `..`, which
            clients and proxies remove from a path.
    """
    if value in (".", ".."):
        raise ValueError('"." and ".." cannot be ids')
    return check_text(value)


def encode(part: str) -> str:
    """Encode one part of a key.

    `:`, `{`, `}`, `%`, control characters and non-ASCII characters are percent-encoded,
    so a colon in a key always separates two parts.
    """
    if not _UNSAFE.search(part):
        return part
    return quote(part, safe="!\"#$&'()*+,-./;<=>?@[\\]^_`|~ ")


TenantId = Annotated[
    str,
    AfterValidator(check_tenant),
    WithJsonSchema({"type": "string", "pattern": f"^{TENANT.pattern}$", "maxLength": 63}),
]
RoleName = Annotated[
    str,
    AfterValidator(check_role),
    WithJsonSchema({"type": "string", "pattern": f"^{ROLE.pattern}$"}),
]
IDENTIFIER = {
    "type": "string",
    "minLength": 1,
    "maxLength": 512,
    "pattern": r"^(?!\.{1,2}$)[^\u0000-\u001f\u007f]+$",
}
"""The JSON schema of an `Identifier`."""
Identifier = Annotated[str, AfterValidator(check_id), WithJsonSchema(IDENTIFIER)]
"""The id of anything but a tenant: 1 to 512 characters without control characters.

Every other character is allowed, also `/`: in a path it is percent-encoded.
"""
