"""Feast's `materialize` on Shoal: the platform does the work, where the events are.

In `feature_store.yaml`: `batch_engine: {type:
shoal_features.feast_engine.ShoalComputeEngine}`.
"""

import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from feast.infra.common.materialization_job import (
    MaterializationJob,
    MaterializationJobStatus,
    MaterializationTask,
)
from feast.infra.compute_engines.base import ComputeEngine
from feast.infra.registry.base_registry import BaseRegistry
from feast.repo_config import FeastConfigBaseModel

from .feast_files import has_file
from .feast_http import ShoalError, call
from .feast_offline import load_offline

DONE = {"succeeded", "failed", "cancelled"}


class ShoalComputeEngineConfig(FeastConfigBaseModel):
    type: Literal["shoal_features.feast_engine.ShoalComputeEngine"] = (
        "shoal_features.feast_engine.ShoalComputeEngine"
    )
    poll: float = 0.5
    """Seconds between requests for the state of a run."""


class ShoalMaterializationJob(MaterializationJob):
    def __init__(self, job_id: str, error: BaseException | None = None) -> None:
        self._id, self._error = job_id, error

    def status(self) -> MaterializationJobStatus:
        return MaterializationJobStatus.ERROR if self._error else MaterializationJobStatus.SUCCEEDED

    def error(self) -> BaseException | None:
        return self._error

    def should_be_retried(self) -> bool:
        return False

    def job_id(self) -> str:
        return self._id

    def url(self) -> str | None:
        return None


class ShoalComputeEngine(ComputeEngine):
    """Runs the job `features.backfill` for the days of the range."""

    def __init__(self, *, poll: float = 0.5, **options: Any) -> None:
        super().__init__(**options)
        self._poll = poll

    def update(
        self,
        project: str,
        views_to_delete: Any,
        views_to_keep: Any,
        entities_to_delete: Any,
        entities_to_keep: Any,
    ) -> None:
        pass

    def teardown_infra(self, project: str, fvs: Sequence[Any], entities: Sequence[Any]) -> None:
        pass

    def _materialize_one(
        self, registry: BaseRegistry, task: MaterializationTask, **kwargs: Any
    ) -> MaterializationJob:
        shoal = self.repo_config.online_store
        days = {
            "start": _day(task.start_time),
            "end": _day(task.end_time - timedelta(microseconds=1)),
        }
        view = task.feature_view
        arguments = {**days, "views": [view.name]}
        try:
            if has_file(view.batch_source):
                load_offline(self.repo_config, view, task.start_time, task.end_time)
            path = "/platform/jobs/features.backfill/runs"
            run = call(shoal, "POST", path, json={"arguments": arguments}).json()
            while run["state"] not in DONE:
                time.sleep(self._poll)
                run = call(shoal, "GET", f"/platform/jobs/runs/{run['id']}").json()
        except (ShoalError, ValueError, OSError) as refused:
            return ShoalMaterializationJob("", refused)
        error = None
        if run["state"] != "succeeded":
            error = ShoalError(f"the run {run['id']} {run['state']}: {run.get('error')}")
        return ShoalMaterializationJob(run["id"], error)


def _day(at: datetime) -> str:
    return (at.replace(tzinfo=UTC) if at.tzinfo is None else at).astimezone(UTC).date().isoformat()
