"""Semantic search: finds items by meaning, exact words and recency."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from shoal import Backend, Capability, Job, Scaling, Services, Stream, hookimpl

from . import commands, jobs, page, routes, stream, study
from .parameters import SearchParameters, SearchSettings

__all__ = ["SearchParameters", "shoal_capabilities"]


def build_embedder(services: Services) -> Any:
    from .models import Models

    return Models(services.settings(SearchSettings), services.egress)


@hookimpl
def shoal_capabilities() -> Sequence[Capability]:
    return [
        Capability(
            "search",
            "Finds items by meaning, exact words and recency, within what the asker may see.",
            routes=routes.routes,
            parameters=SearchParameters,
            backends=[
                Backend(
                    "embedder",
                    build_embedder,
                    Scaling(ongoing=64),
                    batch="embed",
                    batch_size=8,
                    batch_wait=0.0,
                )
            ],
            jobs=[
                Job(
                    "reindex",
                    jobs.reindex,
                    "Rebuilds the index from the event log, or moves to another model.",
                    deadline=timedelta(hours=6),
                )
            ],
            streams=[Stream("index", ("item.*",), stream.index_events)],
            page=page.page,
            commands=commands.commands,
            study=study.STUDY,
            stores=["vectors"],
        )
    ]
