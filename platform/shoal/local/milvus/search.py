"""Exact search within one collection of Milvus Lite, by arrays instead of row by row.

milvus-lite (3.2) loops over every row in Python for each query. Its BM25 uses
statistics per segment, so the scores of rows written at different times are not
comparable; here the statistics are the whole collection's.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from milvus_lite.engine.collection import Collection
from milvus_lite.engine.projection import ProjectionPlan, build_projection_plan, project_record
from milvus_lite.exceptions import SchemaValidationError
from milvus_lite.schema.types import DataType
from milvus_lite.search.filter import evaluate_mask
from milvus_lite.storage.segment import _extract_vector_array

PAIR = np.dtype([("term", "<u4"), ("count", "<f4")])
"""One entry of a sparse vector in milvus-lite's encoding."""


class Block:
    """Immutable rows: a segment's, or those not yet flushed at one moment."""

    def __init__(self, table: pa.Table, keys: list[Any], vectors: np.ndarray) -> None:
        self.table, self.keys, self.vectors = table, keys, vectors
        self.rows = {key: row for row, key in enumerate(keys)}

    @cached_property
    def norms(self) -> np.ndarray:
        """(rows,) lengths of the vectors; infinite for zeros, whose cosine is 0."""
        norms = np.sqrt(np.einsum("ij,ij->i", self.vectors, self.vectors))
        return np.where(norms > 0, norms, np.inf).astype(np.float32)

    def words(self, column: str) -> "Words":
        cached: dict[str, Words] = self.__dict__.setdefault("_words", {})
        if column not in cached:
            cached[column] = Words(self.table.column(column))
        return cached[column]


