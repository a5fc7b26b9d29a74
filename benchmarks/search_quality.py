"""nDCG@10 of search through the HTTP API on judged collections, beside its semantic and
its keyword part alone.

Against a running Shoal:

    python benchmarks/search_quality.py [--url URL] [--data FOLDER] [NAME …]

FOLDER (default: ../shared/data/ir beside the repository, or SHOAL_REFERENCE/ir) holds
collections in BEIR's layout. Each is loaded into a tenant of its own, which is deleted
at the end.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from contextlib import suppress
from pathlib import Path

from shoal import Client, InternalError, NotFound, operator_client
from shoal_search.beir import JudgedCollection, load_collection, ndcg
from shoal_search.commands import read_items_file

REFERENCE = Path(os.environ.get("SHOAL_REFERENCE", Path(__file__).parents[2] / "shared" / "data"))
TARGETS = {"cranfield": 0.42, "cisi": 0.468}
WAIT_SECONDS = 600
VARIANTS = {
    "fused": {},
    "semantic": {"semantic_weight": 1, "keyword_weight": 0, "recency_weight": 0},
    "keyword": {"semantic_weight": 0, "keyword_weight": 1, "recency_weight": 0},
}


def load(client: Client, folder: Path) -> float:
    """Seconds it took until every document could be found."""
    items, began = list(read_items_file(folder)), time.perf_counter()
    accepted = 0
    for start in range(0, len(items), 200):
        answer = client.search.add_items(body=items[start : start + 200])
        for fault in answer["rejected"]:
            print(f"  left out: document {items[start + fault['index']]['id']}: {fault['error']}")
        accepted += answer["accepted"]
    while client.search.search(q="any", limit=1)["total"] < accepted:
        if time.perf_counter() - began > WAIT_SECONDS:
            raise SystemExit(f"{folder.name}: not indexed within {WAIT_SECONDS} s")
        time.sleep(1)
    return time.perf_counter() - began


def quality(client: Client, collection: JudgedCollection) -> float:
    values = []
    for query, relevance in collection.relevance.items():
        hits = client.search.search(q=collection.queries[query], limit=10)["hits"]
        values.append(ndcg([hit["id"] for hit in hits], relevance))
    return statistics.mean(values)


def erase(operator: Client, tenant: str) -> None:
    """Twice where something was still being written for it."""
    with suppress(NotFound):
        try:
            operator.platform.delete_tenant(id=tenant)
        except InternalError:
            time.sleep(2)
            operator.platform.delete_tenant(id=tenant)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help="collections; default: all in the folder")
    parser.add_argument("--url", default=os.environ.get("SHOAL_URL", "http://127.0.0.1:8000"))
    parser.add_argument("--data", type=Path, default=REFERENCE / "ir")
    given = parser.parse_args()
    names = given.names or sorted(path.parent.name for path in given.data.glob("*/corpus.jsonl"))
    print(
        f"{'collection':12}{'documents':>10}{'queries':>9}{'fused':>8}{'semantic':>10}{'keyword':>9}{'wanted':>8}"
    )
    with operator_client() as operator:
        for name in names:
            tenant = f"quality-{name}"
            erase(operator, tenant)
            operator.platform.create_tenant(body={"id": tenant, "name": name})
            try:
                key = operator.platform.create_key(id=tenant, body={"role": "editor"})["key"]
                with Client(given.url, key) as client:
                    collection = load_collection(given.data / name)
                    seconds = load(client, given.data / name)
                    found = {}
                    for variant, parameters in VARIANTS.items():
                        client.platform.put_parameters(capability="search", body=parameters)
                        time.sleep(1)  # until every replica follows
                        found[variant] = quality(client, collection)
                    wanted = f"{TARGETS[name]:8.3f}" if name in TARGETS else ""
                    print(
                        f"{name:12}{len(collection.documents):10,}{len(collection.relevance):9,}"
                        f"{found['fused']:8.4f}"
                        f"{found['semantic']:10.4f}{found['keyword']:9.4f}{wanted}"
                        f"   (loaded in {seconds:.0f} s)"
                    )
            finally:
                erase(operator, tenant)


if __name__ == "__main__":
    main()
