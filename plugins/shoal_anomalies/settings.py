"""The capability's section of the configuration."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from .channels import MailAddress


class MailServer(BaseModel):
    """The server that e-mail is sent by, which the operator chooses.

    security: `starttls`, `tls` from the first byte (port 465), or `none`.
    domains: those of recipients; empty for all.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    host: str = Field(min_length=1, max_length=253)
    sender: MailAddress
    port: int = Field(587, ge=1, le=65_535)
    security: Literal["starttls", "tls", "none"] = "starttls"
    username: str | None = None
    password: SecretStr | None = None
    domains: tuple[str, ...] = ()

    def takes(self, address: str) -> bool:
        """Whether a recipient's domain is among those of the settings."""
        domain = address.rpartition("@")[2].lower()
        return not self.domains or domain in {name.lower() for name in self.domains}


class AnomalySettings(BaseModel):
    """The section `[capabilities.anomalies]`.

    series: `influxdb://…`; empty for the lake.
    email: without it, there are no channels of the type `email`.
    public_url: where people reach the console, `https://shoal.example.com`, for the
        links in notices; None for no links.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    series: str = Field("", repr=False)
    email: MailServer | None = None
    public_url: str | None = Field(
        None, max_length=300, pattern=r"^https?://[A-Za-z0-9.-]{1,253}(:[0-9]{1,5})?$"
    )
