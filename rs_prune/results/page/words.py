"""Choices as the page's tables, curves and filters all spell them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from rs_prune.results.stats import ARM, DENSE, rows, varying


def word(value: Any) -> str:
    """A choice as text: `0.5`, not `0.50`."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def arm(row: Mapping[str, Any]) -> dict[str, str]:
    """The choices that make one line of a curve, empty where unknown."""
    return {name: word(row[name]) for name in ARM}


def dense_net(row: Mapping[str, Any]) -> dict[str, str]:
    """The choices that decide a dense net. A variant that is not known is of several arms: no filter is to find it."""
    return {name: word(row[name]) for name in DENSE if row.get(name, "") != ""}


def named(summary: pd.DataFrame) -> list[str]:
    """The columns that every table begins with."""
    return ["dataset", "net", "attention", "criterion", *varying(summary)]


def filters(summary: pd.DataFrame) -> dict[str, list[str]]:
    """Choice -> its values, of every choice that differs among the arms."""
    known = rows(summary)
    values = {name: sorted({word(row[name]) for row in known}) for name in named(summary)}
    return {name: found for name, found in values.items() if len(found) > 1}


def number(value: Any) -> float | None:
    """A plain finite number, or None where there is none."""
    return None if value is None or pd.isna(value) or not math.isfinite(value) else float(value)
