"""Milvus Lite as a server that several processes can write to.

    python -m shoal.local.milvus.server --data-dir … --port … --token-file …

`milvus-lite server` (3.2) runs ten threads over an engine that is written for one: two
writers, or a writer and a flush, lose rows. Here a lock per collection admits one
writer or many readers. A write is synced before it is acknowledged. Rows are flushed
when they are many or there were no writes for a while, since unflushed rows are indexed
again after each write. Searches work on arrays (see `search`). Calls need a token.
"""

import argparse
import base64
import contextlib
import hmac
import logging
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import milvus_lite.db as database
import milvus_lite.engine.collection as engine
from milvus_lite.adapter.grpc.errors import to_status_kwargs
from milvus_lite.adapter.grpc.servicer import MilvusServicer
from milvus_lite.db import MilvusLite
from milvus_lite.exceptions import MilvusLiteError
from milvus_lite.storage.wal import WAL
from pymilvus.grpc_gen import common_pb2, milvus_pb2, milvus_pb2_grpc, schema_pb2

from .search import SearchedCollection

logger = logging.getLogger("shoal.milvus")

READS = (
    "Query",
    "Search",
    "HybridSearch",
    "GetCollectionStatistics",
    "DescribeIndex",
    "GetLoadState",
    "GetLoadingProgress",
)
WRITES = (
    "Insert",
    "Upsert",
    "Delete",
    "Flush",
    "CreateCollection",
    "DropCollection",
    "CreateIndex",
    "DropIndex",
    "LoadCollection",
    "ReleaseCollection",
    "CreatePartition",
    "DropPartition",
    "AlterCollection",
    "RenameCollection",
)
MAX_UNFLUSHED = 2_000
"""Unflushed rows that are flushed at once."""
MIN_FLUSH = 100
"""Unflushed rows that need no flush: each flush writes a file."""
QUIET = 0.5
"""Seconds without a write after which more than `MIN_FLUSH` rows are flushed."""
SETTLED = 5.0
"""Seconds without a write after which a collection is no longer watched."""
MAX_MESSAGE = 256 * 1024 * 1024


class DurableWAL(WAL):  # type: ignore[misc, unused-ignore]  # untyped
    """A write-ahead log that is synced before a write returns."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{**options, "sync_mode": "batch"})


class ReadWriteLock:
    """Many readers or one writer; a waiting writer precedes new readers."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._readers = self._waiting = 0
        self._writing = False

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        with self._changed:
            while self._writing or self._waiting:
                self._changed.wait()
            self._readers += 1
        try:
            yield
        finally:
            with self._changed:
                self._readers -= 1
                self._changed.notify_all()

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        with self._changed:
            self._waiting += 1
            while self._writing or self._readers:
                self._changed.wait()
            self._waiting -= 1
            self._writing = True
        try:
            yield
        finally:
            with self._changed:
                self._writing = False
                self._changed.notify_all()


class Database(MilvusLite):  # type: ignore[misc, unused-ignore]  # untyped
    """Opens each collection once, ready for searches, from any thread."""

    def __init__(self, data_dir: str) -> None:
        self._opening = threading.RLock()
        super().__init__(data_dir)

    def get_collection(self, *args: Any, **options: Any) -> Any:
        with self._opening:
            collection = super().get_collection(*args, **options)
            if collection.load_state != "loaded" and collection._index_specs:
                collection.load()
            return collection

    def create_collection(self, *args: Any, **options: Any) -> Any:
        with self._opening:
            return super().create_collection(*args, **options)

    def drop_collection(self, *args: Any, **options: Any) -> None:
        with self._opening:
            super().drop_collection(*args, **options)


