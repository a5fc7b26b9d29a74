"""Shoal's configuration, from `shoal.toml` and the environment.

The environment takes precedence: `SHOAL_PORT=8001`, `SHOAL_STORES__ONLINE=redis://…`.
In the processes of a cluster, what the deployment brings takes the file's place: see
`deployed_settings`.
"""

import json
import os
import tomllib
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    IPvAnyNetwork,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from shoal.contract.batch import validation_errors
from shoal.contract.errors import Invalid
from shoal.egress.egress import Egress
from shoal.eventlog.kafka_settings import KafkaSink, KafkaSource, check_loops
from shoal.router.settings import RouterSettings
from shoal.stores.configuration import StoreConfig

from .console_settings import ConsoleSettings

SETTINGS = "SHOAL_SETTINGS"
"""The variable with a deployment's settings, as JSON, in the cluster's processes."""
TOKEN_FILE = "ray_token"
"""The file in the data folder with the token of Ray's ports, for its owner alone."""


class IngressSettings(BaseModel):
    """The section `ingress`: HAProxy's limits on connections, on each machine."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    connections: int = Field(default=16_384, ge=64, le=1_000_000)
    """In all; fewer where the machine allows fewer open files."""
    per_address: int = Field(default=1024, ge=1, le=1_000_000)
    """From one address. Further ones are closed at once."""
    exempt: tuple[IPvAnyNetwork, ...] = (ip_network("127.0.0.0/8"), ip_network("::1"))
    """Addresses and networks without that limit, such as your own reverse proxy's."""


class Config(BaseSettings):
    """What an operator decides. An unknown key is an error that names it."""

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
    """An existing Ray cluster; None: `shoal up` starts one on this machine."""
    timezone: str = "UTC"
    workers: int = Field(1, ge=1, le=64)
    """Stream and schedule workers."""
    replicas: int | None = Field(None, ge=1, le=64)
    """At least so many replicas of each ingress, and of each backend without a GPU."""
    jobs_at_once: int = Field(2, ge=1, le=1000)
    """Job runs at the same time; the others wait in the queue."""
    proxy: Literal["auto", "haproxy", "ray"] = "auto"
    """The HTTP proxy. auto: HAProxy if its binary is found, else Ray's own."""
    ingress: IngressSettings = Field(default_factory=IngressSettings)
    stores: StoreConfig | None = None
    """Servers by URI; None: embedded ones, started by `shoal up`."""
    sources: tuple[KafkaSource, ...] = Field(default=(), max_length=100)
    """Topics of Kafka that are taken into the event log."""
    sinks: tuple[KafkaSink, ...] = Field(default=(), max_length=100)
    """Topics of Kafka that events are mirrored to."""
    router: RouterSettings = Field(default_factory=RouterSettings)
    egress: Egress = Field(default_factory=Egress)
    """Where the platform may connect to."""
    console: ConsoleSettings = Field(default_factory=ConsoleSettings)
    capabilities: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Settings of each capability, by name."""
    disabled: list[str] = Field(default_factory=list)
    """Capabilities that are installed but not deployed."""

    @field_validator("timezone")
    @classmethod
    def _is_known_timezone(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except Exception:
            raise ValueError(f"unknown time zone {name!r}") from None
        return name

    @model_validator(mode="after")
    def _check_kafka(self) -> Self:
        check_loops(self.sources, self.sinks)
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        file: PydanticBaseSettingsSource
        if SETTINGS in os.environ:
            file = InitSettingsSource(settings_cls, json.loads(os.environ[SETTINGS]))
        else:
            file = TomlConfigSettingsSource(settings_cls, _file())
        return (init_settings, env_settings, file)

    @classmethod
    def load(cls, **overrides: Any) -> Self:
        """The configuration of this process.

        Args:
            **overrides: Command-line options, which take precedence unless None.

        Raises:
            Invalid: What is wrong and where, without the values, which may be
                passwords.
        """
        is_deployed = SETTINGS in os.environ
        if "SHOAL_CONFIG" in os.environ and not is_deployed and not _file().is_file():
            raise Invalid(f"{_file()}, which --config or SHOAL_CONFIG names, is not a file")
        try:
            return cls(**{k: v for k, v in overrides.items() if v is not None})
        except ValidationError as error:
            raise Invalid("Invalid configuration", errors=validation_errors(error)) from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise Invalid("Invalid configuration", errors=[_toml_fault(error)]) from None

    @property
    def min_replicas(self) -> int:
        """By default 2 on a cluster, so that a lost machine leaves one, else 1."""
        return self.replicas or (1 if self.address is None else 2)

    def require_complete(self) -> None:
        """Raise Invalid unless the stores and the internal secret are set."""
        if self.stores is None or self.router.internal_secret is None:
            raise Invalid(
                "the configuration is incomplete: set SHOAL_STORES__… and"
                " SHOAL_ROUTER__INTERNAL_SECRET in the environment of every machine"
            )

    def dump_with_secrets(self) -> dict[str, Any]:
        """The configuration as JSON, for a file that only its owner may read."""
        return {name: plain_value(value) for name, value in self.model_dump().items()}


def _file() -> Path:
    return Path(os.environ.get("SHOAL_CONFIG", "shoal.toml"))


def _toml_fault(error: tomllib.TOMLDecodeError | UnicodeDecodeError) -> dict[str, str]:
    """Where a file is no TOML, without the text, which may be a password."""
    if isinstance(error, UnicodeDecodeError):
        line = error.object.count(b"\n", 0, error.start) + 1
        return {"location": str(_file()), "message": f"line {line} is not UTF-8"}
    return {"location": str(_file()), "message": f"not TOML: {error}"}


def plain_value(value: Any) -> Any:
    """A value of a dumped configuration as JSON has it, secrets revealed."""
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, dict):
        return {k: plain_value(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain_value(v) for v in value]
    if isinstance(value, set | frozenset):  # in one order everywhere
        return sorted(map(plain_value, value))
    return str(value) if isinstance(value, Path | IPv4Network | IPv6Network) else value
