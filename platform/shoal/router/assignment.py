"""Deterministic assignment of units to variants: hashes and nothing else, so no state
and no look-up.

All hashes are 32-bit x86 MurmurHash3 with seed 0, unsigned, of UTF-8 text, modulo
10,000:

    variant     murmur3("{experiment}:{unit}")              falls into the variant's cumulative allocation
    inclusion   murmur3("inclusion/{experiment}:{unit}")    below the traffic share
    layer       murmur3("layer/{layer}:{unit}")             within the range that the experiment owns in its layer
    holdout     murmur3("holdout/{holdout}:{unit}")         below the holdout's percent: takes no part

Each question has a salt of its own, so that its answer is independent of the others':
widening traffic lets new units in and moves nobody. An experiment's id holds no "/", so
no variant key is ever another salt's key.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mmh3 import hash as murmur3

from shoal.contract.experiments import BUCKETS, Condition, ExperimentRecord, Unit

Attributes = Mapping[str, str | Iterable[str] | None]


def assignment_bucket(experiment_id: str, unit_id: str) -> int:
    """The unit's assignment_bucket, 0 to 9,999, that chooses its variant in this
    experiment.
    """
    return murmur3(f"{experiment_id}:{unit_id}", 0, False) % BUCKETS


def _below(percent: float) -> int:
    return round(percent * BUCKETS / 100)


@dataclass(frozen=True, slots=True)
class Assignment:
    """A place in one experiment, and the parameter values that it brings."""

    experiment: str
    variant: str
    unit: Unit
    parameters: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Assigner:
    """One experiment compiled for speed. Its status is not looked at: compile those
    that run.

    >>> from shoal.contract.experiments import ExperimentRecord, Variant
    >>> arms = (Variant(name="control", allocation=50), Variant(name="treatment", allocation=50))
    >>> Assigner.compile(ExperimentRecord(id="ranking", variants=arms)).assign("user-1")
    'treatment'
    """

    record: ExperimentRecord
    _prefix: str
    _by_bucket: tuple[Assignment, ...] = field(repr=False)
    """Length 10,000. Made once, so that deciding allocates nothing."""
    _gates: tuple[tuple[str, int, int], ...]
    """(prefix, low, high): the unit takes part when low <= its bucket < high holds for
    each.
    """

    @classmethod
    def compile(cls, record: ExperimentRecord | Mapping[str, Any]) -> Assigner:
        """Compile a record (or a plain mapping of its fields). Raises
        pydantic.ValidationError if it is not one.
        """
        if not isinstance(record, ExperimentRecord):
            record = ExperimentRecord.model_validate(record)
        edges = record.edges()
        by_bucket: list[Assignment] = []
        for i, variant in enumerate(record.variants):
            assignment = Assignment(record.id, variant.name, record.unit, variant.parameters)
            by_bucket += [assignment] * (edges[i + 1] - edges[i])
        gates = []
        if record.layer_range is not None:
            gates.append((f"layer/{record.layer}:", *record.layer_range))
        if record.holdout is not None and record.holdout.percent > 0:
            gates.append(
                (f"holdout/{record.holdout.name}:", _below(record.holdout.percent), BUCKETS)
            )
        if record.traffic < 100:
            gates.append((f"inclusion/{record.id}:", 0, _below(record.traffic)))
        return cls(record, f"{record.id}:", tuple(by_bucket), tuple(gates))

    def place(self, unit_id: str) -> Assignment | None:
        """The unit's assignment, or None when it takes no part. Targeting is asked
        apart: see `targets`.
        """
        for prefix, low, high in self._gates:
            if not low <= murmur3(prefix + unit_id, 0, False) % BUCKETS < high:
                return None
        return self._by_bucket[murmur3(self._prefix + unit_id, 0, False) % BUCKETS]

    def assign(self, unit_id: str) -> str | None:
        """The name of the unit's variant, or None when it takes no part."""
        assignment = self.place(unit_id)
        return None if assignment is None else assignment.variant

    def assign_many(self, unit_ids: Iterable[str]) -> list[str | None]:
        """`assign` for each, in order."""
        by_bucket, prefix = self._by_bucket, self._prefix
        if self._gates:
            return [self.assign(unit_id) for unit_id in unit_ids]
        return [
            by_bucket[murmur3(prefix + unit_id, 0, False) % BUCKETS].variant for unit_id in unit_ids
        ]

    def targets(self, attributes: Attributes) -> bool:
        """Whether the caller meets every condition of the experiment's targeting."""
        return all(_meets(condition, attributes) for condition in self.record.targeting)


def _meets(condition: Condition, attributes: Attributes) -> bool:
    value = attributes.get(condition.attribute)
    values = () if value is None else (value,) if isinstance(value, str) else value
    return any(v in condition.values for v in values) == (condition.operator == "in")


class Plan:
    """All experiments that concern one request's capability and tenant, decided
    together.
    """

    def __init__(self, records: Iterable[ExperimentRecord]) -> None:
        self._assigners = [
            Assigner.compile(record) for record in records if record.status == "running"
        ]

    def __len__(self) -> int:
        return len(self._assigners)

    def assign(
        self, units: Mapping[Unit, str | None], attributes: Attributes | None = None
    ) -> list[Assignment]:
        """The caller's assignments, in the order of the records.

        `units` gives the caller's id per kind of unit; experiments on a kind it lacks
        are skipped. `attributes` are what targeting asks for.
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
