"""The platform's own operations, behind the real Router."""

from collections.abc import Callable
from typing import Any

import pytest

from shoal import Forbidden

EVENT = {"id": "1", "source": "test", "type": "item.updated", "subject": "plans", "data": {"board_id": "directors"}}


@pytest.mark.parametrize(
    "act",
    [
        lambda platform: platform.put_members(board="directors", users=["mallory"]),
        lambda platform: platform.append_events(body=[EVENT]),
        lambda platform: platform.dead_letters(),
        lambda platform: platform.replay(body={"group": "search.0"}),
    ],
    ids=["members", "events", "dead letters", "replay"],
)
def test_what_reaches_every_board_is_not_for_a_user(shoal_app: Callable[..., Any], act: Callable[[Any], Any]) -> None:
    app = shoal_app()
    for caller in (app.client("acme"), app.client("acme", "admin", "ana")):
        act(caller.platform)
    with pytest.raises(Forbidden):
        act(app.client("acme", "editor", "mallory").platform)
