"""Who may call what: every operation of every capability, for every kind of caller.

The operations and the rights that they need come from OpenAPI. Who has which right is
in a table of its own, `MAY`.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from schemathesis.core.failures import Failure, FailureGroup

from shoal import Event
from shoal.contract.operations import Operation, OperationRequest, operations
from shoal.contract.rights import RIGHTS
from shoal.eventlog.keys import log, usage
from shoal.router.credentials import mint_internal
from shoal.stores.redis_client import async_redis
from shoal.tenants.keyspace import PREFIX
from shoal.tenants.records import PLATFORM
from shoal.testing.app import SECRET, CapabilityApp

from .samples import SAMPLES

CAPABILITIES = ("platform", "anomalies", "experiments", "features", "optimizer", "search")
ROLES = ("reader", "editor", "admin")
KINDS = ("service", "member", "outsider", "named")
"""A key without a user; keys of a user on the board `b`, and of one who is not; a key
without a user that names the outsider in `Shoal-User`.
"""
MAY = {  # as a service       as a user              by Shoal-User
    "read:own": ("reader editor admin", "reader editor admin", "reader editor admin"),
    "write:own": ("editor admin", "editor admin", "editor admin"),
    "read:boards": ("reader editor admin", "reader editor admin", "reader editor admin"),
    "write:boards": ("editor admin", "editor admin", "editor admin"),
    "read:tenant": ("reader editor admin", "admin", ""),
    "write:tenant": ("editor admin", "admin", ""),
    "admin:tenant": ("admin", "admin", ""),
    "admin:platform": ("", "", ""),
}
"""The roles that have a right."""
UNMET = {"anomalies.give_feedback": 404, "platform.forget_group": 404, "optimizer.accept": 409}
"""Operations whose samples find nothing: no anomaly, and a task that has a team."""
ENDS = [name for name in SAMPLES if name.split(".")[1].startswith(("delete", "forget", "cancel"))]
VOLATILE = (
    "@",
    "audit:",
    "minute:",
    "users:",
    "active:",
    "closed:",
    "replicas:",
    "watch:",
    "capabilities",
    "ceiling:",
)
"""The router's own records, which every request changes."""


