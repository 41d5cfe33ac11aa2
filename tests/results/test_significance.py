"""Tests and intervals, against scipy and against values worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from rs_prune.results.significance import bootstrap_mean, crossed, holm, mcnemar, paired_t


def test_paired_t_is_scipys() -> None:
    draw = np.random.default_rng(0)
    one, other = draw.normal(0.9, 0.01, 5), draw.normal(0.89, 0.01, 5)
    known = stats.ttest_rel(one, other)
    interval = known.confidence_interval(0.9)
    found = paired_t(one - other, 0.9)
    assert (found.mean, found.p, found.pairs) == (pytest.approx((one - other).mean()), pytest.approx(known.pvalue), 5)
    assert (found.low, found.high) == (pytest.approx(interval.low), pytest.approx(interval.high))
    assert paired_t([*(one - other), math.nan], 0.9) == found


def test_paired_t_where_there_is_nothing_to_test() -> None:
    assert all(math.isnan(value) for value in paired_t([])[:4])
    lone = paired_t([0.01])
    assert (lone.mean, lone.pairs) == (0.01, 1)
    assert math.isnan(lone.p) and math.isnan(lone.low)
    assert paired_t([0.0, 0.0, 0.0]) == (0, 0, 0, 1, 3)
    coincidence = paired_t([0.01, 0.01])  # no spread is rounding, not certainty
    assert coincidence.mean == 0.01
    assert math.isnan(coincidence.p) and math.isnan(coincidence.low)


def test_holm_by_hand() -> None:
    # sorted 0.01, 0.02, 0.03, 0.04: times 4, 3, 2, 1 = 0.04, 0.06, 0.06, 0.04, then never falling
    assert holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.5, 0.6]) == pytest.approx([1.0, 1.0])
    assert holm([0.02]) == pytest.approx([0.02])
    with_gap = holm([math.nan, 0.01, 0.04])  # what was not tested does not count
    assert math.isnan(with_gap[0])
    assert with_gap[1:] == pytest.approx([0.02, 0.04])
    assert len(holm([])) == 0


def test_mcnemar_by_hand() -> None:
    right = np.array([1] * 50 + [1] * 8 + [0] * 1 + [0] * 20, bool)
    other = np.array([1] * 50 + [0] * 8 + [1] * 1 + [0] * 20, bool)
    mine, its, p = mcnemar(right, other)
    assert (mine, its) == (8, 1)
    assert p == pytest.approx(2 * (1 + 9) / 2**9)  # both tails of a binomial of 9 tosses
    assert mcnemar(other, right) == (1, 8, pytest.approx(p))
    assert mcnemar(right, right) == (0, 0, 1.0)
    assert mcnemar(np.ones(3, bool), np.zeros(3, bool))[2] == pytest.approx(0.25)


@pytest.mark.parametrize("values", [(0, 1), (-1, 0, 1)])
def test_bootstrap_is_scipys(values: tuple[int, ...]) -> None:
    sample = np.random.default_rng(1).choice(values, 400, p=[0.1, 0.9] if len(values) == 2 else [0.05, 0.85, 0.1])
    known = stats.bootstrap(
        (sample,), np.mean, n_resamples=9999, method="percentile", rng=np.random.default_rng(2)
    ).confidence_interval
    assert bootstrap_mean(sample) == pytest.approx((known.low, known.high), abs=0.003)
    assert bootstrap_mean(sample) == bootstrap_mean(sample)
    narrow = bootstrap_mean(sample, confidence=0.5)
    assert known.low < narrow[0] < sample.mean() < narrow[1] < known.high


def test_bootstrap_of_right_and_wrong_has_binomial_quantiles() -> None:
    sample = np.arange(1000) < 937
    known = stats.binom.ppf([0.025, 0.975], 1000, 0.937) / 1000
    assert bootstrap_mean(sample) == pytest.approx(tuple(known), abs=0.0011)
    assert bootstrap_mean(np.ones(10)) == (1.0, 1.0)


def test_crossed_by_hand() -> None:
    table = np.array([[1.0, 0.0, 1.0], [0.0, 0.0, 2.0]])
    # means: rows 2/3, 2/3; columns 1/2, 0, 3/2; all 2/3. Squares: seeds 0, images 2 * 7/6 / 2, rest 1/2 * 1/4 * 4
    found = crossed(table)
    of_images = 2 * (1 / 36 + 4 / 9 + 25 / 36) / 2
    rest = float(((table - 2 / 3 - np.array([1 / 2, 0, 3 / 2]) + 2 / 3) ** 2).sum()) / 2
    freedom = of_images**2 / (of_images**2 / 2 + rest**2 / 2)
    assert rest == pytest.approx(0.5)
    half = stats.t.ppf(0.975, freedom) * math.sqrt(of_images / 6)  # less the rest it would be surer than images alone
    assert (found.mean, found.high - found.mean) == (pytest.approx(2 / 3), pytest.approx(half))


def test_crossed_covers_new_seeds_and_new_images() -> None:
    draw = np.random.default_rng(3)
    shape, trials = (4, 60), 400
    seeds, images = draw.normal(0, 0.5, (trials, shape[0], 1)), draw.normal(0, 1.0, (trials, 1, shape[1]))
    tables = seeds + images + draw.normal(0, 1.0, (trials, *shape))
    called = sum(crossed(table).p < 0.05 for table in tables)
    assert called <= 0.075 * trials
    naive = sum(paired_t(table.mean(0)).p < 0.05 for table in tables)  # images alone forget the seeds
    assert naive > 0.2 * trials
    assert math.isnan(crossed(tables[0][:1]).p)
