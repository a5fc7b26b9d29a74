"""Vector stores behind one interface, for `vectors_peers.py`: Shoal's, and what a user
would pick instead, each as it comes, with its own filter and its own hybrid search.

Only the class `Shoal` needs Shoal: the peers may have an environment of their own.
"""

from __future__ import annotations

import asyncio
import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np

DIMENSION = 384
Rows = list[dict[str, Any]]
"""Each with `id` (a number), `vector`, `board` and `text`."""


class Engine:
    """A store in a folder. A tenant is a collection, or whatever is nearest to one."""

    def __init__(self, folder: Path) -> None:
        raise NotImplementedError

    def create(self, tenant: str) -> None:
        raise NotImplementedError

    def upsert(self, tenant: str, rows: Rows) -> None:
        raise NotImplementedError

    def settle(self, tenant: str) -> None:
        """What its documentation asks for after a bulk load."""

    def nearest(self, tenant: str, vector: Any, board: str | None, limit: int) -> list[int]:
        raise NotImplementedError

    def hybrid(
        self, tenant: str, vector: Any, text: str, board: str | None, limit: int
    ) -> list[int]:
        raise NotImplementedError

    def count(self, tenant: str) -> int:
        raise NotImplementedError

    def close(self) -> None:
        pass


class Shoal(Engine):
    """The `vectors` store; hybrid as candidates by meaning and by words, at once."""

    def __init__(self, folder: Path) -> None:
        from shoal import VectorSchema
        from shoal.stores.configuration import StoreConfig
        from shoal.stores.connections import close_connections
        from shoal.tenants.tenant_stores import open_stores

        folder.mkdir(exist_ok=True)
        config = StoreConfig(online="redis://127.0.0.1:1", vectors=str(folder), lake="/tmp")
        self._open = lambda tenant: open_stores(config, tenant, "notes").vectors
        self._schema = VectorSchema(DIMENSION, {"board": "string", "text": "tokens"})
        self._close, self._loop = close_connections, asyncio.new_event_loop()

    def create(self, tenant: str) -> None:
        self._loop.run_until_complete(self._open(tenant).ensure("items", self._schema))

    def upsert(self, tenant: str, rows: Rows) -> None:
        rows = [
            {
                "id": str(row["id"]),
                "vectors": row["vector"][None, :],
                "board": row["board"],
                "text": row["text"],
                "version": None,
            }
            for row in rows
        ]
        self._loop.run_until_complete(self._open(tenant).upsert("items", rows))

    def settle(self, tenant: str) -> None:
        self._loop.run_until_complete(self._open(tenant).optimize("items"))

    def nearest(self, tenant: str, vector: Any, board: str | None, limit: int) -> list[int]:
        return self._loop.run_until_complete(self._nearest(tenant, vector, board, limit))

    def hybrid(
        self, tenant: str, vector: Any, text: str, board: str | None, limit: int
    ) -> list[int]:
        async def both() -> list[list[int]]:
            words = self._open(tenant).matching(
                "items", "text", text.split(), limit=limit, filter=self._filter(board)
            )
            near, found = await asyncio.gather(self._nearest(tenant, vector, board, limit), words)
            return [near, [int(hit.id) for hit in found]]

        return fuse(self._loop.run_until_complete(both()))[:limit]

    async def _nearest(self, tenant: str, vector: Any, board: str | None, limit: int) -> list[int]:
        found = await self._open(tenant).nearest(
            "items", vector, limit=limit, filter=self._filter(board)
        )
        return [int(hit.id) for hit in found]

    def _filter(self, board: str | None) -> list[Any]:
        from shoal import Equals

        return [Equals("board", board)] if board else []

    def count(self, tenant: str) -> int:
        return self._loop.run_until_complete(self._open(tenant).count("items"))

    def close(self) -> None:
        self._loop.run_until_complete(self._close())


