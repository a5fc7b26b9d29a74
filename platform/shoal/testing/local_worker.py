"""The platform's worker, without Ray."""

import threading

from shoal.runtime.job_process import execute_run
from shoal.runtime.job_runs import Run
from shoal.runtime.stream_worker import Worker


class LocalWorker(Worker):
    """Follows the event log as on Ray, and does each job run in a thread."""

    def _spawn(self, run: Run) -> None:
        threading.Thread(target=execute_run, args=(run.id, self._platform), daemon=True).start()
