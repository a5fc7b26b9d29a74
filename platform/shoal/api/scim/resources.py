"""The SCIM resources that Shoal has: users, and groups that are boards or roles."""

import base64
import binascii
import hashlib
from typing import Annotated, Any, ClassVar

from pydantic import Field
from scim2_models import (
    URN,
    AuthenticationScheme,
    Bulk,
    CaseExact,
    ChangePassword,
    ComplexAttribute,
    Context,
    ETag,
    Filter,
    InvalidValueException,
    Meta,
    Mutability,
    Patch,
    Reference,
    Required,
    Resource,
    Returned,
    ScimPolicy,
    ScimProvider,
    ServiceProviderConfig,
    Sort,
    Uniqueness,
)

from shoal.contract.names import check_text
from shoal.tenants.records import GroupRecord, UserRecord

PAGE = 100
"""The most resources of one answer."""
MAX_EMAILS = 20
PROFILE = ("name", "displayName", "emails")
ROLE_PREFIX = "role:"
"""A group whose name begins so gives a role to its members; any other is a board."""

POLICY = ScimPolicy(
    unknown=ScimPolicy.Unknown.ignore,
    remove_value_as_filter=ScimPolicy.RemoveValue.apply,
    unmatched_path_filter=ScimPolicy.UnmatchedPathFilter.create,
)
"""What identity providers send is taken: attributes that Shoal does not keep are
ignored, and Microsoft Entra's forms of PATCH are understood.
"""


class Name(ComplexAttribute):
    formatted: str | None = None
    """The full name."""
    family_name: str | None = None
    """The family name."""
    given_name: str | None = None
    """The given name."""


class Email(ComplexAttribute):
    value: str | None = None
    """The address."""
    type: str | None = None
    """What the address is for, such as work or home."""
    primary: bool | None = None
    """Whether it is the preferred address."""


class UserGroup(ComplexAttribute):
    value: Annotated[str | None, Mutability.read_only, CaseExact.true] = None
    """The id of the group."""
    display: Annotated[str | None, Mutability.read_only] = None
    """The name of the group."""


class User(Resource[Any]):
    """A user. Those attributes of RFC 7643 that Shoal does not use are not kept."""

    __schema__ = URN("urn:ietf:params:scim:schemas:core:2.0:User")

    user_name: Annotated[
        str | None, Uniqueness.server, Required.true, Mutability.immutable, CaseExact.true
    ] = None
    """The user's id in Shoal: the subject of the user's tokens, and of Shoal-User."""
    name: Name | None = None
    """The parts of the user's name."""
    Name: ClassVar[type[ComplexAttribute]] = Name
    display_name: str | None = None
    """The name shown to people."""
    active: bool | None = None
    """Whether the user may use the platform."""
    emails: list[Email] | None = None
    """The user's addresses."""
    Emails: ClassVar[type[ComplexAttribute]] = Email
    groups: Annotated[list[UserGroup] | None, Mutability.read_only, Returned.request] = None
    """The boards and roles of the user."""
    Groups: ClassVar[type[ComplexAttribute]] = UserGroup


class Member(ComplexAttribute):
    value: Annotated[str | None, Mutability.immutable, CaseExact.true, Required.true] = None
    """The id of the user."""
    ref: Annotated[Reference[User] | None, Mutability.immutable] = Field(
        None, serialization_alias="$ref", validation_alias="$ref"
    )
    """The address of the user."""


class Group(Resource[Any]):
    """A board, or a role (`role:editor`), and its members."""

    __schema__ = URN("urn:ietf:params:scim:schemas:core:2.0:Group")

    display_name: Annotated[
        str | None, Uniqueness.server, Required.true, Mutability.immutable, CaseExact.true
    ] = None
    """The id of a board, or `role:` and the name of a role."""
    members: list[Member] | None = None
    """The users who may see the board, or whom the role is given."""
    Members: ClassVar[type[ComplexAttribute]] = Member


