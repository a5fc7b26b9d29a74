"""Deterministic assignment of units to variants, by hashes alone.

Each hash is 32-bit x86 MurmurHash3 with seed 0, unsigned, of UTF-8 text, modulo 10,000:

    variant     {experiment}:{unit}             in the variant's range of buckets
    inclusion   inclusion/{experiment}:{unit}   below the traffic share
    layer       layer/{layer}:{unit}            in the experiment's range of the layer
    holdout     holdout/{holdout}:{unit}        below the holdout's percent: left out

Each has its own salt, so the answers are independent: more traffic lets new units in
and moves none. An experiment's id contains no "/", so the keys never collide.

`kept` goes first: units of a variant of an earlier experiment, by that one's hashes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from mmh3 import hash as murmur3

from shoal.contract.experiments import BUCKETS, Condition, ExperimentRecord, Kept, Unit

Attributes = Mapping[str, str | Iterable[str] | None]


def assignment_bucket(experiment_id: str, unit_id: str) -> int:
    """The bucket, 0 to 9,999, that decides a unit's variant in an experiment."""
    return murmur3(f"{experiment_id}:{unit_id}", 0, False) % BUCKETS


def _below(percent: float) -> int:
    return round(percent * BUCKETS / 100)


@dataclass(frozen=True, slots=True)
class Assignment:
    """A unit's variant in one experiment, with the parameters that it overrides."""

    experiment: str
    variant: str
    unit: Unit
    parameters: Mapping[str, Any]
    started_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Assigner:
    """Assigns the units of one experiment, whatever its status.

    >>> variants = [{"name": name, "allocation": 50} for name in ("old", "new")]
    >>> Assigner.compile({"id": "ranking", "variants": variants}).assign("user-1")
    'new'
    """

    record: ExperimentRecord
    _prefix: str
    _by_bucket: tuple[Assignment, ...] = field(repr=False)
    """Of length 10,000."""
    _ranges: tuple[tuple[str, int, int], ...]
    """(prefix, low, high): a unit takes part if low <= bucket < high for each."""
    _kept: tuple[Assignment, tuple[tuple[str, int, int], ...]] | None = None
    """What the units get that keep a variant, and the ranges that they are in."""

    @classmethod
    def compile(cls, record: ExperimentRecord | Mapping[str, Any]) -> Assigner:
        """Prepare an experiment for fast assignment.

        Args:
            record: The record, or a mapping of its fields.

        Raises:
            pydantic.ValidationError: The record is invalid.
        """
        if not isinstance(record, ExperimentRecord):
            record = ExperimentRecord.model_validate(record)
        edges = record.edges()
        assignments = {
            v.name: Assignment(record.id, v.name, record.unit, v.parameters, record.started_at)
            for v in record.variants
        }
        by_bucket: list[Assignment] = []
        for i, assignment in enumerate(assignments.values()):
            by_bucket += [assignment] * (edges[i + 1] - edges[i])
        kept = None
        if record.kept is not None:
            own = (f"{record.kept.experiment}:", *record.kept.buckets)
            ranges = (own, *_ranges(record.kept, record.kept.experiment))
            kept = assignments[record.kept.variant], ranges
        return cls(record, f"{record.id}:", tuple(by_bucket), _ranges(record, record.id), kept)

    def place(self, unit_id: str) -> Assignment | None:
        """The unit's assignment, or None if it takes no part; ignores `targeting`."""
        if self._kept is not None:
            assignment, ranges = self._kept
            if all(
                low <= murmur3(prefix + unit_id, 0, False) % BUCKETS < high
                for prefix, low, high in ranges
            ):
                return assignment
        for prefix, low, high in self._ranges:
            if not low <= murmur3(prefix + unit_id, 0, False) % BUCKETS < high:
                return None
        return self._by_bucket[murmur3(self._prefix + unit_id, 0, False) % BUCKETS]

    def assign(self, unit_id: str) -> str | None:
        """The name of the unit's variant, or None if it takes no part."""
        assignment = self.place(unit_id)
        return None if assignment is None else assignment.variant

    def assign_many(self, unit_ids: Iterable[str]) -> list[str | None]:
        """The variants of many units, in order."""
        by_bucket, prefix = self._by_bucket, self._prefix
        if self._ranges or self._kept:
            return [self.assign(unit_id) for unit_id in unit_ids]
        return [
            by_bucket[murmur3(prefix + unit_id, 0, False) % BUCKETS].variant for unit_id in unit_ids
        ]

    def targets(self, attributes: Attributes) -> bool:
        """Whether a caller with these attributes meets all targeting conditions."""
        return all(_meets(condition, attributes) for condition in self.record.targeting)


def _ranges(record: ExperimentRecord | Kept, id: str) -> tuple[tuple[str, int, int], ...]:
    """(prefix, low, high) by layer, holdout and traffic."""
    ranges = []
    if record.layer_range is not None:
        ranges.append((f"layer/{record.layer}:", *record.layer_range))
    if record.holdout is not None and record.holdout.percent > 0:
        ranges.append((f"holdout/{record.holdout.name}:", _below(record.holdout.percent), BUCKETS))
    if record.traffic < 100:
        ranges.append((f"inclusion/{id}:", 0, _below(record.traffic)))
    return tuple(ranges)


def _meets(condition: Condition, attributes: Attributes) -> bool:
    value = attributes.get(condition.attribute)
    values = () if value is None else (value,) if isinstance(value, str) else value
    return any(v in condition.values for v in values) == (condition.operator == "in")


class Plan:
    """The running experiments of one tenant and capability."""

    def __init__(self, records: Iterable[ExperimentRecord]) -> None:
        self._assigners = [
            Assigner.compile(record) for record in records if record.status == "running"
        ]

    def __len__(self) -> int:
        return len(self._assigners)

    def assign(
        self, units: Mapping[Unit, str | None], attributes: Attributes | None = None
    ) -> list[Assignment]:
        """A caller's assignments, in the order of the records.

        Args:
            units: The caller's id for each kind of unit. Experiments on a kind without
                an id are skipped.
            attributes: The caller's attributes for targeting.
        """
        chosen = []
        for assigner in self._assigners:
            unit_id = units.get(assigner.record.unit)
            if unit_id is None or (
                assigner.record.targeting and not assigner.targets(attributes or {})
            ):
                continue
            assignment = assigner.place(unit_id)
            if assignment is not None:
                chosen.append(assignment)
        return chosen
