"""Proportions with few events: exact tests, their intervals, and what follows them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import barnard_exact, binom, binomtest, fisher_exact, multinomial

from shoal_experiments import always_valid
from shoal_experiments.comparison import compare, contrast
from shoal_experiments.contrast import Effect
from shoal_experiments.exact import ExactContrast
from shoal_experiments.exact_power import exact_power
from shoal_experiments.looks import next_look
from shoal_experiments.mismatch import THRESHOLD, sample_ratio_p_value
from shoal_experiments.non_inferiority import non_inferiority
from shoal_experiments.proportions import ScoreContrast, exact_interval, score
from shoal_experiments.required_units import required_units
from shoal_experiments.summaries import Proportion, Undefined

from .test_design import design


@st.composite
def proportions(draw: st.DrawFn, most: int = 40) -> Proportion:
    n = draw(st.integers(3, most))
    return Proportion(n, draw(st.integers(0, n)))


def chances_of(c: Proportion, t: Proportion, p1: np.ndarray, p2: np.ndarray) -> np.ndarray:
    """Chance of every table at each pair of rates, shape (rates, n1 + 1, n2 + 1)."""
    first = binom.pmf(np.arange(c.n + 1), c.n, p1[:, None])
    second = binom.pmf(np.arange(t.n + 1), t.n, p2[:, None])
    return first[:, :, None] * second[:, None, :]


@settings(max_examples=40)
@given(
    proportions(25),
    proportions(25),
    st.sampled_from([-0.2, 0.0, 0.07, 0.3]),
    st.sampled_from([0.5, 1.0, 1.7]),
    st.booleans(),
)
def test_exact_tails_are_those_of_all_tables(
    c: Proportion, t: Proportion, difference: float, ratio: float, above: bool
) -> None:
    """Every table and a thousand nuisance rates, within the arms' own intervals."""
    counts = np.meshgrid(np.arange(c.n + 1), np.arange(t.n + 1), indexing="ij")
    scales: list[tuple[Effect, float]] = [("absolute", difference), ("relative", ratio)]
    for scale, value in scales:
        z = score(counts[0], c.n, counts[1], t.n, value, scale)
        seen = z[c.successes, t.successes]
        extreme = z >= seen - 1e-9 if above else z <= seen + 1e-9
        (low, high), (first, last) = (exact_interval(arm, 5e-7) for arm in (c, t))
        p1 = np.linspace(low, high, 1001)
        p2 = p1 + value if scale == "absolute" else p1 * value
        keep = (p2 >= max(first, 0) - 1e-12) & (p2 <= min(last, 1) + 1e-12)
        if not keep.any():
            continue
        chances = chances_of(c, t, p1[keep], np.clip(p2[keep], 0, 1))
        wanted = float((chances * extreme).sum(axis=(1, 2)).max())
        if scale == "relative" and c.successes == 0:
            continue
        effect = value if scale == "absolute" else value - 1
        found = ExactContrast(c, t, scale).tail(effect, above=above)
        assert wanted - 1e-3 * wanted <= found <= wanted * 1.01 + 2e-5


@pytest.mark.parametrize("tables", [((9, 2), (14, 11)), ((20, 1), (30, 9)), ((12, 12), (15, 9))])
def test_exact_tests_agree_with_scipys_barnard(tables: tuple[tuple[int, int], ...]) -> None:
    """SciPy searches rates that the data rule out, too: its p-value may be larger."""
    (n1, x1), (n2, x2) = tables
    theirs = barnard_exact(
        [[x1, x2], [n1 - x1, n2 - x2]], alternative="less" if x1 * n2 < x2 * n1 else "greater"
    ).pvalue
    c, t = Proportion(n1, x1), Proportion(n2, x2)
    ours = compare(c, t)
    assert ours.method == "exact unconditional"
    assert 0.7 * theirs <= ours.p_value / 2 <= theirs + 2e-6


@pytest.mark.parametrize(
    ("control", "treatment"), [((9000, 0), (1000, 1)), ((99_000, 0), (1000, 1)), ((99, 0), (1, 1))]
)
def test_one_event_is_about_as_surprising_as_fisher_says(
    control: tuple[int, int], treatment: tuple[int, int]
) -> None:
    c, t = Proportion(*control), Proportion(*treatment)
    fisher = fisher_exact([[c.successes, c.n - c.successes], [t.successes, t.n - t.successes]])
    assert fisher.pvalue / 2 < compare(c, t).p_value < 2 * fisher.pvalue


