"""What a person reads of errors, jobs and their results."""

from typing import Annotated, Any

import pytest
from pydantic import BaseModel, Field, ValidationError

from shoal.console.jobs import describe_duration, describe_failure, describe_result
from shoal.console.messages import describe_error, plain_message
from shoal.contract.batch import validation_errors
from shoal.contract.errors import Conflict, Invalid


class Body(BaseModel):
    id: str = Field("a", pattern=r"^[a-z]+$", min_length=1)
    share: float = Field(0.5, ge=0, le=1)
    count: int = 1
    rows: Annotated[list[int], Field(min_length=2, max_length=3)] = [1, 2]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"id": "A b"}, "Id has characters that are not allowed, such as spaces."),
        ({"id": ""}, "Id must have at least 1 character."),
        ({"share": 7}, "Share must be less than or equal to 1."),
        ({"count": "x"}, "Count must be a whole number."),
        ({"rows": [1] * 4}, "Rows must have at most 3 items, not 4."),
    ],
)
def test_each_fault_is_a_sentence_about_its_field(given: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Body.model_validate(given)
    faults = [
        fault | {"location": f"body.{fault['location']}"}
        for fault in validation_errors(caught.value)
    ]
    assert describe_error(Invalid("invalid", errors=faults)) == expected


def test_an_error_without_faults_is_its_detail() -> None:
    assert describe_error(Conflict("the alert is resolved")) == "The alert is resolved."
    assert plain_message("something else") == "something else"


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        ("ValueError: no such day (jobs.py:12)", "no such day"),
        ("KeyError: 'day' (jobs.py:12)", "'day'"),
        ("the process died; the run is retried", "the process died; the run is retried"),
        (None, ""),
    ],
)
def test_a_jobs_error_shows_no_source_line(error: str | None, shown: str) -> None:
    assert describe_failure(error) == shown


def test_a_jobs_result_is_words() -> None:
    result = {"points_read": 1200, "tenants": {"a": 1, "b": 2}, "share": 0.123456, "done": True}
    shown = "points read 1,200, tenants: 2, share 0.1235, done: yes"
    assert describe_result(result) == shown
    assert describe_result(None) == ""


def test_a_run_says_how_long_it_took() -> None:
    times = {"started": "2026-11-28T10:00:00Z", "finished": "2026-11-28T10:03:00Z"}
    assert describe_duration(times) == "took 3 min"
    assert describe_duration(times | {"finished": None}) == ""