CONFIG = ServiceProviderConfig(
    patch=Patch(supported=True),
    bulk=Bulk(supported=False, max_operations=0, max_payload_size=0),
    filter=Filter(supported=True, max_results=PAGE),
    change_password=ChangePassword(supported=False),
    sort=Sort(supported=False),
    etag=ETag(supported=True),
    authentication_schemes=[
        AuthenticationScheme(
            type=AuthenticationScheme.Type.oauthbearertoken,
            name="API key",
            description="An API key of the tenant with the role admin, as a bearer token",
            primary=True,
        )
    ],
)
PROVIDER = ScimProvider(models=[User, Group], config=CONFIG, policy=POLICY)


def encode_id(name: str) -> str:
    """The id of a user or group in SCIM, for its id in Shoal."""
    return base64.urlsafe_b64encode(name.encode()).rstrip(b"=").decode()


def decode_id(scim_id: str) -> str | None:
    """The reverse of `encode_id`; None where nothing has this id."""
    try:
        padded = scim_id + "=" * (-len(scim_id) % 4)
        name = check_text(base64.b64decode(padded, altchars=b"-_", validate=True).decode())
    except (binascii.Error, ValueError):
        return None
    return name if encode_id(name) == scim_id else None


def user_resource(record: UserRecord, base: str, groups: list[str] | None = None) -> User:
    """A user as SCIM has it. `base` is the address of the service."""
    user = User.model_validate({"schemas": [str(User.__schema__)], **record.profile})
    user.id, user.user_name = encode_id(record.id), record.id
    user.external_id, user.active = record.external_id, record.active
    user.meta = Meta(
        resource_type="User",
        created=record.created,
        last_modified=record.modified,
        location=f"{base}/Users/{user.id}",
        version=version_of(record.model_dump_json()),
    )
    if groups is not None:
        user.groups = [UserGroup(value=encode_id(name), display=name) for name in groups]
    return user


def user_record(user: User, before: UserRecord | None = None) -> UserRecord:
    """The record of a user who was sent.

    Raises:
        InvalidValueException: A text is too long, or has control characters.
    """
    document = user.model_dump(scim_ctx=Context.DEFAULT)
    profile = {name: document[name] for name in PROFILE if document.get(name) is not None}
    if len(user.emails or []) > MAX_EMAILS:
        raise InvalidValueException(detail=f"a user has at most {MAX_EMAILS} emails")
    _check_texts(profile, "")
    fields: dict[str, Any] = {
        "id": checked(user.user_name, "userName"),
        "external_id": None
        if user.external_id is None
        else checked(user.external_id, "externalId"),
        "active": user.active,
        "profile": profile,
    }
    if before is not None:
        fields["created"] = before.created
    return UserRecord(**fields)


def group_resource(name: str, record: GroupRecord, members: list[str] | None, base: str) -> Group:
    """A group as SCIM has it, without its members.

    Its version is that of the record and of `members`; None where they were not read.
    """
    scim_id = encode_id(name)
    group = Group(id=scim_id, display_name=name, external_id=record.external_id)
    group.meta = Meta(
        resource_type="Group",
        created=record.created,
        last_modified=record.modified,
        location=f"{base}/Groups/{scim_id}",
    )
    if members is not None:
        group.meta.version = version_of("\0".join([record.model_dump_json(), *members]))
    return group


def version_of(text: str) -> str:
    """A weak entity tag of a resource's content."""
    return f'W/"{hashlib.blake2b(text.encode(), digest_size=12).hexdigest()}"'


def checked(value: str | None, attribute: str) -> str:
    """A text that is an id. Raises InvalidValueException if it is not valid."""
    try:
        return check_text(value or "")
    except ValueError as error:
        raise InvalidValueException(detail=f"{attribute}: {error}") from None


def _check_texts(value: Any, path: str) -> None:
    if isinstance(value, dict):
        for name, inner in value.items():
            _check_texts(inner, f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        for inner in value:
            _check_texts(inner, path)
    elif isinstance(value, str) and value:
        checked(value, path)
