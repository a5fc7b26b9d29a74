"""Feast's registry file, whose feature services are registered with Shoal as well.

In `feature_store.yaml`: `registry: {path: registry.db, registry_store_type:
shoal_features.feast_registry.ShoalRegistryStore, url: …, key: …}`. Feast tells its
online store of views and entities only.
"""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from feast.infra.registry.file import FileRegistryStore
from feast.protos.feast.core.Registry_pb2 import Registry as RegistryProto
from feast.repo_config import RegistryConfig

from .feast_http import ShoalConfig, call


class ShoalRegistryStore(FileRegistryStore):
    """Keeps the registry in a file; registers services when it is written."""

    def __init__(self, registry_config: RegistryConfig, repo_path: Path) -> None:
        super().__init__(registry_config, repo_path)
        where = registry_config.model_extra or {}
        self._shoal = ShoalConfig(**{n: where[n] for n in ("url", "key") if n in where})

    def update_registry_proto(self, registry_proto: RegistryProto) -> None:
        """Write the file, and register the services.

        One with features that only Feast computes, on demand, is not registered, with a
        warning.
        """
        exists = self._filepath.exists()
        before = dict(_services(self.get_registry_proto())) if exists else {}  # type: ignore[no-untyped-call]
        super().update_registry_proto(registry_proto)
        services = dict(_services(registry_proto))
        if not services and not before:
            return
        known: dict[str, Any] = call(self._shoal, "GET", "/features/views").json()
        kept = {n: refs for n, refs in known["services"].items() if n not in before}
        features = {f"{v['name']}:{f['name']}" for v in known["views"] for f in v["features"]}
        for name, refs in services.items():
            if lacking := [ref for ref in refs if ref not in features]:
                message = f"the service {name} is not registered: Shoal lacks {lacking[:9]}"
                warnings.warn(message, stacklevel=2)
                continue
            kept[name] = refs
        if kept != known["services"]:
            body = {"views": known["views"], "services": kept}
            call(self._shoal, "PUT", "/features/definitions", json=body, params={"prune": "true"})


def _services(registry: RegistryProto) -> Iterator[tuple[str, list[str]]]:
    """Each service with its features, as `view:feature`."""
    for service in registry.feature_services:
        views = service.spec.features
        yield (
            service.spec.name,
            [f"{view.feature_view_name}:{c.name}" for view in views for c in view.feature_columns],
        )
