"""Which scene classes pruning hurts: accuracy per class, from records or from a committed `per_class.csv`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from rs_prune.errors import RsPruneError
from rs_prune.results import records
from rs_prune.results.curves import crossing
from rs_prune.results.records import IDENTITY
from rs_prune.results.stats import mean_interval

FILE = "per_class.csv"
COLUMNS = ("digest", "class", "dense_accuracy", "accuracy")
ARM = [name for name in IDENTITY if name != "keep"]


def table(found: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """One row per finished record and class; no dense accuracy where gates were closed while the net trained.

    A record held twice counts once.
    """
    rows = [
        (
            record["digest"],
            name,
            record["per_class"].get("dense", {}).get(name) if "dense" in (record.get("accuracy") or {}) else None,
            accuracy,
        )
        for record in found
        if record["status"] == "finished" and record.get("per_class")
        for name, accuracy in record["per_class"].get("final", {}).items()
    ]
    return _once(pd.DataFrame(rows, columns=list(COLUMNS)).astype({"dense_accuracy": float, "accuracy": float}))


def _once(classes: pd.DataFrame) -> pd.DataFrame:
    return classes.drop_duplicates(["digest", "class"], ignore_index=True)


def read(out: str, runs: str | None) -> pd.DataFrame:
    """What `table` gives for the records in `<out>/records`, or the `per_class.csv` beside a runs.csv that is reported.

    Raises:
        RsPruneError: When there is none, or it cannot be read.
    """
    if runs is None:
        found = table(records.load(Path(out) / "records"))
        if found.empty:
            raise RsPruneError(f"{Path(out) / 'records'}: no record has accuracies per class")
        return found
    path = Path(runs).with_name(FILE)
    try:
        found = pd.read_csv(path, dtype={"digest": str, "class": str}, keep_default_na=False, na_values=[""])
        found = found.astype({"dense_accuracy": float, "accuracy": float})
    except (OSError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())
        raise RsPruneError(f"{path}: cannot be read ({reason}); table=per_class out=<out> writes it") from None
    if list(found) != list(COLUMNS) or not found["digest"].any():
        raise RsPruneError(f"{path}: its columns must be {', '.join(COLUMNS)}")
    return _once(found)


def drops(runs: pd.DataFrame, classes: pd.DataFrame) -> pd.DataFrame:
    """One row per arm, budget and class: `drop`, dense minus pruned of the same seed, with its t-interval over seeds.

    Arms without a dense net are left out.

    Raises:
        RsPruneError: When no run has accuracies per class and those of its dense net.
    """
    wide = classes.rename(columns={"dense_accuracy": "class_dense", "accuracy": "class_accuracy"})
    joined = runs.merge(wide, on="digest").dropna(subset=["class_dense", "class_accuracy"])
    if joined.empty:
        raise RsPruneError(f"{FILE}: no accuracies per class of these runs and their dense nets")
    found = []
    for key, group in joined.groupby([*IDENTITY, "class"], dropna=False, sort=False):
        row: dict[str, Any] = dict(zip((*IDENTITY, "class"), key, strict=True))
        row["seeds"] = len(group)
        row["drop"], row["low"], row["high"] = mean_interval(group["class_dense"] - group["class_accuracy"])
        row["macs_share"] = (group["macs"] / group["dense_macs"]).mean()
        found.append(row)
    return pd.DataFrame(found)


def hurt_first(table: pd.DataFrame, loss: float = 0.01) -> pd.DataFrame:
    """One row per arm and class, the class that is hurt first on top of each arm.

    Returns:
        The columns of `ARM`; `class`; `share`, `sign`, `left`, `right`: where the class has lost `loss`, see
        `Crossing`; `drop` at the arm's smallest budget; `drops`: budget -> (drop, low, high).
    """
    found = []
    for key, mine in table.groupby([*ARM, "class"], dropna=False, sort=False):
        at = crossing([*mine["macs_share"], 1.0], [*mine["drop"], 0.0], loss)
        least = mine.sort_values("keep").iloc[0]
        row: dict[str, Any] = dict(zip((*ARM, "class"), key, strict=True))
        never = at.sign == "<"
        row |= {"share": at.x, "sign": at.sign, "left": at.left, "right": at.right}
        lost = mine[["keep", "drop", "low", "high"]].to_numpy(float).tolist()
        row["drops"] = {keep: (drop, low, high) for keep, drop, low, high in lost}
        found.append(row | {"drop": least["drop"], "rank": 0.0 if never else at.x})
    order = [*ARM, "rank", "drop", "class"]
    ascending = [name not in ("rank", "drop") for name in order]
    return pd.DataFrame(found).sort_values(order, ascending=ascending, ignore_index=True).drop(columns="rank")