def sizes_of_test(n1: int, n2: int, rate: float, alpha: float = 0.05) -> float:
    """The chance of a significant result at equal rates, over all likely tables."""
    most1, most2 = (int(binom.isf(1e-7, n, rate)) + 1 for n in (n1, n2))
    total = 0.0
    for x2 in range(most2 + 1):
        for x1 in range(most1 + 1):
            found = contrast(Proportion(n1, x1), Proportion(n2, x2), "absolute")
            if 2 * min(found.tail(0.0, above=above) for above in (True, False)) < alpha:
                total += float(binom.pmf(x1, n1, rate) * binom.pmf(x2, n2, rate))
    return total


@pytest.mark.parametrize(
    ("n1", "n2", "events"), [(1000, 1000, 2.0), (900, 100, 0.3), (900, 100, 1.0), (990, 10, 0.05)]
)
def test_few_events_are_significant_at_most_at_alpha(n1: int, n2: int, events: float) -> None:
    """Exactly, by enumeration; `events` are expected in the treatment."""
    assert sizes_of_test(n1, n2, events / n2) <= 0.05


@settings(max_examples=30)
@given(proportions(), proportions(), st.sampled_from([0.01, 0.05, 0.2]))
def test_exact_intervals_agree_with_their_test(c: Proportion, t: Proportion, alpha: float) -> None:
    scales: list[Effect] = ["absolute", "relative"] if c.successes else ["absolute"]
    for scale in scales:
        found = ExactContrast(c, t, scale)
        low, high = found.bounds(alpha / 2)
        assert -1 <= low <= found.effect <= high
        p = 2 * min(found.tail(0, above=True), found.tail(0, above=False))
        assert (low > 0 or high < 0) == (p < alpha) or abs(p - alpha) < 1e-9
        asymptotic = ScoreContrast(c, t, scale).bounds(alpha / 2)
        if scale == "absolute":  # exact intervals are about as long
            assert (high - low) < 2 * (asymptotic[1] - asymptotic[0])


def test_an_exact_interval_covers_at_the_rate_it_says() -> None:
    """By enumeration at a true difference: coverage is at least 95 %."""
    n1, n2, p1, p2 = 40, 10, 0.05, 0.25
    covered = 0.0
    for x1 in range(int(binom.isf(1e-5, n1, p1)) + 1):
        for x2 in range(n2 + 1):
            low, high = ExactContrast(Proportion(n1, x1), Proportion(n2, x2), "absolute").bounds(
                0.025
            )
            if low <= p2 - p1 <= high:
                covered += float(binom.pmf(x1, n1, p1) * binom.pmf(x2, n2, p2))
    assert 0.949 <= covered < 0.995


def test_the_result_says_which_test_it_was() -> None:
    assert compare(Proportion(1000, 2), Proportion(1000, 9)).method == "exact unconditional"
    assert compare(Proportion(1000, 200), Proportion(1000, 230)).method == "score"
    many = Proportion(10_000, 300), Proportion(10_000, 330)
    assert compare(*many).method == "score"
    tail = Proportion(1000, 30), Proportion(1000, 33)
    assert contrast(*tail, "absolute").method == "score"
    assert contrast(*tail, "absolute", one_sided=True).method == "exact unconditional"


def kept(n1: int, n2: int, p1: float, p2: float, margin: float) -> float:
    """The chance that a guardrail with true harm at its margin counts as kept."""
    windows = [
        np.arange(int(binom.ppf(1e-5, n, p)), int(binom.isf(1e-5, n, p)) + 1)
        for n, p in ((n1, p1), (n2, p2))
    ]
    total = 0.0
    for x2 in windows[1]:
        # the chance rises with the control's events: find where it begins
        low, high = windows[0][0] - 1, windows[0][-1] + 1
        while high - low > 1:
            middle = (low + high) // 2
            arms = Proportion(n1, int(middle)), Proportion(n2, int(x2))
            found = contrast(*arms, "absolute", tail=0.05, one_sided=True)
            is_kept = found.tail(margin, above=False) < 0.05
            low, high = (low, middle) if is_kept else (middle, high)
        total += float(binom.sf(high - 1, n1, p1) * binom.pmf(x2, n2, p2))
    return total


