"""What the test images say of single nets, from the predictions that runs keep."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rs_prune.errors import RsPruneError
from rs_prune.results.paired import (
    CONTEXT,
    WORDS,
    Baseline,
    Row,
    check_baseline,
    contexts,
    judged,
    matcher,
    named,
    pair,
)
from rs_prune.results.predictions import Predictions, check_same, load
from rs_prune.results.significance import bootstrap_mean, crossed, mcnemar

COLUMNS = (
    *CONTEXT, *WORDS, "against", "seed", "images", "accuracy", "accuracy_low", "accuracy_high",
    "only_arm", "only_baseline", "difference", "low", "high", "p",
)  # fmt: skip
ALL = "all"
"""The seed of a row that speaks of all of them."""


def read(folder: Path, runs: pd.DataFrame, key: str) -> dict[str, Predictions]:
    """Digest -> predictions, of the runs that have any.

    Raises:
        RsPruneError: When none has, or a file is damaged or does not fit its run.
    """
    found = {}
    for digest, accuracy in zip(runs["digest"], runs["accuracy"], strict=True):
        path = folder / f"{digest}.npz"
        if digest and path.exists():
            found[digest] = load(path)
            if abs(float(found[digest].right().mean()) - accuracy) > 1e-9:
                raise RsPruneError(f"{path}: its predictions are not those of record {digest}; remove both and rerun")
    if not found:
        raise RsPruneError(
            f"{key}={folder}: no predictions of any of these runs; runs of earlier versions kept none, and a runs.csv "
            f"holds none: name the folder with {key}=<out>/predictions"
        )
    return found


def images(
    runs: pd.DataFrame, kept: Mapping[str, Predictions], baseline: Baseline, key: str = "baseline"
) -> pd.DataFrame:
    """One row per run with predictions, and one per arm of two or more pairs.

    Returns:
        `accuracy` with its bootstrap interval over test images; against the baseline's run of the same seed: how many
        images only the one or the other got right, their `difference` with its bootstrap interval, McNemar's `p`. Rows
        of seed `all`, where all seeds have the same test images: the mean difference, with interval and p over seeds
        *and* images (`crossed`). `p_holm` and
        `verdict` over all.

    Raises:
        RsPruneError: When runs of different test images would be paired, and as `differences` does.
    """
    known = contexts(runs)
    check_baseline([words for arms in known.values() for words in arms], baseline, key)
    found: list[Row] = []
    for context, arms in known.items():
        partner_of = matcher(arms, baseline, key)
        for words, arm in arms.items():
            partner = partner_of(words)
            against = arms[partner] if partner is not None and partner != words else {}
            partners = {ours["seed"]: its for ours, its in pair(arm, against)}
            same = dict(zip((*CONTEXT, *WORDS), (*context, *words), strict=True))
            same["against"] = named(partner, words) if against and partner is not None else ""
            both, shown = [], []
            for seed, run in sorted(arm.items()):
                mine = kept.get(run["digest"])
                if mine is None:
                    continue
                row, difference = _net(run["digest"], mine, partners.get(seed, {}).get("digest", ""), kept)
                found.append({**same, "seed": str(seed), **row})
                if difference is not None:
                    both.append(difference)
                    shown.append(mine.images)
            if len(both) > 1 and len(set(shown)) == 1:
                result = crossed(np.stack(both))
                row = {"seed": ALL, "images": len(both[0]), "difference": result.mean}
                found.append({**same, **row, "low": result.low, "high": result.high, "p": result.p})
    return judged(pd.DataFrame(found, columns=list(COLUMNS)))


def _net(
    digest: str, mine: Predictions, other: str, kept: Mapping[str, Predictions]
) -> tuple[dict[str, Any], np.ndarray[Any, np.dtype[np.float64]] | None]:
    right = mine.right()
    low, high = bootstrap_mean(right)
    row: dict[str, Any] = {"images": len(right), "accuracy": float(right.mean())}
    row |= {"accuracy_low": low, "accuracy_high": high}
    its = kept.get(other)
    if its is None:
        return row, None
    check_same(mine, its, f"run {digest}", f"run {other}")
    only, only_other, p = mcnemar(right, its.right())
    difference = right.astype(float) - its.right()
    low, high = bootstrap_mean(difference)
    row |= {"only_arm": only, "only_baseline": only_other, "difference": float(difference.mean()), "p": p}
    return row | {"low": low, "high": high}, difference
