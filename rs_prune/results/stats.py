"""Means over seeds, and how sure they are. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pandas as pd

from rs_prune.errors import RsPruneError
from rs_prune.results.paired import best_p
from rs_prune.results.records import IDENTITY
from rs_prune.results.significance import paired_t

OPTIONAL = tuple(name for name in IDENTITY if name not in ("dataset", "net", "attention", "criterion", "keep"))
"""What else can tell two arms apart; named only where it does."""
DENSE = ("dataset", "net", "attention", "epochs", "selection", "variant")
"""What decides the dense net that an arm starts from, besides the seed."""
ARM = tuple(name for name in IDENTITY if name != "keep")
"""The columns that make one line of a figure."""
LATENCIES = ("dense_latency_ms", "latency_ms")


def mean_interval(values: Iterable[float], confidence: float = 0.95) -> tuple[float, float, float]:
    """Mean and Student-t interval of the values that are there.

    Where `paired_t` gives no interval there is none here: below two values, and of equal values other than 0, which
    are a coincidence of counts and no proof that seeds make no difference.
    """
    found = paired_t(list(values), confidence)
    return found.mean, found.low, found.high


def summarise(runs: pd.DataFrame, confidence: float = 0.95) -> pd.DataFrame:
    """One row per group of runs that differ only in their seed, biggest budget first.

    `accuracy` and `drop` (dense minus pruned of the same seed) come with `_low` and `_high`. `best`
    marks the highest mean *validation* accuracy among the arms that share data set, net and budget; `best_p` is the
    adjusted p of its being above every one of them on test data. Latencies are medians, as a machine that is busy for
    a moment gives wild ones.
    """
    twice = runs[runs.duplicated([*IDENTITY, "seed"], keep=False)]
    if len(twice):
        names = ", ".join(str(name) for name in twice["digest"][:2])
        raise RsPruneError(
            f"{len(twice)} runs agree in every option and in the seed ({names}): averaging them as seeds "
            "would be wrong; remove those that are out of date"
        )
    found = []
    for key, group in runs.groupby(list(IDENTITY), dropna=False, sort=False):
        row: dict[str, Any] = dict(zip(IDENTITY, key, strict=True))
        row["seeds"] = int(group["accuracy"].notna().sum())
        row |= _interval("accuracy", group["accuracy"], confidence)
        row |= _interval("dense_accuracy", group["dense_accuracy"], confidence)
        row |= _interval("drop", group["dense_accuracy"] - group["accuracy"], confidence)
        for name in _MEANS:
            row[name] = group[name].median() if name in LATENCIES else mean_interval(group[name])[0]
        for name in ("mask_error", "mean_gate_error"):
            row[f"max_{name}"] = group[name].max()
        found.append(row)
    summary = pd.DataFrame(found, columns=[*IDENTITY, *_SUMMARY])
    summary = summary.assign(best=_best(summary), best_p=float("nan"))
    summary.loc[summary["best"], "best_p"] = best_p(runs, summary[summary["best"]])
    return _sorted(_like(runs, summary))


def dense(runs: pd.DataFrame, confidence: float = 0.95) -> pd.DataFrame:
    """The dense nets of known accuracy, one row each, with the columns that `summarise` gives.

    What concerns the pruning leaves the dense net as it is: of arms whose dense nets are the same, or some of another
    arm's seeds, one row speaks. Dense nets of one seed that are not the same, whatever it is that tells them apart,
    are never averaged.
    """
    found: list[dict[str, Any]] = []
    for key, group in runs.dropna(subset=["dense_accuracy"]).groupby(list(DENSE), dropna=False, sort=False):
        for mine in _starts(group):
            seeds = mine.groupby("seed").first()
            row: dict[str, Any] = dict(zip(DENSE, key, strict=True)) | {"keep": 1.0, "seeds": len(seeds)}
            row |= _interval("accuracy", seeds["dense_accuracy"], confidence)
            for name in ("val_accuracy", "params", "macs"):
                row[name] = seeds[f"dense_{name}"].mean()
            row |= {"dense_macs": row["macs"], "dense_params": row["params"]}
            row["latency_ms"] = mine["dense_latency_ms"].median()
            where = [(name, row[name]) for name in DENSE if name != "variant"]
            found.append(row | {"known": {(*where, *net) for net in seeds["dense_accuracy"].items()}})
    kept: list[dict[str, Any]] = []
    for row in sorted(found, key=lambda row: -row["seeds"]):
        same = next((other for other in kept if row["known"] <= other["known"]), None)
        if same is None:
            kept.append(row)
        else:
            same["variant"] = ""
    return _sorted(_like(runs, pd.DataFrame(kept, columns=[*DENSE, "keep", *_SUMMARY])))


def rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows as dictionaries; a choice that is not known is an empty word."""
    named = {name: table[name].astype(object).where(table[name].notna(), "") for name in IDENTITY if name in table}
    return [{str(name): value for name, value in row.items()} for row in table.assign(**named).to_dict("records")]


def varying(summary: pd.DataFrame) -> list[str]:
    """The optional choices that must be named: those that differ, and a selection on test data."""
    differ = [name for name in OPTIONAL if name in summary and summary[name].nunique(dropna=False) > 1]
    published = summary["selection"].astype(str).str.startswith("test").any()
    return [name for name in OPTIONAL if name in differ or (name == "selection" and published)]


_MEANS = (
    "folded_accuracy",
    "raw_accuracy",
    "recalibrated_accuracy",
    "val_accuracy",
    "dense_val_accuracy",
    "dense_params",
    "params",
    "dense_macs",
    "macs",
    *LATENCIES,
    "wall_s",
)
_SUMMARY = (
    "seeds",
    *(f"{name}{end}" for name in ("accuracy", "dense_accuracy", "drop") for end in ("", "_low", "_high")),
    *_MEANS,
    "max_mask_error",
    "max_mean_gate_error",
)


def _starts(runs: pd.DataFrame) -> list[pd.DataFrame]:
    """The runs, arm by arm put together with those whose dense nets do not contradict theirs."""
    found: list[tuple[dict[int, float], list[pd.DataFrame]]] = []
    for _, arm in runs.groupby(list(IDENTITY), dropna=False, sort=False):
        own = dict(zip(arm["seed"], arm["dense_accuracy"], strict=True))
        for known, arms in found:
            if all(known.get(seed, accuracy) == accuracy for seed, accuracy in own.items()):
                known |= own
                arms.append(arm)
                break
        else:
            found.append((own, [arm]))
    return [pd.concat(arms) for _, arms in found]


def _interval(name: str, values: pd.Series[float], confidence: float) -> dict[str, float]:
    mean, low, high = mean_interval(values, confidence)
    return {name: mean, f"{name}_low": low, f"{name}_high": high}


def _best(summary: pd.DataFrame) -> pd.Series[bool]:
    rivals = summary.groupby(["dataset", "net", "budget", "keep", "selection"], dropna=False)["val_accuracy"]
    top = summary["val_accuracy"] >= rivals.transform("max") - 1e-12
    return top & (rivals.transform("count") > 1)


def _like(runs: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    return table.astype({name: runs[name].dtype for name in IDENTITY if name in table and name in runs})


def _sorted(table: pd.DataFrame) -> pd.DataFrame:
    order = [name for name in ("dataset", "net", "budget", "keep", *IDENTITY) if name in table]
    order = list(dict.fromkeys(order))
    return table.sort_values(order, ascending=[name != "keep" for name in order], kind="stable", ignore_index=True)
