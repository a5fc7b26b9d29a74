"""The long-term store that a deployment is configured with."""

from pydantic import BaseModel, ConfigDict, Field

from shoal import TenantContext

from .archive import Archive, LakeArchive
from .influx import InfluxArchive


class StoreSettings(BaseModel):
    """The capability's section of the configuration.

    series: `influxdb://…`; empty for the lake.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    series: str = Field("", repr=False)


def open_archive(ctx: TenantContext) -> Archive:
    """The long-term store of the tenant's series."""
    uri = ctx.services.settings(StoreSettings).series
    return InfluxArchive(uri, ctx.tenant, ctx.services.egress) if uri else LakeArchive(ctx.stores)