class LanceDB(Engine):
    """As its quick start: a table per tenant, a full-text and a scalar index."""

    def __init__(self, folder: Path) -> None:
        import lancedb
        import pyarrow as pa

        self._db, self._tables = lancedb.connect(folder), dict[str, Any]()
        vector = pa.list_(pa.float32(), DIMENSION)
        columns = {"id": pa.int64(), "vector": vector, "board": pa.string(), "text": pa.string()}
        self._columns = pa.schema(list(columns.items()))

    def _table(self, tenant: str) -> Any:
        if tenant not in self._tables:
            self._tables[tenant] = self._db.open_table(tenant)
        self._tables[tenant].checkout_latest()
        return self._tables[tenant]

    def create(self, tenant: str) -> None:
        self._tables[tenant] = self._db.create_table(tenant, schema=self._columns, exist_ok=True)

    def upsert(self, tenant: str, rows: Rows) -> None:
        writing = self._table(tenant).merge_insert("id").when_matched_update_all()
        writing.when_not_matched_insert_all().execute(rows)

    def settle(self, tenant: str) -> None:
        from lancedb.index import FTS, BTree

        table = self._table(tenant)
        table.create_index("board", config=BTree(), replace=True)
        table.create_index("text", config=FTS(), replace=True)
        table.optimize()

    def nearest(self, tenant: str, vector: Any, board: str | None, limit: int) -> list[int]:
        found = self._table(tenant).search(vector).distance_type("cosine").limit(limit)
        return self._ids(found, board)

    def hybrid(
        self, tenant: str, vector: Any, text: str, board: str | None, limit: int
    ) -> list[int]:
        found = self._table(tenant).search(query_type="hybrid", fts_columns="text")
        found = found.vector(vector).text(text).distance_type("cosine").limit(limit)
        return self._ids(found, board)

    def _ids(self, found: Any, board: str | None) -> list[int]:
        if board:
            found = found.where(f"board = '{board}'")
        ids: list[int] = found.select(["id"]).to_arrow()["id"].to_pylist()
        return ids

    def count(self, tenant: str) -> int:
        return int(self._table(tenant).count_rows())


class QdrantLocal(Engine):
    """qdrant-client's local mode; BM25 as sparse vectors of words, with its IDF."""

    def __init__(self, folder: Path) -> None:
        from qdrant_client import QdrantClient, models

        self._client, self._m = QdrantClient(path=str(folder)), models

    def create(self, tenant: str) -> None:
        m = self._m
        if not self._client.collection_exists(tenant):
            self._client.create_collection(
                tenant,
                vectors_config={
                    "dense": m.VectorParams(size=DIMENSION, distance=m.Distance.COSINE)
                },
                sparse_vectors_config={"words": m.SparseVectorParams(modifier=m.Modifier.IDF)},
            )

    def upsert(self, tenant: str, rows: Rows) -> None:
        m = self._m
        points = [
            m.PointStruct(
                id=row["id"],
                vector={
                    "dense": row["vector"].tolist(),
                    "words": m.SparseVector(**sparse(row["text"])),
                },
                payload={"board": row["board"], "text": row["text"]},
            )
            for row in rows
        ]
        self._client.upsert(tenant, points, wait=True)

    def _filter(self, board: str | None) -> Any:
        if board is None:
            return None
        m = self._m
        match = m.FieldCondition(key="board", match=m.MatchValue(value=board))
        return m.Filter(must=[match])

    def nearest(self, tenant: str, vector: Any, board: str | None, limit: int) -> list[int]:
        found = self._client.query_points(
            tenant, vector.tolist(), using="dense", query_filter=self._filter(board), limit=limit
        )
        return [point.id for point in found.points]

    def hybrid(
        self, tenant: str, vector: Any, text: str, board: str | None, limit: int
    ) -> list[int]:
        m, filter = self._m, self._filter(board)
        words = m.SparseVector(**sparse(text))
        found = self._client.query_points(
            tenant,
            prefetch=[
                m.Prefetch(query=vector.tolist(), using="dense", filter=filter, limit=limit),
                m.Prefetch(query=words, using="words", filter=filter, limit=limit),
            ],
            query=m.FusionQuery(fusion=m.Fusion.RRF),
            limit=limit,
        )
        return [point.id for point in found.points]

    def count(self, tenant: str) -> int:
        return int(self._client.count(tenant).count)

    def close(self) -> None:
        self._client.close()


