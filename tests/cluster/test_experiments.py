"""Experiments on a cluster: tune, test and promote; and daily results by Ray Data."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shoal import Client
from shoal.testing import wait_until

pytestmark = pytest.mark.cluster


def collection(folder: Path) -> Path:
    """Judged queries whose words mislead: the documents that hold them are not the ones
    judged relevant.
    """
    documents = [
        {
            "_id": "relevant",
            "title": "",
            "text": "The sign-in screen takes ages to appear after entering a password",
        },
        {"_id": "misleading", "title": "", "text": "login login page page menu of the canteen"},
        *(
            {
                "_id": f"other-{i}",
                "title": "",
                "text": f"Minutes of meeting number {i} about the garden",
            }
            for i in range(20)
        ),
    ]
    (folder / "qrels").mkdir(parents=True)
    (folder / "corpus.jsonl").write_text("\n".join(map(json.dumps, documents)))
    queries = [
        {"_id": "q1", "text": "login page slow"},
        {"_id": "q2", "text": "slow login page menu"},
    ]
    (folder / "queries.jsonl").write_text("\n".join(map(json.dumps, queries)))
    (folder / "qrels" / "test.tsv").write_text(
        "query-id\tcorpus-id\tscore\nq1\trelevant\t1\nq2\trelevant\t1\n"
    )
    return folder


# `shoal tune` loads the model again and starts trials: minutes on a busy machine.
@pytest.mark.timeout(900)
def test_parameters_are_tuned_tested_and_promoted(
    platform: Any, tenants: Callable[[], str], tmp_path: Path
) -> None:
    """The walk-through of docs/experiments.md."""
    tenant = tenants()
    tuned = platform.shoal(
        "tune",
        "search",
        "--from",
        str(collection(tmp_path / "judged")),
        "--samples",
        "4",
        timeout=600,
    )
    assert tuned["capability"] == "search" and set(tuned["parameters"]) >= {
        "semantic_weight",
        "keyword_weight",
    }
    if (
        tuned["best"] <= tuned["default"]
    ):  # so small a collection may already be ranked as well as can be
        tuned["default"] = tuned["best"] - 0.1
    (tmp_path / "tuned.json").write_text(json.dumps(tuned))
    (tmp_path / "design.json").write_text(
        json.dumps(
            {
                "primary": {"name": "opened", "event": "hit.opened"},
                "minimum_effect": 0.3,
                "baseline": 0.3,
                "minimum_sample_size": 15,
                "duration_days": 0,
            }
        )
    )
    drafted = platform.shoal(
        "experiments",
        "propose",
        "weights",
        "--tuned",
        str(tmp_path / "tuned.json"),
        "--design",
        str(tmp_path / "design.json"),
        "--tenant",
        tenant,
        "--only",
        "semantic_weight",
        "--only",
        "keyword_weight",
    )
    assert drafted["status"] == "draft"
    with platform.client(tenant) as client:
        client.experiments.start(id="weights")
        client.search.add_items(
            body=[
                {
                    "id": "1",
                    "board_id": "help",
                    "type": "item",
                    "title": "",
                    "text": "The login page is slow.",
                    "updated_at": "2026-11-20T09:00:00Z",
                }
            ]
        )
        client.platform.put_members(
            board="help", users=[f"u{i}" for i in range(50)]
        )  # whoever sees no board uses no weights
        arm = {
            f"u{i}": client.experiments.assignment(id="weights", unit=f"u{i}")["variant"]
            for i in range(50)
        }
        everyone_searches(platform, tenant, arm)
        opened = [
            {
                "specversion": "1.0",
                "id": f"open-{u}",
                "source": "test",
                "type": "hit.opened",
                "subject": u,
            }
            for i, u in enumerate(arm)
            if (arm[u] == "tuned") == (i % 10 > 0)
        ]
        client.platform.append_events(body=opened)
        report = client.experiments.results(id="weights")
        assert report["verdict"]["decision"] == "ship" and report["verdict"]["winner"] == "tuned", (
            report["verdict"]
        )
        client.experiments.promote(id="weights")
        own = client.platform.get_parameters(capability="search")["own"]
        assert own == drafted["design"]["variants"][1]["parameters"]


def everyone_searches(platform: Any, tenant: str, arm: dict[str, str]) -> None:
    """Users search until all their exposures are on record: a search that a replica
    answers before it has heard of the experiment exposes nobody, and searching again
    exposes nobody twice.
    """

    def seen() -> bool:
        for user in arm:
            with Client(platform.address, platform.key(tenant), user=user) as person:
                person.search.search(q="login page slow")
        time.sleep(0.5)  # exposures are logged behind the answers
        with platform.client(tenant) as client:
            return sum(client.experiments.results(id="weights")["health"]["units"].values()) == len(
                arm
            )

    wait_until(seen, 180)


def test_daily_results_by_ray_data_equal_the_report(
    platform: Any, tenants: Callable[[], str]
) -> None:
    tenant = tenants()
    with platform.client(tenant) as client:
        client.experiments.draft(
            id="days",
            body={
                "hypothesis": "Ray Data counts as we do.",
                "variants": [{"name": "a", "allocation": 50}, {"name": "b", "allocation": 50}],
                "primary": {"name": "m", "kind": "mean", "cuped_days": 2},
                "minimum_effect": 1,
                "variance": 4,
                "baseline": 1,
                "minimum_sample_size": 2,
                "duration_days": 0,
            },
        )
        client.experiments.start(id="days")
        units = [f"u{i}" for i in range(12)]
        for unit in units:
            client.experiments.assignment(id="days", unit=unit)
        client.experiments.add_outcomes(
            id="days", body=[{"unit": u, "value": i} for i, u in enumerate(units)]
        )
        before = client.experiments.results(id="days")["metrics"][0]["comparisons"]["b"]
        for _ in range(2):
            run = client.platform.run_job(name="experiments.aggregate", body={"tenant": tenant})
            wait_until(
                lambda id=run["id"]: (
                    client.platform.get_run(id=id)["state"] not in ("queued", "running")
                ),
                180,
            )
            done = client.platform.get_run(id=run["id"])
            assert done["state"] == "succeeded", done
            assert done["result"]["experiments"] == 1
            again = client.experiments.results(id="days")["metrics"][0]["comparisons"]["b"]
            assert [again[n] for n in ("effect", "p_value")] == pytest.approx(
                [before[n] for n in ("effect", "p_value")], rel=1e-12
            )
