"""Shoal: AI features for many tenants on one Ray cluster.

These are the public names, for plugins and clients.
"""

from .client.http import AsyncClient, Client
from .contract.batch import (
    Batch,
    BatchResult,
    RowError,
    describe_validation_error,
    off_loop,
    read_object,
    read_rows,
    rows_body,
    split_lines,
    validate_rows,
    validation_errors,
)
from .contract.bounds import Integer, JsonObject, Number, Text
from .contract.capability import (
    Backend,
    Capability,
    Job,
    JobContext,
    PageContext,
    Scaling,
    Stream,
    Study,
)
from .contract.context import (
    Operations,
    Services,
    TenantContext,
    current_tenant,
    requires,
)
from .contract.cursors import Cursor, read_cursor, write_cursor
from .contract.errors import (
    Conflict,
    Forbidden,
    InternalError,
    Invalid,
    LimitExceeded,
    Malformed,
    NotFound,
    QuotaExceeded,
    ShoalError,
    TooLarge,
    Unauthenticated,
    Unavailable,
    UnsupportedMediaType,
)
from .contract.events import Event
from .contract.experiments import (
    Condition,
    ExperimentRecord,
    Holdout,
    Variant,
    overlapping_experiments,
)
from .contract.hookspecs import hookimpl
from .contract.json_text import load_json
from .contract.names import Identifier, TenantId
from .contract.parameters import Parameters
from .contract.rights import Right, Role
from .contract.stores import Stores
from .contract.usage import Meter, Usage
from .contract.vectors import AnyOf, Between, Equals, FieldKind, Hit, Not, VectorSchema
from .contract.vectors import Condition as VectorCondition
from .egress.egress import Egress
from .egress.policy import EgressRefused
from .router.assignment import Assigner, assignment_bucket
from .runtime.operator_client import operator_client

__version__ = "0.1.0"

__all__ = [
    "AnyOf",
    "Assigner",
    "AsyncClient",
    "Backend",
    "Batch",
    "BatchResult",
    "Between",
    "Capability",
    "Client",
    "Condition",
    "Conflict",
    "Cursor",
    "Egress",
    "EgressRefused",
    "Equals",
    "Event",
    "ExperimentRecord",
    "FieldKind",
    "Forbidden",
    "Hit",
    "Holdout",
    "Identifier",
    "Integer",
    "InternalError",
    "Invalid",
    "Job",
    "JobContext",
    "JsonObject",
    "LimitExceeded",
    "Malformed",
    "Meter",
    "Not",
    "NotFound",
    "Number",
    "Operations",
    "PageContext",
    "Parameters",
    "QuotaExceeded",
    "Right",
    "Role",
    "RowError",
    "Scaling",
    "Services",
    "ShoalError",
    "Stores",
    "Stream",
    "Study",
    "TenantContext",
    "TenantId",
    "Text",
    "TooLarge",
    "Unauthenticated",
    "Unavailable",
    "UnsupportedMediaType",
    "Usage",
    "Variant",
    "VectorCondition",
    "VectorSchema",
    "assignment_bucket",
    "current_tenant",
    "describe_validation_error",
    "hookimpl",
    "load_json",
    "off_loop",
    "operator_client",
    "overlapping_experiments",
    "read_cursor",
    "read_object",
    "read_rows",
    "requires",
    "rows_body",
    "split_lines",
    "validate_rows",
    "validation_errors",
    "write_cursor",
]
