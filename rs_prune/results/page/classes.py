"""Accuracy of every class: which scenes pruning hurts first."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import pandas as pd

from rs_prune.results.page.words import arm, named, number, word
from rs_prune.results.show import NAMES
from rs_prune.results.stats import rows


def heat_maps(summary: pd.DataFrame, runs: pd.DataFrame, classes: pd.DataFrame) -> list[dict[str, Any]]:
    """One table per data set: a row per arm and budget, a column per class, means over seeds in percent.

    Args:
        summary: What `summarise` gives.
        runs: One row a run.
        classes: One row per run and class, as `results.classes.table` gives them.
    """
    digests: dict[str, list[str]] = defaultdict(list)
    for row in rows(runs):
        digests[_key(row)].append(row["digest"])
    classes = classes.assign(drop=classes["dense_accuracy"] - classes["accuracy"])
    of_run = dict(list(classes.groupby("digest", sort=False)))
    heads = [name for name in named(summary) if name != "dataset" and (name != "net" or summary["net"].nunique() > 1)]
    maps: dict[str, dict[str, Any]] = {}
    for row in rows(summary):
        known = [of_run[digest] for digest in digests[_key(row)] if digest in of_run]
        if not known:
            continue
        means = pd.concat(known).groupby("class", sort=False)[["accuracy", "drop"]].mean()
        means.loc["all"] = [row["accuracy"], row["drop"]]
        table = maps.setdefault(row["dataset"], {"dataset": row["dataset"], "classes": {}, "rows": []})
        table["classes"] |= dict.fromkeys(["all", *(str(name) for name in means.index if name != "all")])
        table["rows"].append({"row": row, "means": means.to_dict("index")})
    for table in maps.values():
        table["classes"] = list(table["classes"])
        table["heads"] = [NAMES.get(name, name) for name in (*heads, "keep")]
        table["rows"] = [_row(**row, heads=[*heads, "keep"], classes=table["classes"]) for row in table["rows"]]
    return list(maps.values())


def _key(row: Mapping[str, Any]) -> str:
    return repr((arm(row), word(row["keep"])))


def _row(row: dict[str, Any], means: dict[str, Any], heads: list[str], classes: list[str]) -> dict[str, Any]:
    return {
        "words": arm(row),
        "heads": [word(row[name]) for name in heads],
        "cells": [{kind: _percent(means.get(name, {}).get(kind)) for kind in ("accuracy", "drop")} for name in classes],
    }


def _percent(value: Any) -> str:
    share = number(value)
    return "" if share is None else f"{round(100 * share, 1) + 0.0:.1f}"
