"""Who is calling, for which tenant, within which limits, in which experiments."""

from shoal.tenants.directory import Directory
from shoal.tenants.records import PLATFORM, AuditEntry, Caller, KeyRecord, Limits, TenantRecord
from shoal.tenants.snapshot import Snapshot

from .credentials import mint_internal
from .direct import directly
from .middleware import Router
from .problems import JSON, install_problem_handlers
from .routes import enforce_roles
from .service import service_context
from .settings import JWTIssuer, RouterSettings

__all__ = [
    "JSON",
    "PLATFORM",
    "AuditEntry",
    "Caller",
    "Directory",
    "JWTIssuer",
    "KeyRecord",
    "Limits",
    "Router",
    "RouterSettings",
    "Snapshot",
    "TenantRecord",
    "directly",
    "enforce_roles",
    "install_problem_handlers",
    "mint_internal",
    "service_context",
]