@pytest.mark.parametrize(
    ("n1", "n2", "p1", "p2"),
    [(900, 100, 0.02, 0.04), (90, 10, 0.1, 0.3)],
)
def test_harm_at_the_margin_is_rarely_ruled_out(n1: int, n2: int, p1: float, p2: float) -> None:
    """Exactly, by enumeration."""
    assert kept(n1, n2, p1, p2, p2 - p1) <= 0.051


def test_few_events_and_few_units_without_them_are_the_same_test() -> None:
    events = non_inferiority(
        Proportion(900, 18), Proportion(100, 1), margin=0.02, better="decrease", scale="absolute"
    )
    none = non_inferiority(Proportion(900, 882), Proportion(100, 99), margin=0.02, scale="absolute")
    assert none.p_value == pytest.approx(events.p_value, rel=1e-6)
    assert none.worst == pytest.approx(events.worst, rel=1e-3)


def test_small_counts_of_units_match_their_allocation_exactly() -> None:
    assert sample_ratio_p_value({"a": 4, "b": 1}, {"a": 99, "b": 1}) == pytest.approx(
        binomtest(1, 5, 0.01).pvalue
    )
    assert sample_ratio_p_value({"a": 4, "b": 1}, {"a": 99, "b": 1}) > THRESHOLD


@given(st.lists(st.integers(0, 12), min_size=3, max_size=4), st.integers(0, 5))
def test_the_sizes_of_several_small_arms_are_tested_exactly(
    counts: list[int], unevenness: int
) -> None:
    """Against SciPy's multinomial over all outcomes, found by brute force."""
    total = sum(counts)
    if total == 0 or total > 20:
        return
    weights = np.arange(1, len(counts) + 1) ** unevenness
    law = multinomial(total, weights / weights.sum())
    grid = np.indices((total + 1,) * (len(counts) - 1)).reshape(len(counts) - 1, -1)
    grid = np.vstack([grid, total - grid.sum(axis=0)])[:, grid.sum(axis=0) <= total]
    chances = law.pmf(grid.T)
    wanted = chances[chances <= law.pmf(counts) * (1 + 1e-7)].sum()
    names = range(len(counts))
    found = sample_ratio_p_value(
        {str(i): counts[i] for i in names}, {str(i): float(weights[i]) for i in names}
    )
    assert found == pytest.approx(min(wanted, 1.0), rel=1e-6, abs=1e-12)


def test_a_small_arm_among_many_units_is_tested_exactly() -> None:
    shares = {"a": 500_000.0, "b": 500_000.0, "c": 1.0}
    assert sample_ratio_p_value({"a": 1_000_000, "b": 1_000_000, "c": 4}, shares) > THRESHOLD
    assert sample_ratio_p_value({"a": 1_000_000, "b": 1_000_000, "c": 40}, shares) < 1e-9


def test_a_confidence_sequence_waits_for_events_not_only_units() -> None:
    arms = [Proportion(900, 9), Proportion(100, 1)]
    assert "1 of the 10 events" in always_valid.what_is_missing(arms, [900, 100])
    arms = [Proportion(900, 891), Proportion(100, 99)]
    assert "1 of the 10 units without an event" in always_valid.what_is_missing(arms, [900, 100])
    arms = [Proportion(9000, 90), Proportion(1000, 10)]
    assert always_valid.what_is_missing(arms, [9000, 1000]) == ""


def test_uneven_confidence_sequences_miss_rarely() -> None:
    """90 : 10 at 1 %: of 5 %, 7 misses or more of 12 have a chance of 5e-7."""
    rng = np.random.default_rng(21)
    control = rng.binomial(900, 0.01, (12, 20)).cumsum(axis=1)
    treatment = rng.binomial(100, 0.01, (12, 20)).cumsum(axis=1)
    missed = 0
    for a, b in zip(control, treatment, strict=True):
        for look in range(9, 20, 5):
            n = look + 1
            arms = Proportion(900 * n, int(a[look])), Proportion(100 * n, int(b[look]))
            if always_valid.what_is_missing(arms, [900 * n, 100 * n]):
                continue
            if always_valid.compare(*arms, units=1000 * n, planned=20_000).p_value < 0.05:
                missed += 1
                break
    assert missed < 7


