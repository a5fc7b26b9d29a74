"""Offline search for a capability's parameters, with Ray Tune."""

import math
import random
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

from pydantic.fields import FieldInfo

from shoal.contract.capability import Capability
from shoal.contract.errors import Invalid, NotFound
from shoal.contract.parameters import Parameters

T = TypeVar("T")


def bounds(field: FieldInfo) -> tuple[float | None, float | None]:
    """The lower and upper bound that a field declares (`ge`, `gt`, `le`, `lt`)."""
    low = high = None
    for constraint in field.metadata:
        for name in ("ge", "gt"):
            bound = getattr(constraint, name, None)
            low = low if bound is None else bound
        for name in ("le", "lt"):
            bound = getattr(constraint, name, None)
            high = high if bound is None else bound
    return low, high


def search_space(model: type[Parameters], fixed: Collection[str] = ()) -> dict[str, Any]:
    """The search space of a model, by the bounds and literals of its fields.

    Fields in `fixed` keep their defaults.

    A positive range over more than a factor of 100 is searched on a logarithmic scale.
    A field without both bounds keeps its default.
    """
    from ray import tune

    space: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        if name in fixed:
            continue
        kind = field.annotation
        low, high = bounds(field)
        if get_origin(kind) is Literal:
            space[name] = tune.choice(list(get_args(kind)))
        elif kind is bool:
            space[name] = tune.choice([False, True])
        elif low is None or high is None:
            continue
        elif kind is int:
            space[name] = tune.randint(int(low), int(high) + 1)
        elif kind is float:
            wide = low > 0 and high / low > 100
            space[name] = tune.loguniform(low, high) if wide else tune.uniform(low, high)
    return space


def split_cases(cases: Sequence[T]) -> tuple[list[T], list[T]]:
    """Half of the cases to search on, and the others to judge on, the same every time.

    Raises:
        Invalid: There are fewer than two.
    """
    if len(cases) < 2:
        raise Invalid(f"tuning needs at least 2 labelled cases; there are {len(cases)}")
    shuffled = random.Random(0).sample(list(cases), len(cases))
    middle = (len(cases) + 1) // 2
    return shuffled[:middle], shuffled[middle:]


class ProgressReport:
    """Calls `progress` in this process only.

    Ray Tune pickles its callbacks into its records; a copy there must not print.
    """

    def __init__(self, progress: Callable[[str], None] = lambda _: None) -> None:
        self.progress = progress

    def __reduce__(self) -> tuple[type["ProgressReport"], tuple[()]]:
        return ProgressReport, ()


def tune(
    capability: Capability,
    path: str,
    samples: int,
    folder: Path,
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Search a capability's parameters by its study, with Ray Tune.

    Needs an initialised Ray.

    Args:
        capability: One with a study.
        path: The cases, for the study to load.
        samples: How many sets of parameters to try.
        folder: Gets the record of each trial.
        progress: Told of each trial.

    Returns:
        The metric's name, the parameters that were best on one half of the cases, and
        the values of the defaults and of these on the other half.

    Raises:
        NotFound: The capability has no study.
        Invalid: The path has no cases, or too few.
    """
    if capability.study is None or capability.parameters is None:
        raise NotFound(f"{capability.name} has no study")
    import ray
    from ray import tune as ray_tune
    from ray.tune.search.optuna import OptunaSearch

    study, model = capability.study, capability.parameters
    progress("loading the data")
    searched, held_out = split_cases(study.load(path))
    searched_ref: ray.ObjectRef[Any] = ray.put(searched)
    baseline = study.objective(model(), searched)
    report = ProgressReport(progress)

    def trial(config: dict[str, Any]) -> dict[str, float]:
        value = study.objective(model(**config), ray.get(searched_ref))
        return {"value": value if math.isfinite(value) else -math.inf}

    class ReportTrials(ray_tune.Callback):
        best, done = -math.inf, 0

        def on_trial_complete(
            self, iteration: int, trials: list[Any], trial: Any, **_: Any
        ) -> None:
            self.done += 1
            self.best = max(self.best, (trial.last_result or {}).get("value", -math.inf))
            report.progress(
                f"{self.done} of {samples} tried, best {study.metric} {self.best:.4f} "
                f"(defaults {baseline:.4f})"
            )

    results = ray_tune.Tuner(
        ray_tune.with_resources(trial, {"cpu": 1}),
        param_space=search_space(model, study.fixed),
        tune_config=ray_tune.TuneConfig(
            metric="value",
            mode="max",
            num_samples=samples,
            search_alg=OptunaSearch(seed=0),
            max_concurrent_trials=2,
        ),
        run_config=ray_tune.RunConfig(
            storage_path=str(folder.resolve()), callbacks=[ReportTrials()], verbose=0
        ),
    ).fit()
    found = results.get_best_result().config or {}
    return {
        "capability": capability.name,
        "metric": study.metric,
        "default": study.objective(model(), held_out),
        "best": study.objective(model(**found), held_out),
        "parameters": found,
        "tried": len(results),
        "searched_on": len(searched),
        "judged_on": len(held_out),
    }
