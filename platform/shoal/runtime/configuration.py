"""Shoal's configuration: `shoal.toml`, then the environment (`SHOAL_PORT=8001`,
`SHOAL_STORES__ONLINE=redis://…`).
"""

import os
from pathlib import Path
from typing import Any, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from shoal.contract.errors import Invalid
from shoal.router.settings import RouterSettings
from shoal.stores.configuration import StoreConfig
from shoal.tenants.directory import located


class Config(BaseSettings):
    """What an operator decides. Every unknown key is an error, named: Ray Serve would
    ignore it silently.
    """

    model_config = SettingsConfigDict(
        env_prefix="SHOAL_",
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
    )

    data: Path = Path(".shoal")
    """The folder that holds all state; made with mode 0700."""
    host: str = "127.0.0.1"
    """The interface that HTTP, the Ray dashboard and the Ray client listen on."""
    port: int = Field(8000, ge=1, le=65535)
    dashboard_port: int = Field(8265, ge=1, le=65535)
    ray_port: int = Field(6389, ge=1, le=65535)
    ray_client_port: int = Field(10001, ge=1, le=65535)
    address: str | None = None
    """A Ray cluster that runs already; None: `shoal up` starts one on this machine."""
    timezone: str = "UTC"
    workers: int = Field(1, ge=1, le=64)
    """Stream and schedule workers."""
    jobs_at_once: int = Field(2, ge=1, le=1000)
    """Jobs that run at the same time; the others wait in the queue."""
    proxy: Literal["auto", "haproxy", "ray"] = "auto"
    """The HTTP ingress: HAProxy where its binary is to be had, else Ray's own proxy."""
    stores: StoreConfig | None = None
    """Servers by URI; None: embedded ones, started by `shoal up`."""
    router: RouterSettings = Field(default_factory=RouterSettings)
    capabilities: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Settings of each capability, by name."""
    disabled: list[str] = Field(default_factory=list)
    """Capabilities that are installed but not deployed."""

    @field_validator("timezone")
    @classmethod
    def _known(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except Exception:
            raise ValueError(f"{name!r} is no time zone of the IANA database") from None
        return name

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        file = Path(os.environ.get("SHOAL_CONFIG", "shoal.toml"))
        return (init_settings, env_settings, TomlConfigSettingsSource(settings_cls, file))

    @classmethod
    def load(cls, **overrides: Any) -> Self:
        """The configuration of this process; `overrides` (command-line options) that
        are None count as not given. Invalid says what is wrong and where, and never
        what stands there, which may be a password.
        """
        try:
            return cls(**{k: v for k, v in overrides.items() if v is not None})
        except ValidationError as error:
            raise Invalid("the configuration is wrong", errors=located(error)) from None