class Matrix:
    """All capabilities, and a tenant with one object of each kind."""

    def __init__(self, app: CapabilityApp) -> None:
        self.app = app
        self.http = httpx.Client(base_url=app.address, timeout=60)
        self.specs: dict[str, dict[str, Any]] = {}
        self.operations: dict[str, Operation] = {}
        self.described: dict[str, Any] = {}
        self.faults: dict[str, str] = {}
        for capability in CAPABILITIES:
            document = self.http.get(f"/{capability}/openapi.json").json()
            for methods in document["paths"].values():
                for spec in methods.values():
                    self.specs[f"{capability}.{spec['operationId']}"] = spec
            for found in schemathesis.openapi.from_dict(document).get_all_operations():
                operation_id = found.ok().definition.raw["operationId"]
                self.described[f"{capability}.{operation_id}"] = found.ok()
            for name, operation in operations(document).items():
                self.operations[f"{capability}.{name}"] = operation
        self.seen: dict[str, Any] = {"tenant": "matrix"}

    def request(self, name: str, **changed: Any) -> OperationRequest:
        sample = SAMPLES[name]
        arguments = sample(self.seen) if callable(sample) else sample
        return self.operations[name].request({**arguments, **changed})

    def send(self, request: OperationRequest, headers: Mapping[str, str]) -> httpx.Response:
        return self.http.request(
            request.method,
            request.path,
            params=request.query,
            content=request.body,
            headers={**dict(request.headers), **headers},
        )

    def call(self, name: str, headers: Mapping[str, str], **changed: Any) -> httpx.Response:
        answer = self.send(self.request(name, **changed), headers)
        try:
            self.described[name].validate_response(answer)
        except (Failure, FailureGroup) as error:
            self.faults[name] = f"{name}: {error}"
        return answer

    def caller(self, role: str, kind: str) -> dict[str, str]:
        user = kind if kind in ("member", "outsider") else None
        headers = {"authorization": f"Bearer {self.app.key(self.seen['tenant'], role, user)}"}
        return headers | ({"shoal-user": "outsider"} if kind == "named" else {})

    def operator(self) -> dict[str, str]:
        return {"authorization": f"Bearer {mint_internal(SECRET, PLATFORM, 'admin')}"}

    def right(self, name: str) -> str:
        return str(self.specs[name]["x-shoal-right"])

    def run_samples(self, wanted: Callable[[str], bool]) -> None:
        """Call the operations in their order, as who may call them all."""
        for name in SAMPLES:
            if not wanted(name):
                continue
            operate = self.right(name) == "admin:platform"
            answer = self.call(
                name, self.operator() if operate else self.caller("admin", "service")
            )
            if name in UNMET:
                assert answer.status_code == UNMET[name], (name, answer.text)
            else:
                assert answer.is_success, (name, answer.status_code, answer.text)
            if answer.content and "json" in answer.headers["content-type"]:
                self.seen[name] = answer.json()

    def stored(self) -> dict[str, Any]:
        """What every store holds, byte for byte, without the router's own records."""
        tenant, platform = self.seen["tenant"], self.app.platform
        found: dict[str, Any] = {
            str(file): hashlib.sha1(file.read_bytes(), usedforsecurity=False).digest()
            for file in Path(platform.stores.lake).rglob("*")
            if file.is_file()
        }

        counted = usage(tenant, "")

        async def read() -> None:
            for uri in {platform.stores.online, platform.stores.events}:
                async for key in (redis := async_redis(uri)).scan_iter(count=1000):
                    name = key.decode().removeprefix(PREFIX)
                    if not name.startswith((*VOLATILE, counted)) and key.decode() != log(tenant):
                        unordered = {b"hash": redis.hgetall, b"set": redis.smembers}
                        found[name] = await unordered.get(await redis.type(key), redis.dump)(key)
            events = [
                event async for _, event in platform.open_stores(tenant, "platform").events.read()
            ]  # the router appends metrics whenever a minute is over
            found["events"] = [event for event in events if event.type != "metric"]

        self.app.run(read())
        return found

    def items(self) -> Any:
        hits = self.call("search.search", self.caller("admin", "service")).json()["hits"]
        return [(hit["id"], hit["board_id"], hit["snippet"]) for hit in hits]


@pytest.fixture(scope="module")
def matrix(shoal_app: Callable[..., CapabilityApp]) -> Iterator[Matrix]:
    matrix = Matrix(shoal_app(*CAPABILITIES[1:]))
    for role in ROLES:
        for kind in KINDS:
            matrix.caller(role, kind)
    matrix.app.client("matrix").anomalies.put_rule(**SAMPLES["anomalies.put_rule"])
    points = [{"metric": "m", "value": value} for value in (1.0, 2.0, 3.0)]
    matrix.app.stream(
        "anomalies.points",
        [Event(type="metric", source="test", data=point) for point in points],
        "matrix",
    )
    matrix.run_samples(lambda name: name not in ENDS)
    plan = matrix.call("optimizer.plan", matrix.caller("editor", "member"))
    matrix.seen["optimizer.plan"] = plan.json()
    yield matrix
    matrix.http.close()


def expected(matrix: Matrix, name: str, role: str, kind: str) -> str:
    """What a caller gets: "allowed", "refused" (403), "hidden" (403, 404 or nothing).

    The samples name the data of the user `member`, and those of the board `b`.
    """
    spec = matrix.specs[name]
    right, others = spec["x-shoal-right"], spec.get("x-shoal-right-for-others")
    if not may(right, role, kind):
        return "refused"
    if right.endswith(":boards") and kind in ("outsider", "named"):
        return "hidden"
    if right.endswith(":own") and others and kind != "member":
        return "allowed" if may(others, role, kind) else "hidden"
    return "allowed"