def test_few_events_relative_to_none_are_undefined() -> None:
    with pytest.raises(Undefined, match="no unit of the control"):
        compare(Proportion(1000, 0), Proportion(1000, 3), effect="relative")


@pytest.mark.parametrize("scale", ["absolute", "relative"])
def test_huge_arms_with_few_events_are_quick_and_finite(scale: Effect) -> None:
    found = compare(Proportion(10**12, 3), Proportion(10**11, 4), effect=scale)
    assert found.interval is not None and all(map(math.isfinite, found.interval))
    assert 0 < found.p_value < 0.05


@pytest.mark.parametrize(
    ("sizes", "rates"), [((60, 8), (0.1, 0.5)), ((9, 40), (0.5, 0.1)), ((25, 25), (0.05, 0.4))]
)
def test_exact_power_is_that_of_all_tables(
    sizes: tuple[int, int], rates: tuple[float, float]
) -> None:
    """Against SciPy's Barnard test of every table that is not very rare."""
    (n1, n2), (p1, p2) = sizes, rates
    side = "less" if p2 > p1 else "greater"
    power = 0.0
    for x in range(n1 + 1):
        chance = binom.pmf(x, n1, p1)
        if chance > 1e-3:
            for y in range(n2 + 1):
                own = binom.pmf(y, n2, p2)
                if own > 1e-3 and (y / n2 > x / n1) == (p2 > p1):
                    table = [[x, y], [n1 - x, n2 - y]]
                    if barnard_exact(table, alternative=side).pvalue < 0.025:
                        power += chance * own
    assert exact_power(sizes, rates, 0.025) == pytest.approx(power, abs=0.02)


@pytest.mark.parametrize(("split", "alpha"), [(90, 0.05), (99, 0.05), (1, 0.0125)])
def test_a_plan_of_few_events_has_its_power(split: int, alpha: float) -> None:
    """The normal formula's plans have 65, 70 and 89 %; 400 runs have an error of 2."""
    variants = [{"name": "a", "allocation": split}, {"name": "b", "allocation": 100 - split}]
    plan = design(
        variants=variants, baseline=0.01, minimum_effect=3, effect="relative", alpha=alpha
    )
    smallest = required_units(plan) or 0
    larger = plan.planned_units(smallest, "b") - smallest
    n1, n2 = (larger, smallest) if split > 50 else (smallest, larger)
    rng = np.random.default_rng(8)
    hits = 0
    for x, y in zip(rng.binomial(n1, 0.01, 400), rng.binomial(n2, 0.04, 400), strict=True):
        pair = Proportion(n1, int(x)), Proportion(n2, int(y))
        tail = contrast(*pair, "absolute", tail=alpha / 2).tail(0.0, above=True)
        hits += tail < alpha / 2
    assert 0.75 < hits / 400 < 0.86


def test_group_sequential_plans_of_uneven_rates_have_their_power() -> None:
    """Simulated at the looks, with the bounds in place: 80 %, its error 1 %."""
    variants = [{"name": "a", "allocation": 90}, {"name": "b", "allocation": 10}]
    plan = design(
        variants=variants,
        baseline=0.05,
        minimum_effect=0.05,
        analysis="group_sequential",
        spending="pocock",
    )
    n = required_units(plan) or 0
    rng = np.random.default_rng(9)
    sizes = [round(n * t) for t in plan.looks]
    steps = np.diff(sizes, prepend=0)
    x, y = (rng.binomial(steps * k, p, (2000, 4)).cumsum(1) for k, p in ((9, 0.05), (1, 0.1)))
    looks = [next_look(plan, time, plan.looks[:i]) for i, time in enumerate(plan.looks)]
    crossed = np.zeros(2000, dtype=bool)
    for i, (size, look) in enumerate(zip(sizes, looks, strict=True)):
        assert look is not None
        crossed |= score(x[:, i], 9 * size, y[:, i], size, 0.0, "absolute") > look.bound
    assert 0.78 < crossed.mean() < 0.82


@pytest.mark.parametrize("n", [10**9, 10**12, 10**15])
def test_exact_intervals_end_where_numbers_do(n: int) -> None:
    """Near -1, the interval's ends are closer than neighbouring numbers."""
    found = compare(Proportion(1, 1), Proportion(n, 0), effect="relative")
    assert found.effect == -1 and found.interval is not None
    low, high = found.interval
    assert low == -1 and -1 < high < -0.5
