"""The long-term store on a real InfluxDB 1.x, where there is one (`apt-get install
influxdb`).
"""

import shutil
import subprocess
import time
from datetime import UTC, datetime

import httpx
import numpy as np
import pytest

from shoal import Egress, Unavailable
from shoal_anomalies.archive import Row
from shoal_anomalies.influx import InfluxArchive

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def influx(tmp_path_factory):
    binary = shutil.which("influxd")
    if not binary:
        pytest.skip("no influxd on the PATH (apt-get install influxdb)")
    import socket

    ports = []
    for _ in range(2):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            ports.append(s.getsockname()[1])
    folder = tmp_path_factory.mktemp("influx")
    config = folder / "influxdb.conf"
    config.write_text(
        f"""
        reporting-disabled = true
        bind-address = "127.0.0.1:{ports[0]}"
        [meta]
        dir = "{folder}/meta"
        [data]
        dir = "{folder}/data"
        wal-dir = "{folder}/wal"
        [http]
        bind-address = "127.0.0.1:{ports[1]}"
        log-enabled = false
        """
    )
    process = subprocess.Popen(
        [binary, "-config", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    for _ in range(300):
        try:
            httpx.get(f"http://127.0.0.1:{ports[1]}/ping")
            break
        except httpx.HTTPError:
            time.sleep(0.05)
    yield f"influxdb://127.0.0.1:{ports[1]}/test_"
    process.terminate()
    process.wait(20)


def rows(series, values, start):
    return [
        Row(
            series, "cpu load", {"host": "a"}, start + 60 * i, float(v), 0.25 if i else float("nan")
        )
        for i, v in enumerate(values)
    ]


async def test_written_points_are_read_back_once(influx):
    archive, start = (
        InfluxArchive(influx, "acme", Egress()),
        datetime.now(UTC).timestamp() // 60 * 60 - 3600,
    )
    await archive.write(rows("a" * 16, [1, 2, 3], start) + rows("b" * 16, [9.5], start))
    await archive.write(rows("a" * 16, [1, 2, 3], start))
    found = await archive.read("a" * 16, start, start + 180)
    assert found.values.tolist() == [1, 2, 3] and found.times[0] == start
    assert np.isnan(found.scores[0]) and found.scores[1] == 0.25
    assert len(await archive.read("a" * 16, start + 60, start + 120)) == 1
    assert set(await archive.read_all(start, start + 180)) == {"a" * 16, "b" * 16}
    assert set(await archive.read_all(start, start + 180, ["b" * 16, "c" * 16])) == {"b" * 16}
    assert not await archive.read_all(start, start + 180, [])


async def test_each_tenant_has_a_database_that_can_be_erased(influx):
    start = datetime.now(UTC).timestamp() // 60 * 60 - 3600
    acme, globex = (
        InfluxArchive(influx, "acme-2", Egress()),
        InfluxArchive(influx, "globex", Egress()),
    )
    await acme.write(rows("a" * 16, [1], start))
    assert len(await globex.read("a" * 16, start, start + 60)) == 0
    await acme.erase()
    assert len(await acme.read("a" * 16, start, start + 60)) == 0


async def test_many_series_are_read_at_once(influx):
    archive = InfluxArchive(influx, "many", Egress())
    start = datetime.now(UTC).timestamp() // 60 * 60 - 3600
    names = [f"{n:016x}" for n in range(500)]
    await archive.write([row for name in names for row in rows(name, [1], start)])
    assert set(await archive.read_all(start, start + 60, names)) == set(names)


async def test_a_rejection_is_told_without_the_stores_words(influx, caplog):
    archive = InfluxArchive(influx, "acme", Egress())
    with pytest.raises(Unavailable) as refusal:
        await archive._request("POST", "/query", {"q": "SELECT canary FROM"})
    assert "SELECT" not in refusal.value.detail and "found EOF" not in refusal.value.detail
    assert "found EOF" in caplog.text


async def test_an_unavailable_store_is_reported(influx):
    archive = InfluxArchive("influxdb://127.0.0.1:1/x", "acme", Egress())
    with pytest.raises(Unavailable, match="is unavailable"):
        await archive.read("a" * 16, 0, 1)