class QdrantEdge(Engine):
    """A shard per tenant, with its own BM25."""

    def __init__(self, folder: Path) -> None:
        import qdrant_edge

        self._folder, self._m, self._shards = folder, qdrant_edge, dict[str, Any]()
        self._bm25 = qdrant_edge.Bm25()

    def create(self, tenant: str) -> None:
        m, path = self._m, self._folder / tenant
        if path.exists():
            self._shards[tenant] = m.EdgeShard.load(str(path))
            return
        path.mkdir(parents=True)
        config = m.EdgeConfig(
            vectors={"dense": m.EdgeVectorParams(DIMENSION, m.Distance.Cosine)},
            sparse_vectors={"words": m.EdgeSparseVectorParams(modifier=m.Modifier.Idf)},
        )
        self._shards[tenant] = shard = m.EdgeShard.create(str(path), config)
        keyword = m.PayloadSchemaType.Keyword
        shard.update(m.UpdateOperation.create_field_index("board", keyword))

    def _shard(self, tenant: str) -> Any:
        if tenant not in self._shards:
            self.create(tenant)
        return self._shards[tenant]

    def upsert(self, tenant: str, rows: Rows) -> None:
        m = self._m
        points = [
            m.Point(
                row["id"],
                {
                    "dense": row["vector"].tolist(),
                    "words": self._bm25.embed_document(row["text"]),
                },
                {"board": row["board"], "text": row["text"]},
            )
            for row in rows
        ]
        self._shard(tenant).update(m.UpdateOperation.upsert_points(points))

    def settle(self, tenant: str) -> None:
        self._shard(tenant).optimize()

    def _filter(self, board: str | None) -> Any:
        if board is None:
            return None
        m = self._m
        return m.Filter(must=[m.FieldCondition("board", match=m.MatchValue(board))])

    def nearest(self, tenant: str, vector: Any, board: str | None, limit: int) -> list[int]:
        m, filter = self._m, self._filter(board)
        query = m.Query.Nearest(vector.tolist(), using="dense")
        found = self._shard(tenant).query(m.QueryRequest(limit, query=query, filter=filter))
        return [point.id for point in found]

    def hybrid(
        self, tenant: str, vector: Any, text: str, board: str | None, limit: int
    ) -> list[int]:
        m, filter = self._m, self._filter(board)
        dense = m.Query.Nearest(vector.tolist(), using="dense")
        words = m.Query.Nearest(self._bm25.embed_query(text), using="words")
        both = [m.Prefetch(limit, query=query, filter=filter) for query in (dense, words)]
        request = m.QueryRequest(limit, query=m.Fusion.Rrf(k=2), prefetches=both)
        return [point.id for point in self._shard(tenant).query(request)]

    def count(self, tenant: str) -> int:
        return int(self._shard(tenant).count(self._m.CountRequest()))

    def close(self) -> None:
        for shard in self._shards.values():
            shard.close()


class Chroma(Engine):
    """A collection per tenant; locally, hybrid is a filter on what texts contain."""

    def __init__(self, folder: Path) -> None:
        import chromadb

        quiet = chromadb.Settings(anonymized_telemetry=False)
        self._client = chromadb.PersistentClient(str(folder), settings=quiet)
        self._collections: dict[str, Any] = {}

    def create(self, tenant: str) -> None:
        self._collections[tenant] = self._client.get_or_create_collection(
            f"tenant-{tenant}", embedding_function=None, configuration={"hnsw": {"space": "cosine"}}
        )

    def _collection(self, tenant: str) -> Any:
        if tenant not in self._collections:
            self.create(tenant)
        return self._collections[tenant]

    def upsert(self, tenant: str, rows: Rows) -> None:
        for start in range(0, len(rows), 5_000):  # the most that it takes
            some = rows[start : start + 5_000]
            self._collection(tenant).upsert(
                ids=[str(row["id"]) for row in some],
                embeddings=np.stack([row["vector"] for row in some]),
                metadatas=[{"board": row["board"]} for row in some],
                documents=[row["text"] for row in some],
            )

    def nearest(self, tenant: str, vector: Any, board: str | None, limit: int) -> list[int]:
        return self._query(tenant, vector, board, limit)

    def hybrid(
        self, tenant: str, vector: Any, text: str, board: str | None, limit: int
    ) -> list[int]:
        words = [{"$contains": word} for word in text.split()]
        return self._query(tenant, vector, board, limit, where_document={"$or": words})

    def _query(
        self, tenant: str, vector: Any, board: str | None, limit: int, **more: Any
    ) -> list[int]:
        if board:
            more["where"] = {"board": board}
        found = self._collection(tenant).query(
            query_embeddings=[vector], n_results=limit, include=[], **more
        )
        return [int(i) for i in found["ids"][0]]

    def count(self, tenant: str) -> int:
        return int(self._collection(tenant).count())


