"""`shoal dev`: a package that `shoal new` wrote, served and changed."""

import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shoal import Client, NotFound, Unavailable
from shoal.cli.new import new
from shoal.local.private_files import open_private
from shoal.testing import wait_until
from shoal.testing.servers import free_port

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("new") / "made"
    new("people", made)
    return made


@pytest.fixture(scope="module")
def output(folder: Path) -> Iterator[Callable[[], str]]:
    """What `shoal dev` has printed."""
    log, command = folder.parent / "dev.log", [sys.executable, "-m", "shoal.cli.main", "dev"]
    with open_private(log, "wb") as file:
        process = subprocess.Popen(
            [*command, str(folder), "--port", str(free_port())], stdout=file, stderr=file
        )
    try:
        yield log.read_text
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0, log.read_text()


@pytest.fixture(scope="module")
def client(output: Callable[[], str]) -> Iterator[Client]:
    wait_until(lambda: "  platform " in output())
    address, key = re.findall(r"(?:at|acme) +(http\S+\d|shoal_\S+)", output())[::2]
    with Client(address, key, retries=0) as client:
        yield client


def greet(client: Client, name: str = "Ana") -> str:
    try:
        return str(client.people.greet(name=name)["text"])
    except (NotFound, Unavailable, AttributeError):  # it is being served anew
        return ""


def test_events_and_jobs_are_handled(client: Client) -> None:
    event = {"specversion": "1.0", "id": "1", "source": "/t", "type": "person.met"}
    client.platform.append_events(body={**event, "data": {"name": "Bo"}})
    wait_until(lambda: client.people.greet(name="Bo")["has_met"])
    run = client.platform.run_job(name="people.count", body={})
    ended = wait_until(
        lambda: (
            client.platform.get_run(id=run["id"])["finished"]
            and client.platform.get_run(id=run["id"])
        )
    )
    assert ended["result"] == {"acme": 1}


def test_a_change_is_served_and_the_data_stay(client: Client, folder: Path) -> None:
    module = folder / "shoal_people.py"
    module.write_text(module.read_text().replace("Hello {name}", "Ahoy {name}"))
    wait_until(lambda: greet(client) == "Ahoy Ana.")
    assert client.people.greet(name="Bo")["has_met"]


def test_a_broken_plugin_is_named_until_mended(
    client: Client, folder: Path, output: Callable[[], str]
) -> None:
    module = folder / "shoal_people.py"
    text = module.read_text()
    module.write_text(text + "x = (")
    wait_until(lambda: "✗ Plugin people failed to load: SyntaxError" in output())
    module.write_text(text.replace("Ahoy", "Hello again"))
    wait_until(lambda: greet(client) == "Hello again Ana.")
