"""Offline search for parameters: what is varied, and on which cases."""

import pytest
from fastapi import APIRouter
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from shoal import Capability, Invalid, Parameters, Study
from shoal.runtime.tuning import search_space, split_cases


class Weights(Parameters):
    near: float = Field(0.5, ge=0, le=1)
    recent: float = Field(0.5, ge=0, le=1)


@given(st.lists(st.integers(), min_size=2, max_size=50, unique=True))
def test_no_case_is_both_searched_and_judged_on(cases: list[int]) -> None:
    searched, judged = split_cases(cases)
    assert sorted(searched + judged) == sorted(cases)
    assert 0 <= len(searched) - len(judged) <= 1
    assert split_cases(cases) == (searched, judged)


def test_fewer_than_two_cases_cannot_be_split() -> None:
    with pytest.raises(Invalid, match="at least 2 labelled cases; there are 1"):
        split_cases(["only"])


def test_fixed_parameters_are_not_searched() -> None:
    assert set(search_space(Weights)) == {"near", "recent"}
    assert set(search_space(Weights, fixed=["recent"])) == {"near"}


def test_a_study_fixes_only_parameters_there_are() -> None:
    study = Study(lambda path: [], lambda parameters, cases: 0.0, "score", fixed=("resent",))
    with pytest.raises(ValueError, match="resent"):
        Capability(
            "greeting", "Greets.", routes=lambda _: APIRouter(), parameters=Weights, study=study
        )
