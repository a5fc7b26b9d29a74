"""From a point posted over HTTP to its alert, through the event log and a worker."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shoal.testing import wait_until

pytestmark = pytest.mark.cluster


def points(metric: str, values: Any, until: datetime) -> list[dict[str, Any]]:
    n = len(values)
    return [
        {
            "metric": metric,
            "time": (until - timedelta(minutes=n - 1 - i)).isoformat(),
            "value": float(v),
            "labels": {"service": "shop"},
        }
        for i, v in enumerate(values)
    ]


def test_a_point_over_the_limit_becomes_one_alert(platform: Any, globex: str) -> None:
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    calm = np.random.default_rng(0).random(200)
    with platform.client(globex) as client:
        sent = points("checkout.error_rate", [*(0.01 + 0.002 * calm), 0.4, 0.5], now)
        sent += points("checkout.latency_ms", [*(100 + 10 * calm), 900, 950], now)
        assert client.anomalies.add_metrics(body=sent) == {"accepted": len(sent), "rejected": []}

        def alert() -> Any:
            found = client.anomalies.list_alerts(priority="P1")["alerts"]
            return [
                a for a in found if "checkout.error_rate" in {m["metric"] for m in a["members"]}
            ]

        (found,) = wait_until(alert)
        assert {m["metric"] for m in found["members"]} == {
            "checkout.error_rate",
            "checkout.latency_ms",
        }
        assert "checkout.error_rate is" in found["sentence"]
        series = client.anomalies.get_series(metric="checkout.error_rate")
        assert (
            len(series["times"]) == 202 and max(s for s in series["scores"] if s is not None) >= 0.5
        )
        assert client.anomalies.acknowledge_alert(id=found["id"])["state"] == "acknowledged"


def test_the_nightly_fit_gives_a_band(platform: Any, globex: str) -> None:
    now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    hours = np.arange(24 * 21)
    values = (
        100
        + 50 * np.sin(hours / 24 * 2 * np.pi)
        + np.random.default_rng(1).normal(0, 2, len(hours))
    )
    sent = [
        {"metric": "visits", "time": (now - timedelta(hours=int(h))).isoformat(), "value": float(v)}
        for h, v in zip(hours[::-1], values, strict=True)
    ]
    with platform.client(globex) as client, platform.client(globex, "admin") as admin:
        client.anomalies.add_metrics(body=sent)
        ask = {"metric": "visits", "from": (now - timedelta(days=2)).isoformat()}
        wait_until(
            lambda: "visits" in {s["metric"] for s in client.anomalies.list_metrics()["series"]}
        )
        wait_until(lambda: len(client.anomalies.get_series(**ask)["times"]) == 49)
        run = admin.platform.run_job(name="anomalies.fit", body={"tenant": globex})
        done = wait_until(
            lambda: (
                (r := admin.platform.get_run(id=run["id"]))["state"] not in ("queued", "running")
                and r
            ),
            240,
        )
        assert done["state"] == "succeeded" and done["result"]["fitted"] >= 1, done
        band = client.anomalies.get_series(**ask)
    assert all(
        low < expected < high
        for low, expected, high in zip(band["lower"], band["expected"], band["upper"], strict=True)
    )


def test_feedback_trains_the_job_and_ray_tune(
    platform: Any, tenants: Callable[[], str], tmp_path: Path
) -> None:
    now, tenant = datetime.now(UTC).replace(second=0, microsecond=0), tenants()
    with platform.client(tenant) as client, platform.client(tenant, "admin") as admin:
        for k in range(3):
            values = np.random.default_rng(k).normal(0, 1, 1000)
            values[[400, 550, 700, 850]] += 5.0  # what people call noise
            values[950] += 60.0 if k == 0 else 0.0
            client.anomalies.add_metrics(body=points(f"lag{k}", values, now))
        sent = {f"lag{k}" for k in range(3)}
        # The router's own series may come beside them, when a minute is over.
        wait_until(lambda: sent <= {s["metric"] for s in client.anomalies.list_metrics()["series"]})
        wait_until(
            lambda: all(
                len(client.anomalies.get_series(metric=f"lag{k}")["times"]) == 1000
                for k in range(3)
            )
        )
        found = client.anomalies.list_anomalies(limit=1000)["anomalies"]
        for anomaly in found:
            client.anomalies.give_feedback(id=anomaly["id"], anomaly=anomaly["value"] > 40)
        run = admin.platform.run_job(name="anomalies.learn", body={"tenant": tenant})
        done = wait_until(
            lambda: (
                (r := admin.platform.get_run(id=run["id"]))["state"] not in ("queued", "running")
                and r
            ),
            120,
        )
        assert done["state"] == "succeeded", done
        suggestion = client.anomalies.get_suggestion()["suggestion"]
        assert done["result"]["tenants"][tenant] == suggestion and suggestion["windows"] == 1
        labels = client.anomalies.list_labels()
        (tmp_path / "labels.json").write_text(json.dumps(labels))
    tuned = platform.shoal(
        "tune", "anomalies", "--from", str(tmp_path / "labels.json"), "--samples", "4", timeout=600
    )
    assert (
        tuned["capability"] == "anomalies"
        and tuned["tried"] == 4
        and tuned["metric"] == "NAB score"
    )
    assert {"sensitivity_threshold", "hold_hours"} <= set(tuned["parameters"])
    assert (tuned["searched_on"], tuned["judged_on"]) == (2, 1)