def may(right: str, role: str, kind: str) -> bool:
    service, user, named = MAY[right]
    roles = {"service": service, "named": named}.get(kind, user)
    return role in roles.split()


def callers(matrix: Matrix, name: str, *answers: str) -> list[tuple[str, str, str]]:
    """The roles and kinds of callers that get one of these answers, and the answer."""
    everyone = [
        (role, kind, expected(matrix, name, role, kind)) for role in ROLES for kind in KINDS
    ]
    return [caller for caller in everyone if caller[2] in answers]


def test_every_operation_declares_a_right_and_has_a_sample(matrix: Matrix) -> None:
    undeclared = [n for n, spec in matrix.specs.items() if spec.get("x-shoal-right") not in RIGHTS]
    assert undeclared == []
    assert set(MAY) == set(RIGHTS)
    assert list(matrix.operations.keys() ^ SAMPLES.keys()) == []


def test_an_operation_that_only_reads_needs_no_right_to_write(matrix: Matrix) -> None:
    for name, operation in matrix.operations.items():
        right = matrix.right(name)
        assert operation.safe or not right.startswith("read:"), name
        assert not (operation.safe and right.startswith("write:")), name


@pytest.mark.parametrize("name", SAMPLES)
def test_others_are_refused_and_change_nothing(matrix: Matrix, name: str) -> None:
    before, items = matrix.stored(), matrix.items()
    for role, kind, answer in callers(matrix, name, "refused", "hidden"):
        got = matrix.call(name, matrix.caller(role, kind))
        who = f"{name} by {kind} {role}: {got.status_code} {got.text[:300]}"
        assert got.status_code == 403 or answer == "hidden", who
        assert got.status_code in (200, 403, 404) and "canary" not in got.text, who
    assert matrix.stored() == before
    assert matrix.items() == items


@pytest.fixture(scope="module")
def keys_without(matrix: Matrix) -> dict[str, str]:
    """By right: a service's key with every right but that one."""
    keys = {}
    for right in RIGHTS:
        role = f"without-{right.replace(':', '.')}"
        rest = frozenset(RIGHTS) - {right, "admin:platform"}
        matrix.app.run(matrix.app.platform.directory.roles.put("matrix", role, rest))
        keys[right] = matrix.app.key("matrix", role)
    return keys


@pytest.mark.parametrize("name", SAMPLES)
def test_all_other_rights_together_do_not_suffice(
    matrix: Matrix, keys_without: dict[str, str], name: str
) -> None:
    key = keys_without[matrix.right(name)]
    answer = matrix.call(name, {"authorization": f"Bearer {key}"})
    assert answer.status_code == 403 and matrix.right(name) in answer.json()["detail"]


@pytest.mark.parametrize("name", [name for name in SAMPLES if name not in ENDS])
def test_those_with_the_right_are_admitted(matrix: Matrix, name: str) -> None:
    for role, kind, _ in callers(matrix, name, "allowed"):
        got = matrix.call(name, matrix.caller(role, kind))
        who = f"{name} by {kind} {role}: {got.status_code} {got.text[:300]}"
        assert got.status_code not in (401, 403) and got.status_code < 500, who
        if name in ("search.search", "optimizer.get_task", "optimizer.list_tasks"):
            assert "canary" in got.text, who


def test_those_with_the_right_may_remove(matrix: Matrix) -> None:
    matrix.run_samples(lambda name: name in ENDS)
    for name in ENDS:
        for role, kind, _ in callers(matrix, name, "allowed"):
            got = matrix.call(name, matrix.caller(role, kind))
            assert got.status_code in (200, 202, 204, 404, 409), (name, role, kind, got.text)


def test_every_answer_was_as_openapi_describes_it(matrix: Matrix) -> None:
    assert not matrix.faults, "\n\n".join(matrix.faults.values())
