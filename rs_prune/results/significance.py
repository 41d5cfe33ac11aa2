"""Tests and intervals for numbers that are paired. Pure functions of arrays.

Which one answers which question: `paired_t` whether one method beats another when both are trained again (noise of
training, on these test images); `mcnemar` and `bootstrap_mean` what other test images would say of the very nets at
hand; `crossed` both at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.float64]


class Difference(NamedTuple):
    """A mean difference, its interval, the two-sided p, and how many pairs it rests on."""

    mean: float
    low: float
    high: float
    p: float
    pairs: int


def paired_t(differences: Sequence[float] | Floats, confidence: float = 0.95) -> Difference:
    """Student's t-test and interval of paired differences.

    Args:
        differences: One a pair; nan where a partner is missing.
        confidence: Of the interval.

    Returns:
        Interval and p are nan below two pairs. They are nan too where all differences are the same but not 0: with
        accuracies, which are counts over images, that is a coincidence of rounding and no proof of a noise of 0.
    """
    there = np.asarray(differences, float)
    there = there[~np.isnan(there)]
    nan, count = float("nan"), len(there)
    if count < 2:
        return Difference(float(there.mean()) if count else nan, nan, nan, nan, count)
    mean, error = float(there.mean()), float(there.std(ddof=1) / np.sqrt(count))
    if error < 1e-12:
        same = abs(mean) < 1e-12
        return Difference(mean, mean if same else nan, mean if same else nan, 1.0 if same else nan, count)
    half = error * float(stats.t.ppf((1 + confidence) / 2, count - 1))
    return Difference(mean, mean - half, mean + half, float(2 * stats.t.sf(abs(mean) / error, count - 1)), count)


def holm(p: Sequence[float] | Floats) -> Floats:
    """p-values of one family of tests, adjusted so that the chance of any false finding stays below the level.

    S. Holm, "A simple sequentially rejective multiple test procedure", Scand. J. Statist. 6 (1979). A nan was not
    tested: it stays nan and does not count.
    """
    given = np.asarray(p, float)
    adjusted = np.full(given.shape, np.nan)
    tested = np.flatnonzero(~np.isnan(given))
    order = tested[np.argsort(given[tested], kind="stable")]
    weights = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(weights * given[order]), 1.0)
    return adjusted


def mcnemar(right: NDArray[np.bool_], other: NDArray[np.bool_]) -> tuple[int, int, float]:
    """Whether two nets differ on the same images: McNemar's test in its exact, binomial form.

    Q. McNemar, "Note on the sampling error of the difference between correlated proportions", Psychometrika 12 (1947).

    Args:
        right: (images,) whether the one net was right.
        other: (images,) whether the other was.

    Returns:
        How many images only the one got right, how many only the other, and the two-sided p.
    """
    mine, its = int((right & ~other).sum()), int((other & ~right).sum())
    return mine, its, float(stats.binomtest(mine, mine + its).pvalue) if mine + its else 1.0


def bootstrap_mean(
    values: NDArray[np.generic], *, confidence: float = 0.95, resamples: int = 9999, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of a mean over images.

    B. Efron, "Bootstrap methods: another look at the jackknife", Ann. Statist. 7 (1979). Where only few different
    values occur (right or wrong, or the difference of two such), how often each is drawn is multinomial: that is drawn.

    Args:
        values: (images,) such as 0 and 1.
        confidence: Of the interval.
        resamples: How many.
        seed: Of the draws.
    """
    found, counts = np.unique(np.asarray(values, float), return_counts=True)
    drawn = np.random.default_rng(seed).multinomial(counts.sum(), counts / counts.sum(), size=resamples)
    low, high = np.quantile(drawn @ found / counts.sum(), [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def crossed(differences: Floats, confidence: float = 0.95) -> Difference:
    """Mean paired difference when seeds and test images are both a sample: it speaks of new seeds *and* new images.

    Two-way random effects without replication: the variance of the grand mean is (MS_seeds + MS_images - MS_rest) /
    (S N), with the degrees of freedom of F. E. Satterthwaite, Biometrics Bull. 2 (1946); so H. H. Clark, J. Verbal
    Learn. Verbal Behav. 12 (1973), for subjects and items.

    Args:
        differences: (seeds, images) right minus right, in -1, 0, 1.
        confidence: Of the interval.

    Returns:
        `pairs` counts the seeds; interval and p are nan below two.
    """
    table = np.asarray(differences, float)
    seeds, images = table.shape
    mean, nan = float(table.mean()), float("nan")
    if seeds < 2 or images < 2:
        return Difference(mean, nan, nan, nan, seeds)
    rows, columns = table.mean(1), table.mean(0)
    rest = float(((table - rows[:, None] - columns + mean) ** 2).sum()) / ((seeds - 1) * (images - 1))
    of_seeds, of_images = images * float(rows.var(ddof=1)), seeds * float(columns.var(ddof=1))
    # A part of the variance may come out negative; no answer is surer than that of seeds or of images alone.
    total = max(of_seeds + of_images - rest, of_seeds, of_images)
    if total < 1e-12:
        return paired_t(rows, confidence)
    parts = ((of_seeds, seeds - 1), (of_images, images - 1), (rest, (seeds - 1) * (images - 1)))
    freedom = total**2 / sum(part**2 / free for part, free in parts)
    error = np.sqrt(total / (seeds * images))
    half = float(error * stats.t.ppf((1 + confidence) / 2, freedom))
    return Difference(mean, mean - half, mean + half, float(2 * stats.t.sf(abs(mean) / error, freedom)), seeds)
