"""The console's configuration: signing in with an identity provider."""

import re
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from shoal.contract.names import Identifier
from shoal.router.settings import ClaimMapping, JWTIssuer

LOCAL = re.compile(r"http://(127\.0\.0\.1|localhost)(:\d{1,5})?")
ORIGIN = re.compile(r"https://[A-Za-z0-9.-]{1,253}(:\d{1,5})?")


class SignInSettings(ClaimMapping):
    """The identity provider that people sign in with, by OpenID Connect."""

    client_id: Identifier
    client_secret: SecretStr | None = None
    """None for a public client, which has only the proof by PKCE."""
    public_url: str
    """Where people reach the console: `https://shoal.example.com`. The provider must
    know `<public_url>/console/oidc/callback` as a redirect URI, and
    `<public_url>/console/sign-in` as a post-logout redirect URI."""
    scopes: tuple[Annotated[str, Field(pattern=r"^[!#-\[\]-~]{1,200}$")], ...] = (
        "openid",
        "profile",
        "email",
    )
    label: Identifier = "Sign in with your company account"
    """The button's text."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.issuer.startswith("https://"):
            raise ValueError("issuer must begin with https://")
        if not ORIGIN.fullmatch(self.public_url) and not LOCAL.fullmatch(self.public_url):
            raise ValueError("public_url must be https://host, without a path")
        if "openid" not in self.scopes:
            raise ValueError("scopes must include openid")
        return self

    def token_issuer(self, jwks_url: str) -> JWTIssuer:
        """How ID tokens are checked, with the address of the provider's keys."""
        mapping = {name: getattr(self, name) for name in ClaimMapping.model_fields}
        return JWTIssuer(**mapping, audience=self.client_id, jwks_url=jwks_url)


class ConsoleSettings(BaseModel):
    """The section `console` of the configuration."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sign_in: SignInSettings | None = None
    """Without it, people sign in with an API key only."""
