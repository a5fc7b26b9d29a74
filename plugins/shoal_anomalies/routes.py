"""The HTTP operations of anomaly detection."""

from fastapi import APIRouter

from shoal import Services

from . import (
    alert_routes,
    anomaly_routes,
    collector_routes,
    config_routes,
    feedback_routes,
    influx_routes,
    series_routes,
)
from .settings import AnomalySettings


def routes(services: Services) -> APIRouter:
    """All operations."""
    services.settings(AnomalySettings)  # an invalid setting must fail at the start
    router = APIRouter()
    for module in (
        series_routes,
        influx_routes,
        collector_routes,
        anomaly_routes,
        feedback_routes,
        alert_routes,
        config_routes,
    ):
        router.routes.extend(module.router.routes)  # `include_router` refuses the path ""
    return router