class Servicer(MilvusServicer):  # type: ignore[misc, unused-ignore]  # untyped
    """MilvusServicer with a lock per collection, and a thread that flushes."""

    def __init__(self, db: Database) -> None:
        super().__init__(db)
        self._locks: dict[str, ReadWriteLock] = defaultdict(ReadWriteLock)
        self._written: dict[str, float] = {}
        self._warmed: dict[str, int] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._flusher = threading.Thread(target=self._flush_quiet, name="flusher", daemon=True)
        self._flusher.start()

    def AllocTimestamp(self, request: Any, context: Any) -> Any:
        """A timestamp; pymilvus' AsyncClient needs one, milvus-lite (3.2) has none."""
        return milvus_pb2.AllocTimestampResponse(
            status=common_pb2.Status(), timestamp=time.time_ns()
        )

    def ShowCollections(self, request: Any, context: Any) -> Any:
        """The names of the collections, all reported as loaded.

        `Database` opens a collection when it is first used. milvus-lite's own method
        opens every collection of every tenant, and fails if one is dropped meanwhile.
        """
        try:
            names = self._db.list_collections(database_name=self._database_name(request, context))
        except MilvusLiteError as error:
            return milvus_pb2.ShowCollectionsResponse(
                status=common_pb2.Status(**to_status_kwargs(error))
            )
        if wanted := set(request.collection_names):
            names = [name for name in names if name in wanted]
        return milvus_pb2.ShowCollectionsResponse(
            status=common_pb2.Status(),
            collection_names=names,
            inMemory_percentages=[100] * len(names),
            query_service_available=[True] * len(names),
            shards_num=[1] * len(names),
        )

    def count(self, request: Any, context: Any) -> Any:
        """The result of a query for `count(*)`."""
        collection = self._get_collection(request, context)
        data = schema_pb2.FieldData(field_name="count(*)", type=schema_pb2.DataType.Int64)
        data.scalars.long_data.data.append(collection.count_matching(request.expr or None))
        return milvus_pb2.QueryResults(
            status=common_pb2.Status(),
            fields_data=[data],
            collection_name=collection.name,
            output_fields=["count(*)"],
        )

    def lock(self, name: str) -> ReadWriteLock:
        with self._lock:
            return self._locks[name]

    def written(self, name: str) -> None:
        with self._lock:
            self._written[name] = time.monotonic()

    def close(self) -> None:
        self._stop.set()
        self._flusher.join()

    def _flush_quiet(self) -> None:
        while not self._stop.wait(0.1):
            with self._lock:
                candidates = dict(self._written)
            for name, since in candidates.items():
                try:
                    self._flush_if_due(name, since)
                    self._warm(name)
                except Exception:
                    logger.exception("flushing %s failed", name)

    def _flush_if_due(self, name: str, since: float) -> None:
        def due() -> bool:
            rows = self._db.get_collection(name).count() if self._db.has_collection(name) else 0
            return rows >= MAX_UNFLUSHED or (rows > MIN_FLUSH and time.monotonic() - since > QUIET)

        if due():
            with self.lock(name).writing():
                if due():
                    self._db.get_collection(name).flush()
        if time.monotonic() - since > SETTLED:
            with self._lock:
                if self._written.get(name) == since:
                    del self._written[name]

    def _warm(self, name: str) -> None:
        """Build the indexes of new segments, so that no search has to."""
        if not self._db.has_collection(name):
            return
        collection = self._db.get_collection(name)
        if self._warmed.get(name) != collection.generation:
            with self.lock(name).reading():
                self._warmed[name], state = collection.generation, collection.state()
            collection.warm(state)


def _name(request: Any) -> str:
    if hasattr(request, "collection_names") and request.collection_names:
        return str(request.collection_names[0])
    return str(getattr(request, "collection_name", "") or getattr(request, "oldName", ""))


def _locked(method: str, write: bool) -> Callable[..., Any]:
    inherited = getattr(MilvusServicer, method)

    def call(self: Servicer, request: Any, context: Any) -> Any:
        name = _name(request)
        lock = self.lock(name)
        with lock.writing() if write else lock.reading():
            if method == "Query" and list(request.output_fields) == ["count(*)"]:
                try:
                    return self.count(request, context)
                except MilvusLiteError as error:
                    return milvus_pb2.QueryResults(
                        status=common_pb2.Status(**to_status_kwargs(error))
                    )
            answer = inherited(self, request, context)
        if method in ("Insert", "Upsert", "Delete"):
            self.written(name)
        return answer

    call.__name__ = method
    return call


for _method in READS:
    setattr(Servicer, _method, _locked(_method, write=False))
for _method in WRITES:
    setattr(Servicer, _method, _locked(_method, write=True))


class TokenInterceptor(grpc.ServerInterceptor):  # type: ignore[misc, unused-ignore]  # untyped
    """Refuses calls without the token, which is base64 in `authorization`."""

    def __init__(self, token: str) -> None:
        self._expected = base64.b64encode(token.encode())

        def refuse(request: Any, context: Any) -> None:
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "wrong token")

        self._refusal = grpc.unary_unary_rpc_method_handler(refuse)

    def intercept_service(self, continuation: Any, details: Any) -> Any:
        given = next((v for k, v in details.invocation_metadata if k == "authorization"), "")
        given = given if isinstance(given, bytes) else given.encode()
        return (
            continuation(details) if hmac.compare_digest(given, self._expected) else self._refusal
        )


def serve(data_dir: str, port: int, token: str, threads: int = 10) -> None:
    """Serve until SIGTERM or SIGINT, then finish calls, flush and return."""
    engine.WAL, database.Collection = DurableWAL, SearchedCollection
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    db = Database(data_dir)
    servicer = Servicer(db)
    options = [
        ("grpc.max_receive_message_length", MAX_MESSAGE),
        ("grpc.max_send_message_length", MAX_MESSAGE),
        ("grpc.so_reuseport", 0),
        # pymilvus pings every ten seconds, which gRPC by default answers by closing the
        # connection ("too_many_pings").
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 1_000),
        ("grpc.http2.max_ping_strikes", 0),
    ]
    server = grpc.server(
        ThreadPoolExecutor(threads),
        interceptors=[TokenInterceptor(token)] if token else [],
        options=options,
    )
    milvus_pb2_grpc.add_MilvusServiceServicer_to_server(servicer, server)
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    stop.wait()
    server.stop(grace=5).wait()
    servicer.close()
    db.close()


def main() -> None:
    parser = argparse.ArgumentParser(description="Milvus Lite on loopback, for several writers.")
    parser.add_argument("--data-dir", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--token-file", type=Path)
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    serve(
        given.data_dir, given.port, given.token_file.read_text().strip() if given.token_file else ""
    )


if __name__ == "__main__":
    main()
