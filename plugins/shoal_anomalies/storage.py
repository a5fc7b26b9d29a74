"""The long-term store that a deployment is configured with."""

from shoal import TenantContext

from .archive import Archive, LakeArchive
from .influx import InfluxArchive
from .settings import AnomalySettings


def open_archive(ctx: TenantContext) -> Archive:
    """The long-term store of the tenant's series."""
    uri = ctx.services.settings(AnomalySettings).series
    return InfluxArchive(uri, ctx.tenant, ctx.services.egress) if uri else LakeArchive(ctx.stores)
