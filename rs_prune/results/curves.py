"""Accuracy-against-cost curves in numbers: areas, crossings, fronts. Pure functions.

A curve's x is the share of the dense net's multiply-adds that is left, its points are joined by straight lines.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from rs_prune.results.paired import (
    CONTEXT,
    WORDS,
    Arm,
    Baseline,
    Words,
    check_baseline,
    contexts,
    judged,
    matcher,
    named,
    pair,
)
from rs_prune.results.significance import paired_t
from rs_prune.results.stats import mean_interval

Floats = NDArray[np.float64]
WHERE = tuple(name for name in CONTEXT if name != "keep")
AT_LOSS = ("macs_at_loss", "macs_at_loss_sign", "macs_at_loss_left", "macs_at_loss_right")
COLUMNS = (
    *WHERE, *WORDS,
    "against", "seeds", "budgets", "from", "to", "area", "area_low", "area_high",
    "pairs", "difference", "low", "high", "p", *AT_LOSS,
)  # fmt: skip


def area(x: Sequence[float] | Floats, y: Sequence[float] | Floats, low: float, high: float) -> float:
    """Area under a curve between two x, over their distance: the mean height. nan where the curve does not reach."""
    order = np.argsort(x, kind="stable")
    known, height = np.asarray(x, float)[order], np.asarray(y, float)[order]
    if not low < high or not len(known) or known[0] > low or known[-1] < high or np.isnan(height).any():
        return float("nan")
    inside = known[(known > low) & (known < high)]
    at = np.concatenate([[low], inside, [high]])
    return float(np.trapezoid(np.interp(at, known, height), at) / (high - low))


class Crossing(NamedTuple):
    """Where a loss passes a limit: at `x` (`sign` is `=`), between the measured `left` and `right`.

    Never down to the least x: that and `<`. Already at the greatest x: that and `>`. Without points: nan and nothing.
    """

    x: float
    sign: str
    left: float
    right: float


def crossing(x: Sequence[float] | Floats, loss: Sequence[float] | Floats, limit: float) -> Crossing:
    """How far down x a loss stays within a limit, seen from the greatest x; that it comes back does not count."""
    known = sorted(((a, b) for a, b in zip(x, loss, strict=True) if not np.isnan(b)), reverse=True)
    nan = float("nan")
    if not known:
        return Crossing(nan, "", nan, nan)
    right, before = known[0]
    limit += 1e-9  # a loss of exactly the limit is within it, whatever the last bit says
    if before > limit:
        return Crossing(right, ">", right, nan)
    for left, now in known[1:]:
        if now > limit:
            at = right - (right - left) * (limit - before) / (now - before)
            return Crossing(at, "=", left, right)
        right, before = left, now
    return Crossing(right, "<", nan, right)


def said_crossing(at: Crossing) -> str:
    """In percent, with the measured shares on both sides: `34.3 (30 to 50)`."""
    if at.sign != "=":
        return f"{at.sign}{100 * at.x:.1f}" if at.sign else ""
    return f"{100 * at.x:.1f} ({100 * at.left:.0f} to {100 * at.right:.0f})"


def front(cost: ArrayLike, value: ArrayLike) -> NDArray[np.bool_]:
    """Which points no other beats: none costs at most as much and is worth at least as much, and is not its equal.

    V. Pareto's front. A point without a cost or value is not on it.
    """
    x, y = np.asarray(cost, float), np.asarray(value, float)
    cheaper, better = x[None] <= x[:, None], y[None] >= y[:, None]
    strictly = (x[None] < x[:, None]) | (y[None] > y[:, None])
    return np.asarray(~(cheaper & better & strictly).any(1) & ~np.isnan(x) & ~np.isnan(y))


def curves(
    runs: pd.DataFrame,
    baseline: Baseline,
    key: str = "baseline",
    interval: tuple[float, float] | None = None,
    loss: float = 0.01,
) -> pd.DataFrame:
    """One row per arm: what its whole curve says.

    Args:
        runs: One row a run.
        baseline: Words of an arm of two or more budgets: what areas are compared with, and whose dense nets losses are
            counted from.
        key: What errors call them.
        interval: Shares of MACs between which areas are taken; None: the widest that every curve of two or more budgets
            covers, in each data set, net, kind of budget and selection.
        loss: In fractions of accuracy.

    Returns:
        `area` with its t-interval over seeds, between the shares `from` and `to`; `difference` of areas to the
        baseline's, paired by seed, with `low`, `high`, `p`, `p_holm` and `verdict`; `macs_at_loss`: the share of MACs
        down to which the mean over seeds loses at most `loss` of the accuracy of the baseline's dense net, see
        `Crossing` for what follows. Nothing for a data set and net without an arm of two budgets.

    Raises:
        RsPruneError: As `differences` does.
    """
    known = _arms(runs)
    check_baseline([words for arms in known.values() for words in arms], baseline, key)
    found: list[dict[str, Any]] = []
    for where, arms in known.items():
        several = [words for words, keeps in arms.items() if len(keeps) > 1]
        if not several:
            continue
        low, high = interval or _common(arms)
        partner_of = matcher(several, baseline, key)
        areas = {words: _areas(keeps, low, high) for words, keeps in arms.items()}
        for words, keeps in arms.items():
            partner = partner_of(words)
            mine = areas[words]
            its = areas.get(partner, {}) if partner is not None and partner != words else {}
            result = paired_t([mine[seed] - its[seed] for seed in sorted(mine.keys() & its.keys())])
            mean, least, most = mean_interval(mine.values())
            at = _at_loss(keeps, arms.get(partner, {}) if partner is not None else {}, loss)
            row: dict[str, Any] = dict(zip((*WHERE, *WORDS), (*where, *words), strict=True))
            row |= {"against": named(partner, words) if its and partner is not None else "", "seeds": len(mine)}
            row |= {"budgets": len(keeps), "from": low, "to": high}
            row |= {"area": mean, "area_low": least, "area_high": most, "pairs": result.pairs}
            row |= {"difference": result.mean, "low": result.low, "high": result.high, "p": result.p}
            found.append(row | dict(zip(AT_LOSS, at, strict=True)))
    return judged(pd.DataFrame(found, columns=list(COLUMNS)))


def fronts(summary: pd.DataFrame) -> pd.DataFrame:
    """The rows of `summarise` on the Pareto front of their criterion; `overall`: on that of all criteria too.

    The front is that of mean *validation* accuracy against MACs, among all arms of a data set, net and selection.
    """
    where = ["dataset", "net", "selection"]
    found = []
    for _, rivals in summary.groupby(where, dropna=False, sort=False):
        marked = rivals.assign(overall=front(rivals["macs"], rivals["val_accuracy"]))
        found += [
            mine[front(mine["macs"], mine["val_accuracy"])] for _, mine in marked.groupby("criterion", sort=False)
        ]
    table = pd.concat(found) if found else summary.assign(overall=False)
    order = [*where, "criterion", "macs"]
    return table.sort_values(order, ascending=[name != "macs" for name in order], kind="stable", ignore_index=True)


Keeps = Mapping[float, Arm]


def _arms(runs: pd.DataFrame) -> dict[Words, dict[Words, dict[float, Arm]]]:
    """Values of `WHERE` -> arm -> budget -> its runs."""
    place = CONTEXT.index("keep")
    found: dict[Words, dict[Words, dict[float, Arm]]] = {}
    for context, arms in contexts(runs).items():
        where = found.setdefault((*context[:place], *context[place + 1 :]), {})
        for words, arm in arms.items():
            where.setdefault(words, {})[context[place]] = arm
    return found


def _curve(keeps: Keeps, seed: int) -> tuple[list[float], list[float]]:
    runs = [arm[seed] for arm in keeps.values() if seed in arm]
    return [run["macs"] / run["dense_macs"] for run in runs], [run["accuracy"] for run in runs]


def _seeds(keeps: Keeps) -> list[int]:
    return sorted({seed for arm in keeps.values() for seed in arm})


def _common(arms: Mapping[Words, Keeps]) -> tuple[float, float]:
    """The shares that every seed of every arm of two or more budgets covers."""
    shares = [
        _curve(keeps, seed)[0]
        for keeps in arms.values()
        if len(keeps) > 1
        for seed in set.intersection(*(set(arm) for arm in keeps.values()))
    ]
    if not shares:
        return float("nan"), float("nan")
    return max(map(min, shares)), min(map(max, shares))


def _areas(keeps: Keeps, low: float, high: float) -> dict[int, float]:
    """Seed -> area, of the seeds that have every budget of the arm."""
    found = {
        seed: area(*_curve(keeps, seed), low, high) for seed in _seeds(keeps) if all(seed in a for a in keeps.values())
    }
    return {seed: value for seed, value in found.items() if not np.isnan(value)}


def _at_loss(keeps: Keeps, partner: Keeps, limit: float) -> Crossing:
    """Crossing of the mean curve; the losses are those to the baseline's dense net of the same seed and budget."""
    x, losses, own = [], [], []
    for keep, arm in keeps.items():
        pairs = list(pair(arm, partner.get(keep, {})))
        known = [(ours, its["dense_accuracy"]) for ours, its in pairs if not np.isnan(its["dense_accuracy"])]
        if known:
            x.append(float(np.mean([ours["macs"] / ours["dense_macs"] for ours, _ in known])))
            losses.append(float(np.mean([dense - ours["accuracy"] for ours, dense in known])))
            own.append(float(np.mean([dense - ours["dense_accuracy"] for ours, dense in known])))
    if x and not np.isnan(own).all():  # the dense net ends the curve
        x, losses = [*x, 1.0], [*losses, float(np.nanmean(own))]
    return crossing(x, losses, limit)
