"""Which long-term store a tenant's series are in."""

from pydantic import BaseModel, ConfigDict, Field

from shoal import TenantContext

from .archive import Archive, LakeArchive
from .influx import InfluxArchive


class StoreSettings(BaseModel):
    """The capability's section of the configuration. `series` is `influxdb://…`; empty:
    the lake.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    series: str = Field("", repr=False)


def archive_of(settings: StoreSettings, ctx: TenantContext) -> Archive:
    return (
        InfluxArchive(settings.series, ctx.tenant) if settings.series else LakeArchive(ctx.stores)
    )
