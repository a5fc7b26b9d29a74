"""The SCIM service of two tenants, behind the real Router."""

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

USER = "urn:ietf:params:scim:schemas:core:2.0:User"
GROUP = "urn:ietf:params:scim:schemas:core:2.0:Group"
PATCH = "urn:ietf:params:scim:api:messages:2.0:PatchOp"


class Provider:
    """An identity provider of one tenant: a client of its SCIM service."""

    def __init__(self, app: Any, tenant: str) -> None:
        self.app, self.tenant = app, tenant
        self.http = httpx.Client(
            base_url=f"{app.address}/platform/scim/v2",
            headers={"authorization": f"Bearer {app.key(tenant, 'admin')}"},
            timeout=60,
        )

    def __getattr__(self, method: str) -> Any:
        return getattr(self.http, method)

    def create(self, user: str, **attributes: Any) -> dict[str, Any]:
        response = self.post("/Users", json={"schemas": [USER], "userName": user, **attributes})
        assert response.status_code == 201, response.text
        created: dict[str, Any] = response.json()
        return created

    def create_group(self, name: str, *members: dict[str, Any]) -> dict[str, Any]:
        values = [{"value": member["id"]} for member in members]
        body = {"schemas": [GROUP], "displayName": name, "members": values}
        response = self.post("/Groups", json=body)
        assert response.status_code == 201, response.text
        created: dict[str, Any] = response.json()
        return created

    def change(self, path: str, *operations: dict[str, Any], **options: Any) -> httpx.Response:
        body = {"schemas": [PATCH], "Operations": operations}
        response: httpx.Response = self.patch(path, json=body, **options)
        return response


@pytest.fixture
def provider(shoal_app: Callable[..., Any], tenant: str) -> Iterator[Provider]:
    provider = Provider(shoal_app(), tenant)
    yield provider
    provider.http.close()


@pytest.fixture
def other(shoal_app: Callable[..., Any], tenant: str) -> Iterator[Provider]:
    """The identity provider of another tenant."""
    provider = Provider(shoal_app(), f"{tenant}-other")
    yield provider
    provider.http.close()


def scim_error(response: httpx.Response, status: int, scim_type: str | None = None) -> str:
    """The detail of an error, which must be one of SCIM's, of this status."""
    assert response.status_code == status, response.text[:500]
    assert response.headers["content-type"] == "application/scim+json"
    body = response.json()
    assert body["schemas"] == ["urn:ietf:params:scim:api:messages:2.0:Error"]
    assert body["status"] == str(status)
    if scim_type is not None:
        assert body["scimType"] == scim_type
    assert len(body["detail"]) < 600
    for internal in ("validation error", "pydantic", "instance of", "Input should"):
        assert internal not in body["detail"]
    return str(body["detail"])
