"""Files over HTTP."""

from collections.abc import Callable

import httpx
import pytest

from .test_files import docx

pytestmark = pytest.mark.anyio
Opener = Callable[..., httpx.AsyncClient]


async def test_file_is_found_by_its_text_as_plain_text(api: Opener) -> None:
    page = b"<html><title>Runbook</title><p>Restart the <b>turbine</b> &lt;slowly&gt;.</p>"
    async with api() as client:
        answer = await client.put(
            "/search/files/f1",
            params={"board_id": "b1", "metadata": '{"size": 3}', "updated_at": "2026-01-02T03:04Z"},
            content=page,
            headers={"content-type": "text/html; charset=utf-8"},
        )
        assert (answer.status_code, answer.json()) == (
            200,
            {"id": "f1", "title": "Runbook", "characters": 29, "truncated": False},
        )
        again = await client.put(
            "/search/files/f2", params={"board_id": "b1", "title": "Mine"}, content=docx("A poem")
        )
        assert again.json()["title"] == "Mine"
        hits = (await client.get("/search", params={"q": "turbine", "type": "file"})).json()["hits"]
    assert [hit["id"] for hit in hits] == ["f1", "f2"]
    assert hits[0]["snippet"] == "Restart the turbine <slowly>."
    assert hits[0]["metadata"] == {"size": 3}
    assert hits[0]["updated_at"] == "2026-01-02T03:04:00Z"


@pytest.mark.parametrize(
    ("params", "content", "location"),
    [
        ({"board_id": "b1"}, b"%PDF-1.4", "body"),
        ({"board_id": "b1"}, b"", "body"),
        ({"board_id": "b1", "metadata": "{"}, b"text", "query.metadata"),
        ({"board_id": "b1", "metadata": "[1]"}, b"text", "query.metadata"),
        ({"board_id": "b1", "metadata": '{"n": 18446744073709551616}'}, b"text", "query.metadata"),
        ({"board_id": "b1", "url": "javascript:x"}, b"text", "query.url"),
        ({"board_id": "b1", "updated_at": "1969-01-01T00:00Z"}, b"text", "query.updated_at"),
    ],
)
async def test_refused_files_say_where_the_fault_is(
    api: Opener, params: dict[str, str], content: bytes, location: str
) -> None:
    async with api(user="ana", boards=frozenset({"b1"})) as client:
        answer = await client.put("/search/files/f1", params=params, content=content)
        assert answer.status_code == 422
        assert [fault["location"] for fault in answer.json()["errors"]] == [location]
        assert (await client.get("/search", params={"q": "text"})).json()["hits"] == []


async def test_a_file_for_a_hidden_board_is_not_found(api: Opener) -> None:
    async with api(user="ana", boards=frozenset({"b1"})) as client:
        answer = await client.put("/search/files/f1", params={"board_id": "b2"}, content=b"text")
        assert answer.status_code == 404
        assert [fault["location"] for fault in answer.json()["errors"]] == ["query.board_id"]