class MilvusLite(Engine):
    """A collection per tenant, with a BM25 function."""

    def __init__(self, folder: Path) -> None:
        from pymilvus import MilvusClient

        folder.mkdir(exist_ok=True)
        self._client = MilvusClient(str(folder / "milvus.db"))

    def create(self, tenant: str) -> None:
        from pymilvus import DataType, Function, FunctionType

        if self._client.has_collection(tenant):
            return
        schema = self._client.create_schema(auto_id=False)
        schema.add_field("id", DataType.INT64, is_primary=True)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=DIMENSION)
        schema.add_field("board", DataType.VARCHAR, max_length=100)
        schema.add_field("text", DataType.VARCHAR, max_length=10_000, enable_analyzer=True)
        schema.add_field("words", DataType.SPARSE_FLOAT_VECTOR)
        schema.add_function(Function("bm25", FunctionType.BM25, ["text"], ["words"]))
        indexes = self._client.prepare_index_params()
        indexes.add_index("vector", index_type="AUTOINDEX", metric_type="COSINE")
        indexes.add_index("words", index_type="SPARSE_INVERTED_INDEX", metric_type="BM25")
        self._client.create_collection(tenant, schema=schema, index_params=indexes)

    def upsert(self, tenant: str, rows: Rows) -> None:
        for start in range(0, len(rows), 1_000):
            self._client.upsert(tenant, rows[start : start + 1_000])

    def settle(self, tenant: str) -> None:
        self._client.flush(tenant)

    def nearest(self, tenant: str, vector: Any, board: str | None, limit: int) -> list[int]:
        found = self._client.search(
            tenant, [vector], anns_field="vector", filter=self._filter(board), limit=limit
        )
        return [hit["id"] for hit in found[0]]

    def hybrid(
        self, tenant: str, vector: Any, text: str, board: str | None, limit: int
    ) -> list[int]:
        from pymilvus import AnnSearchRequest, RRFRanker

        expr = self._filter(board)
        dense = AnnSearchRequest([vector], "vector", {"metric_type": "COSINE"}, limit, expr)
        words = AnnSearchRequest([text], "words", {"metric_type": "BM25"}, limit, expr)
        found = self._client.hybrid_search(tenant, [dense, words], RRFRanker(), limit)
        return [hit["id"] for hit in found[0]]

    def _filter(self, board: str | None) -> str:
        return f'board == "{board}"' if board else ""

    def count(self, tenant: str) -> int:
        found = self._client.query(tenant, output_fields=["count(*)"], consistency_level="Strong")
        return int(found[0]["count(*)"])

    def close(self) -> None:
        self._client.close()


ENGINES: dict[str, type[Engine]] = {
    "shoal": Shoal,
    "lancedb": LanceDB,
    "qdrant-local": QdrantLocal,
    "qdrant-edge": QdrantEdge,
    "chroma": Chroma,
    "milvus-lite": MilvusLite,
}


def sparse(text: str) -> dict[str, Any]:
    """Words as a sparse vector of their counts, by hash."""
    counts: dict[int, float] = {}
    for word in re.findall(r"\w+", text.lower()):
        place = zlib.crc32(word.encode())
        counts[place] = counts.get(place, 0.0) + 1.0
    return {"indices": list(counts), "values": list(counts.values())}


def fuse(lists: list[list[int]]) -> list[int]:
    """Reciprocal rank fusion."""
    scores: dict[int, float] = {}
    for ids in lists:
        for place, id in enumerate(ids):
            scores[id] = scores.get(id, 0.0) + 1 / (60 + place)
    return sorted(scores, key=lambda id: -scores[id])
