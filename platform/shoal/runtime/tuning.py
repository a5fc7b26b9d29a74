"""Searching a capability's parameters offline with Ray Tune."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from shoal.contract.capability import Capability
from shoal.contract.errors import NotFound
from shoal.contract.parameters import Parameters


def bounds(field: FieldInfo) -> tuple[float | None, float | None]:
    """The lower and upper bound that a field declares (`ge`, `gt`, `le`, `lt`)."""
    low = high = None
    for constraint in field.metadata:
        for name in ("ge", "gt"):
            low = (
                getattr(constraint, name, None)
                if getattr(constraint, name, None) is not None
                else low
            )
        for name in ("le", "lt"):
            high = (
                getattr(constraint, name, None)
                if getattr(constraint, name, None) is not None
                else high
            )
    return low, high


def space(model: type[Parameters]) -> dict[str, Any]:
    """The search space that a model's bounds and literals say; a field without both
    bounds keeps its default. A positive range that spans more than a factor of 100 is
    searched on a logarithmic scale.
    """
    from ray import tune

    found: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        kind = field.annotation
        low, high = bounds(field)
        if get_origin(kind) is Literal:
            found[name] = tune.choice(list(get_args(kind)))
        elif kind is bool:
            found[name] = tune.choice([False, True])
        elif kind is int and low is not None and high is not None:
            found[name] = tune.randint(int(low), int(high) + 1)
        elif kind is float and low is not None and high is not None:
            wide = low > 0 and high / low > 100
            found[name] = tune.loguniform(low, high) if wide else tune.uniform(low, high)
    return found


class Here:
    """A function of one text for this process alone: Ray Tune pickles its callbacks
    into its records, and no copy should print.
    """

    def __init__(self, call: Callable[[str], None] = lambda _: None) -> None:
        self.call = call

    def __reduce__(self) -> tuple[type["Here"], tuple[()]]:
        return Here, ()


def tune(
    capability: Capability,
    path: str,
    samples: int,
    folder: Path,
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Try `samples` parameter sets; the best, with its value of the study's metric
    beside the defaults'; each trial's record stays in `folder`. Needs a Ray that is
    initialised.

    NotFound when the capability has no study.
    """
    if capability.study is None or capability.parameters is None:
        raise NotFound(f"{capability.name} has no study to tune")
    import ray
    from ray import tune as ray_tune

    study, model = capability.study, capability.parameters
    progress("loading the data")
    data = study.load(path)
    held = ray.put(data)
    baseline = study.objective(model(), data)

    def trial(config: dict[str, Any]) -> dict[str, float]:
        value = study.objective(model(**config), ray.get(held))
        return {"value": value if math.isfinite(value) else -math.inf}

    here = Here(progress)

    class Report(ray_tune.Callback):
        best, done = -math.inf, 0

        def on_trial_complete(
            self, iteration: int, trials: list[Any], trial: Any, **_: Any
        ) -> None:
            self.done += 1
            self.best = max(self.best, (trial.last_result or {}).get("value", -math.inf))
            here.call(
                f"{self.done} of {samples} tried, best {study.metric} {self.best:.4f} (defaults {baseline:.4f})"
            )

    from ray.tune.search.optuna import OptunaSearch

    results = ray_tune.Tuner(
        ray_tune.with_resources(trial, {"cpu": 1}),
        param_space=space(model),
        tune_config=ray_tune.TuneConfig(
            metric="value",
            mode="max",
            num_samples=samples,
            search_alg=OptunaSearch(seed=0),
            max_concurrent_trials=2,
        ),
        run_config=ray_tune.RunConfig(
            storage_path=str(folder.resolve()), callbacks=[Report()], verbose=0
        ),
    ).fit()
    best = results.get_best_result()
    return {
        "capability": capability.name,
        "metric": study.metric,
        "default": baseline,
        "best": best.metrics["value"] if best.metrics else None,
        "parameters": best.config,
        "tried": len(results),
    }
