"""Collections in Milvus: their names, columns and indexes.

A row is one entity for each of its vectors, and one where it has none or was retired.
The first holds everything; the others only what `nearest` needs.
"""

import asyncio
import json
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any, get_args

from pymilvus import DataType

from shoal.contract.errors import Invalid
from shoal.contract.vectors import MAX_ID_BYTES, MAX_TEXT_BYTES, FieldKind, VectorSchema

from .milvus_client import CREATE_SECONDS, ignore_unimplemented
from .milvus_faults import ignore_error, translate_errors
from .milvus_filters import TOKEN_COLUMNS
from .vector_rows import MAX_VERSION_BYTES, NAME

HEAD, BARE, FURTHER, RETIRED = 0, 1, 2, 3
"""Kinds of entities: a row with its first vector, one without any, a further vector,
and what is known of a row that was retired.
"""
PARTITIONS = 64
"""Of a shared collection; a tenant is in one of them.

Milvus's own partition key does the same, but the upsert of 2.3.5 puts rows into other
partitions than it searches.
"""
MAX_LIST = 4_096
"""Texts of a list of Milvus."""
MAX_JSON_BYTES = 65_536
FLAT: dict[str, Any] = {"index_type": "FLAT", "params": {}}
"""Of a shared collection: a small tenant's rows are compared one by one, exactly.

HNSW does the same where a filter leaves few of its rows, as that on a tenant does.
"""
HNSW: dict[str, Any] = {"index_type": "HNSW", "params": {"M": 16, "efConstruction": 200}}
"""Of a tenant's own."""
SCALARS: dict[FieldKind, DataType] = {
    "integer": DataType.INT64,
    "float": DataType.DOUBLE,
    "boolean": DataType.BOOL,
}


def shared_name(name: str, schema: VectorSchema) -> str:
    """The collection of all tenants' collections with this name and these fields."""
    text = json.dumps([schema.dimension, sorted(schema.fields.items())])
    return f"S_{name}_{blake2b(text.encode(), digest_size=6).hexdigest()}"


def own_name(tenant: str, name: str) -> str:
    """The collection of one tenant's collection: no two of them have the same.

    A tenant's id has no capital letters, so they delimit it.
    """
    return f"{own_prefix(tenant)}{name}"


def own_prefix(tenant: str) -> str:
    """The prefix of the names of a tenant's collections, and of no other's."""
    return f"T_{tenant.replace('-', 'M')}_N_"


def partition_of(tenant: str) -> str:
    """A tenant's partition of a shared collection."""
    digest = blake2b(tenant.encode(), digest_size=4).digest()
    return f"p{int.from_bytes(digest) % PARTITIONS}"


def key_of(tenant: str, row_id: str) -> str:
    """The digest by which a row's entities are known."""
    return blake2b(f"{tenant}\0{row_id}".encode(), digest_size=16).hexdigest()


def check_schema(schema: VectorSchema) -> None:
    """Invalid where a collection cannot have these fields."""
    if not 1 <= schema.dimension <= 32_768:
        raise Invalid("a collection's dimension is 1 to 32,768")
    for name, kind in schema.fields.items():
        if name in ("id", "version", "vectors") or not NAME.fullmatch(name):
            raise Invalid(f"{name!r} is not a valid field name")
        if kind not in get_args(FieldKind):
            raise Invalid(f"{kind!r} is not a kind of field")


def columns_of(name: str, kind: FieldKind) -> dict[str, dict[str, Any]]:
    """The columns of a field: its value, whether it is absent, and what is searched."""
    text = {"datatype": DataType.VARCHAR, "max_length": MAX_TEXT_BYTES}
    texts = {
        "datatype": DataType.ARRAY,
        "element_type": DataType.VARCHAR,
        "max_capacity": MAX_LIST,
        "max_length": MAX_TEXT_BYTES,
    }
    absent = {f"a_{name}": {"datatype": DataType.INT8}}
    if kind == "json":
        values = {f"v_{name}": texts, f"p_{name}": {"datatype": DataType.JSON}}
        return {f"f_{name}": text, **absent, **values}
    if kind == "strings":
        return {f"f_{name}": texts, **absent}
    if kind == "tokens":
        return {f"f_{name}": text, **absent} | {f"t{i}_{name}": texts for i in range(TOKEN_COLUMNS)}
    if kind in SCALARS:
        return {f"f_{name}": {"datatype": SCALARS[kind]}, **absent}
    return {f"f_{name}": text, **absent}


def columns(schema: VectorSchema) -> Mapping[str, dict[str, Any]]:
    """All columns by name, each with the arguments of pymilvus's `add_field`."""
    found: dict[str, dict[str, Any]] = {
        "pk": {"datatype": DataType.VARCHAR, "max_length": 40, "is_primary": True},
        "tenant": {"datatype": DataType.VARCHAR, "max_length": 63},
        "row": {"datatype": DataType.VARCHAR, "max_length": 32},
        "id": {"datatype": DataType.VARCHAR, "max_length": MAX_ID_BYTES},
        "kind": {"datatype": DataType.INT8},
        "stamp": {"datatype": DataType.INT64},
        "version": {"datatype": DataType.VARCHAR, "max_length": MAX_VERSION_BYTES + 1},
        "vector": {"datatype": DataType.FLOAT_VECTOR, "dim": schema.dimension},
    }
    for name, kind in schema.fields.items():
        found |= columns_of(name, kind)
    return found


async def create_collection(
    client: Any, collection: str, name: str, schema: VectorSchema, *, shared: bool
) -> None:
    """Create what there is not of a collection, and load it.

    Args:
        client: Of Milvus.
        collection: Its name in Milvus.
        name: The tenant's name of it, for errors.
        schema: Its fields.
        shared: Whether it has a partition for each few tenants.
    """
    made = client.create_schema(auto_id=False, enable_dynamic_field=False)
    for column, arguments in columns(schema).items():
        made.add_field(column, **arguments)
    async with translate_errors(name, CREATE_SECONDS):
        if not await client.has_collection(collection, retry_times=1):
            with ignore_error("exist"):  # created concurrently
                await client.create_collection(collection, schema=made, shards_num=1, retry_times=1)
        if shared:
            there = set(await client.list_partitions(collection, retry_times=1))
            missing = {f"p{i}" for i in range(PARTITIONS)} - there
            with ignore_error("exist"):
                await asyncio.gather(
                    *(client.create_partition(collection, p, retry_times=1) for p in missing)
                )
        await _create_indexes(client, collection, shared=shared)
        await client.load_collection(collection, retry_times=1)


async def _create_indexes(client: Any, collection: str, *, shared: bool) -> None:
    there = await client.list_indexes(collection, retry_times=1)
    version = str(await client.get_server_version(retry_times=1))
    wanted: dict[str, dict[str, Any]] = {
        "vector": {"metric_type": "COSINE", **(FLAT if shared else HNSW)},
        "row": {"index_type": "INVERTED" if "milvus_lite" in version else "Trie"},
    }
    for column, arguments in wanted.items():
        if column in there:
            continue
        params = client.prepare_index_params()
        params.add_index(field_name=column, index_name=column, **arguments)
        with ignore_error("exist"):
            async with ignore_unimplemented():
                await client.create_index(collection, params, retry_times=1)
