"""A caller's parameters, and the log of who used a varied one."""

import hashlib
import logging
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from shoal.contract.events import Event
from shoal.contract.experiments import ExperimentRecord
from shoal.contract.parameters import Parameters
from shoal.contract.stores import Stores
from shoal.stores.redis_client import run_atomically, translate_errors
from shoal.tenants.directory import Directory
from shoal.tenants.keyspace import exposed_key
from shoal.tenants.outbox import Outbox

from .assignment import Assignment

log = logging.getLogger(__name__)

EVENT_TYPE, SOURCE = "experiment.exposure", "shoal/router"
CACHED_EXPOSURES = 100_000
DEDUPLICATED_SECONDS = 180 * 86_400


@dataclass(frozen=True, slots=True)
class Resolved:
    """A model's values, and the assignments that using them exposes."""

    parameters: Parameters
    exposing: tuple[Assignment, ...]


def resolve(
    model: type[Parameters],
    promoted: Mapping[str, Any],
    assignments: Sequence[Assignment],
    varied: Mapping[str, frozenset[str]],
    where: str,
) -> Resolved:
    """Resolve a caller's parameters: defaults, then promoted values, then variants.

    Using the model exposes an assignment if the experiment varies one of the model's
    fields in any variant, so that the control is exposed too. An experiment that varies
    nothing (an A/A test) is exposed by every use.

    A value that the model rejects is left out with a warning, since the model may have
    changed after the value was stored. Its variant is not exposed, since the unit did
    not get what the variant says.

    Args:
        model: The capability's parameters.
        promoted: The tenant's own values.
        assignments: The caller's assignments, in the order of the experiments.
        varied: experiment id → the parameters that its variants set.
        where: Names tenant and capability in warnings.
    """
    values, _ = _accepted(model, {}, promoted, f"{where}: promoted")
    exposing = []
    for assignment in assignments:
        values, rejected = _accepted(
            model,
            values,
            assignment.parameters,
            f"{where}: {assignment.experiment}/{assignment.variant}",
        )
        names = varied[assignment.experiment]
        if not rejected and (not names or not names.isdisjoint(model.model_fields)):
            exposing.append(assignment)
    return Resolved(model.model_validate(values), tuple(exposing))


def _accepted(
    model: type[Parameters], base: Mapping[str, Any], values: Mapping[str, Any], where: str
) -> tuple[dict[str, Any], set[str]]:
    """`base` with the values that the model accepts, and the names of the others."""
    left = dict(values)
    rejected: set[str] = set()
    while left:
        try:
            model.model_validate({**base, **left})
            break
        except ValidationError as error:
            bad = {
                str(fault["loc"][0]) for fault in error.errors() if fault["loc"]
            } & left.keys() or set(left)
            log.warning(
                "%s: the values of %s are invalid and were left out",
                where,
                ", ".join(sorted(bad)),
            )
            rejected |= bad
            for name in bad:
                del left[name]
    return {**base, **left}, rejected


def varied_by(records: Iterable[ExperimentRecord]) -> dict[str, frozenset[str]]:
    """experiment id → the parameters that its variants set."""
    return {
        record.id: frozenset().union(*(variant.parameters for variant in record.variants))
        for record in records
    }


@dataclass(frozen=True, slots=True)
class Exposure:
    """The first use of a varied parameter by a unit."""

    tenant: str
    experiment: str
    variant: str
    unit_type: str
    unit: str
    time: datetime
    started_at: datetime | None = None

    @property
    def digest(self) -> bytes:
        """Identifies the exposure on every replica."""
        start = self.started_at.isoformat() if self.started_at else ""
        text = "\0".join((self.experiment, self.variant, self.unit_type, self.unit, start))
        return hashlib.sha1(text.encode(errors="surrogatepass"), usedforsecurity=False).digest()


class ExposureLog:
    """Appends each unit's first exposure to its tenant's event log.

    It is appended at least once, always with the same event id.
    """

    def __init__(
        self,
        directory: Directory,
        open_stores: Callable[[str], Stores],
        capability: str,
        tenant_exists: Callable[[str], bool],
    ) -> None:
        self._directory, self._open_stores = directory, open_stores
        self._capability, self._tenant_exists = capability, tenant_exists
        self._seen: OrderedDict[tuple[Any, ...], None] = OrderedDict()
        self._outbox: Outbox[Exposure] = Outbox("exposures", self._deliver)

    def note(self, tenant: str, assignment: Assignment, unit: str) -> None:
        """Queue an exposure. If the queue is full, the unit's next use queues it."""
        key = (tenant, assignment.experiment, assignment.started_at, assignment.variant, unit)
        if key in self._seen:
            return
        exposure = Exposure(
            tenant,
            assignment.experiment,
            assignment.variant,
            assignment.unit,
            unit,
            datetime.now(UTC),
            assignment.started_at,
        )
        if self._outbox.offer(exposure):
            self._seen[key] = None
            if len(self._seen) > CACHED_EXPOSURES:
                self._seen.popitem(last=False)

    async def close(self) -> None:
        await self._outbox.close()

    async def _deliver(self, exposures: list[Exposure]) -> None:
        by_experiment: dict[tuple[str, str], list[Exposure]] = {}
        for exposure in exposures:
            if self._tenant_exists(
                exposure.tenant
            ):  # an erased tenant must not come back by a late event
                by_experiment.setdefault((exposure.tenant, exposure.experiment), []).append(
                    exposure
                )
        for (tenant, experiment), group in by_experiment.items():
            key = exposed_key(tenant, experiment)
            with translate_errors():
                known = await self._directory.redis.smismember(
                    key, [exposure.digest for exposure in group]
                )
            new = [exposure for exposure, old in zip(group, known, strict=True) if not old]
            if not new:
                continue
            await self._open_stores(tenant).events.append(
                [self._event(exposure) for exposure in new]
            )
            with translate_errors():
                await run_atomically(
                    self._directory.redis,
                    [
                        ("SADD", key, *(exposure.digest for exposure in new)),
                        ("EXPIRE", key, DEDUPLICATED_SECONDS),
                        ("SADD", exposed_key(tenant), experiment),
                    ],
                )

    def _event(self, exposure: Exposure) -> Event:
        data = {
            "experiment": exposure.experiment,
            "variant": exposure.variant,
            "unit": exposure.unit,
            "unit_type": exposure.unit_type,
            "capability": self._capability,
        }
        return Event(
            id=exposure.digest.hex(),
            source=SOURCE,
            type=EVENT_TYPE,
            time=exposure.time,
            subject=exposure.unit,
            data=data,
        )