class Words:
    """An inverted index: the rows that contain a term, and how often."""

    def __init__(self, column: pa.ChunkedArray) -> None:
        packed = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
        values = [value.as_py() or b"" for value in packed]
        pairs = np.frombuffer(b"".join(values), PAIR)
        rows = np.repeat(
            np.arange(len(values), dtype=np.int32),
            [len(value) // PAIR.itemsize for value in values],
        )
        order = np.argsort(pairs["term"], kind="stable")
        self._terms, self._starts = np.unique(pairs["term"][order], return_index=True)
        self._starts = np.append(self._starts, len(order))
        self._rows, self._counts = rows[order], pairs["count"][order]
        self.lengths = np.bincount(rows, weights=pairs["count"], minlength=len(values)).astype(
            np.float32
        )

    def postings(self, term: int) -> tuple[np.ndarray, np.ndarray]:
        """(rows, counts) of a term."""
        at = int(np.searchsorted(self._terms, term))
        if at == len(self._terms) or self._terms[at] != term:
            return self._rows[:0], self._counts[:0]
        span = slice(self._starts[at], self._starts[at + 1])
        return self._rows[span], self._counts[span]


@dataclass(frozen=True)
class State:
    """A collection at one moment: its blocks, and masks of their current rows."""

    version: tuple[int, int]
    blocks: list[Block]
    alive: list[np.ndarray]

    @cached_property
    def count(self) -> int:
        return int(sum(alive.sum() for alive in self.alive))


class SearchedCollection(Collection):  # type: ignore[misc, unused-ignore]  # untyped
    """A collection whose search, get and count work on arrays.

    Searches with other options (grouping, ranges) are left to milvus-lite.
    """

    generation = 0
    """How often the set of segments changed."""
    _base: State | None = None
    _state: State | None = None
    _blocks: dict[Any, Block]

    def _refresh_segment_cache(self) -> None:
        super()._refresh_segment_cache()
        known = self.__dict__.get("_blocks", {})
        self._blocks = {
            key: known.get(key) or Block(segment.table, segment.pks, segment.vectors)
            for key, segment in self._segment_cache.items()
        }
        self.generation += 1
        self._base = None

    def state(self) -> State:
        """The collection now; the caller must exclude writers."""
        with self._maintenance_lock:
            base = self._base
            if base is None:
                base = self._base = self._flushed()
            version = (self.generation, self._next_seq)
            state = self._state
            if state is None or state.version != version:
                state = self._state = self._with_unflushed(base, version)
            return state

    def warm(self, state: State) -> None:
        """Build the indexes that the next searches of a state need."""
        for block in state.blocks:
            _ = block.norms
            for column in self._bm25_analyzers:
                block.words(column)

    def _flushed(self) -> State:
        """The flushed rows; of several rows with one key, the last is current."""
        keys = list(self._segment_cache)
        blocks, alive = [self._blocks[key] for key in keys], []
        last: dict[Any, tuple[int, int, int]] = {}
        for number, key in enumerate(keys):
            segment = self._segment_cache[key]
            mask = np.ones(len(segment.pks), bool)
            alive.append(mask)
            for row, (pk, seq) in enumerate(zip(segment.pks, segment.seqs.tolist(), strict=True)):
                before = last.get(pk)
                if self._delta_index.is_deleted(pk, seq) or (
                    before is not None and before[0] > seq
                ):
                    mask[row] = False
                    continue
                if before is not None:
                    alive[before[1]][before[2]] = False
                last[pk] = (seq, number, row)
        return State((self.generation, 0), blocks, alive)

    def _with_unflushed(self, base: State, version: tuple[int, int]) -> State:
        memory = self._memtable
        positions, batches = memory._pk_index, memory._insert_batches
        if not positions and not memory._delete_index:
            return State(version, base.blocks, base.alive)
        alive = [mask.copy() for mask in base.alive]
        for block, mask in zip(base.blocks, alive, strict=True):
            gone = [
                block.rows[pk] for pk in (*positions, *memory._delete_index) if pk in block.rows
            ]
            mask[gone] = False
        if not positions:
            return State(version, base.blocks, alive)
        starts = np.cumsum([0, *(batch.num_rows for batch in batches)])
        rows = [int(starts[batch]) + row for batch, row, _ in positions.values()]
        table = pa.Table.from_batches(batches).take(pa.array(rows, pa.int64())).combine_chunks()
        vectors, _ = _extract_vector_array(table.column(self._vector_name))
        block = Block(table, list(positions), vectors)
        return State(version, [*base.blocks, block], [*alive, np.ones(len(rows), bool)])

    def search(
        self,
        query_vectors: list[Any],
        top_k: int = 10,
        metric_type: str | None = None,
        expr: str | None = None,
        output_fields: list[str] | None = None,
        anns_field: str | None = None,
        timezone: str | None = None,
        search_params: dict[str, Any] | None = None,
        **options: Any,
    ) -> list[list[dict[str, Any]]]:
        column = self._resolve_anns_field(anns_field)
        metric = self.resolve_search_metric(column, metric_type)
        dense = column == self._vector_name and metric == "COSINE"
        plain = not any(
            value for name, value in options.items() if not (name == "group_size" and value == 1)
        )
        if not plain or not (dense or metric == "BM25"):
            return list(
                super().search(
                    query_vectors,
                    top_k,
                    metric_type,
                    expr=expr,
                    output_fields=output_fields,
                    anns_field=anns_field,
                    timezone=timezone,
                    search_params=search_params,
                    **options,
                )
            )
        self._require_loaded()
        state = self.state()
        masks = self._masks(state, expr, timezone)
        if dense:
            scored = [self._cosines(state, masks, query) for query in query_vectors]
        else:
            queries = self._prepare_sparse_queries(query_vectors, column)
            scored = [self._bm25(state, masks, query, column) for query in queries]
        return [self._best(state, scores, top_k, output_fields) for scores in scored]

    def count_matching(self, expr: str | None, timezone: str | None = None) -> int:
        """The number of rows that match a filter."""
        self._require_loaded()
        state = self.state()
        return (
            int(sum(mask.sum() for mask in self._masks(state, expr, timezone)))
            if expr
            else state.count
        )

    def get(
        self,
        pks: list[Any],
        partition_names: list[str] | None = None,
        expr: str | None = None,
        output_fields: list[str] | None = None,
        timezone: str | None = None,
    ) -> list[dict[str, Any]]:
        if partition_names or expr:
            return list(super().get(pks, partition_names, expr, output_fields, timezone))
        self._require_loaded()
        state = self.state()
        plan = build_projection_plan(output_fields, self._schema, api_kind="get")
        found: dict[int, dict[str, Any]] = {}
        for block, alive in zip(state.blocks, state.alive, strict=True):
            places = [
                (i, block.rows[pk])
                for i, pk in enumerate(pks)
                if pk in block.rows and alive[block.rows[pk]]
            ]
            records = self._records(block, [row for _, row in places], output_fields)
            for (i, _), record in zip(places, records, strict=True):
                found[i] = self._projected(record, plan)
        return [found[i] for i in sorted(found)]

    def upsert(self, records: list[dict[str, Any]], partition_name: str = "_default") -> list[Any]:
        given = {f.name for f in self._schema.fields} - set(self._bm25_analyzers)
        whole = isinstance(records, list) and all(
            isinstance(r, dict) and given <= r.keys() for r in records
        )
        # Whole rows need not be merged with the old ones.
        write = super().insert if whole else super().upsert
        return list(write(records, partition_name))

    def _masks(self, state: State, expr: str | None, timezone: str | None) -> list[np.ndarray]:
        """Per block, a mask of the current rows that match the filter."""
        if not expr:
            return state.alive
        compiled = self._compile_filter(expr, timezone=timezone)
        return [
            alive & np.asarray(evaluate_mask(compiled, block.table), bool) if len(alive) else alive
            for block, alive in zip(state.blocks, state.alive, strict=True)
        ]

    def _cosines(
        self, state: State, masks: list[np.ndarray], query: Sequence[float]
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Per block, (rows, cosines)."""
        vector = np.asarray(query, np.float32)
        dimension = next(f.dim for f in self._schema.fields if f.name == self._vector_name)
        if vector.shape != (dimension,):
            raise SchemaValidationError(
                f"dimension mismatch: the query has {vector.size}, the collection {dimension}"
            )
        vector = vector / (float(np.linalg.norm(vector)) or 1.0)
        scored = []
        for block, mask in zip(state.blocks, masks, strict=True):
            rows = np.flatnonzero(mask)
            few = len(rows) * 4 < len(mask)
            dots = block.vectors[rows] @ vector if few else (block.vectors @ vector)[rows]
            scored.append((rows, np.clip(dots / block.norms[rows], -1.0, 1.0)))
        return scored

    def _bm25(
        self, state: State, masks: list[np.ndarray], query: dict[int, float], column: str
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Per block, (rows, scores) of the rows with any of the query's terms.

        Robertson's BM25 with the idf of Lucene and milvus-lite, ln(1 + (N - n + ½) / (n
        + ½)), over the current rows of the whole collection.
        """
        params = self._index_specs[column].build_params if column in self._index_specs else {}
        k1, b = float(params.get("bm25_k1", 1.5)), float(params.get("bm25_b", 0.75))
        words = [block.words(column) for block in state.blocks]
        total = sum(
            float(w.lengths[alive].sum()) for w, alive in zip(words, state.alive, strict=True)
        )
        average = total / state.count if total else 1.0
        sums = [np.zeros(len(alive), np.float32) for alive in state.alive]
        for term, weight in query.items():
            postings = [w.postings(term) for w in words]
            holders = sum(
                int(alive[rows].sum())
                for (rows, _), alive in zip(postings, state.alive, strict=True)
            )
            idf = math.log1p((state.count - holders + 0.5) / (holders + 0.5))
            for (rows, counts), scores, w in zip(postings, sums, words, strict=True):
                norm = k1 * (1 - b + b * w.lengths[rows] / average)
                scores[rows] += weight * idf * counts * (k1 + 1) / (counts + norm)
        found = []
        for scores, mask in zip(sums, masks, strict=True):
            rows = np.flatnonzero(mask & (scores > 0))
            found.append((rows, scores[rows]))
        return found

    def _best(
        self,
        state: State,
        scored: list[tuple[np.ndarray, np.ndarray]],
        top_k: int,
        output_fields: list[str] | None,
    ) -> list[dict[str, Any]]:
        """The `top_k` rows of the highest scores, as milvus-lite's hits; of equal ones
        the older first.
        """
        places = [_top(scores, top_k) for _, scores in scored]
        blocks = np.repeat(np.arange(len(scored)), [len(place) for place in places])
        rows = np.concatenate(
            [rows[place] for (rows, _), place in zip(scored, places, strict=True)]
            or [np.zeros(0, int)]
        )
        scores = np.concatenate(
            [found[place] for (_, found), place in zip(scored, places, strict=True)]
            or [np.zeros(0)]
        )
        kept = np.argsort(-scores, kind="stable")[:top_k]
        plan = build_projection_plan(output_fields, self._schema, api_kind="search")
        hits: dict[int, dict[str, Any]] = {}
        for number, block in enumerate(state.blocks):
            here = kept[blocks[kept] == number]
            records = self._records(block, rows[here].tolist(), output_fields)
            for place, record in zip(here.tolist(), records, strict=True):
                hits[place] = {
                    "id": record[self._pk_name],
                    "distance": float(scores[place]),
                    "entity": self._projected(record, plan),
                }
        return [hits[place] for place in kept.tolist()]

    def _projected(self, record: dict[str, Any], plan: ProjectionPlan) -> dict[str, Any]:
        if self._schema.enable_dynamic_field:
            return dict(project_record(record, self._schema, plan))
        # As project_record, without reading the schema for each row.
        wanted = plan.response_schema_fields
        shown = {
            name: record[name]
            for name in wanted
            if name in record and (name != self._pk_name or plan.api_kind != "search")
        }
        return (
            shown if plan.api_kind == "search" else {**shown, self._pk_name: record[self._pk_name]}
        )

    def _records(
        self, block: Block, rows: list[int], output_fields: list[str] | None
    ) -> list[dict[str, Any]]:
        """The requested columns of some rows, and the key."""
        if not rows:
            return []
        everything = output_fields is None or "*" in output_fields
        names = [
            field.name
            for field in self._schema.fields
            if field.dtype != DataType.SPARSE_FLOAT_VECTOR
            and (everything or field.is_primary or field.name in (output_fields or ()))
        ]
        scalars = [name for name in names if name != self._vector_name]
        records: list[dict[str, Any]] = (
            block.table.select(scalars).take(pa.array(rows, pa.int64())).to_pylist()
        )
        if len(scalars) < len(names):
            for record, vector in zip(records, block.vectors[rows].tolist(), strict=True):
                record[self._vector_name] = vector
        return records


def _top(scores: np.ndarray, count: int) -> np.ndarray:
    """Positions of the `count` highest scores and all ties of the last, ascending."""
    if len(scores) <= count:
        return np.arange(len(scores))
    return np.flatnonzero(scores >= np.partition(scores, len(scores) - count)[len(scores) - count])
