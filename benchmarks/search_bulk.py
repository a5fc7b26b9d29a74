"""Bulk embedding of short items: the embedder of search, and the Ray Data pipeline of
the job `search.reindex`, beside a bare `model.encode` with the same settings (model,
precision, batch size, threads) on the same texts, in turns in one run.

Run: python benchmarks/search_bulk.py [--items 20000] [--rounds 3] [--no-ray]. The
pipeline joins a running Ray, else it starts one for itself.
"""

from __future__ import annotations

import argparse
import logging
import os
import random
import socket
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("RAY_AUTH_MODE", "disabled")
os.environ.setdefault(
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0"
)  # as `shoal up` starts it: on loopback

from common import machine

from shoal import Unavailable
from shoal.runtime.operator_client import running_config
from shoal_search.embedder import Embedder
from shoal_search.items import Item
from shoal_search.jobs import embed_items
from shoal_search.parameters import SearchSettings
from shoal_search.sentence_encoder import BATCH, SentenceEncoder

WORDS = """
    review fix plan draft ship test design write measure move clean document approve
    schedule archive invoice login roadmap onboarding dashboard contract budget
    newsletter survey release backup payroll report homepage pricing checkout warehouse
    forecast interview policy customer supplier quarter region team before after without
    about under from with again
""".split()  # noqa: SIM905


def short_items(count: int) -> list[Item]:
    """Items of 4 to 16 words, title and text together: what an entry on a board is."""
    rng, now = random.Random(0), datetime.now(UTC)
    return [
        Item(
            id=str(i),
            board_id="b",
            type="item",
            title=" ".join(rng.choices(WORDS, k=rng.randint(1, 5))),
            text=" ".join(rng.choices(WORDS, k=rng.randint(3, 11))),
            updated_at=now,
        )
        for i in range(count)
    ]


def rate(work: Callable[[], int]) -> float:
    began = time.perf_counter()
    return work() / (time.perf_counter() - began)


def pipeline_rate(items: list[Item], settings: SearchSettings) -> float:
    """Items per second from the first batch on: the start of the actor, some seconds,
    is paid once however many items there are.
    """
    began, count = 0.0, 0
    for some in embed_items(items, settings):
        if began:
            count += len(some)
        else:
            began = time.perf_counter()
    return count / (time.perf_counter() - began)


def running() -> str:
    """The address of the running Ray, or of a new one."""
    try:
        config = running_config()
        with socket.create_connection((config.host, config.ray_port), timeout=1):
            return f"{config.host}:{config.ray_port}"
    except (Unavailable, OSError):
        return "local"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-ray", action="store_true")
    given = parser.parse_args()
    settings, items = SearchSettings(), short_items(given.items)
    texts = [item.passage for item in items]
    embedder = Embedder(settings)
    assert isinstance(embedder.encoder, SentenceEncoder)
    model = embedder.encoder.model
    embedder.encode(texts[:512])
    bare = model

    def encode() -> int:
        bare.encode(
            texts,
            batch_size=BATCH,
            normalize_embeddings=True,
            convert_to_tensor=True,
            show_progress_bar=False,
        )
        return len(texts)

    ways: dict[str, Callable[[], float]] = {
        "bare model.encode": lambda: rate(encode),
        "Embedder.encode": lambda: rate(lambda: len(embedder.encode(texts))),
    }
    if not given.no_ray:
        import ray

        logging.getLogger("ray.data").setLevel(logging.ERROR)
        ray.init(running(), log_to_driver=False, logging_level=logging.ERROR)
        ray.data.DataContext.get_current().enable_progress_bars = False
        ways["Ray Data pipeline"] = lambda: pipeline_rate(items, settings)
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(given.rounds):
        for name, measure in ways.items():
            found[name].append(measure())
    print(f"{machine()}; {given.items:,} items in {str(model.dtype).removeprefix('torch.')}")
    print(f"{'median of ' + str(given.rounds):24}{'items/s':>10}{'items/hour':>14}{'x bare':>9}")
    base = statistics.median(found["bare model.encode"])
    for name, rates in found.items():
        value = statistics.median(rates)
        print(f"{name:24}{value:10,.0f}{value * 3600:14,.0f}{value / base:9.2f}")


if __name__ == "__main__":
    main()
