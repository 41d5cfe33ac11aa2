"""Areas, crossings and fronts by hand, and what the table of curves makes of them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from test_paired import arm, table

from rs_prune.errors import RsPruneError
from rs_prune.results.curves import Crossing, area, crossing, curves, front, fronts, said_crossing
from rs_prune.results.stats import summarise
from rs_prune.table.curves import Curves
from rs_prune.table.pareto import Pareto


def test_area_by_hand() -> None:
    # from 0.2 to 0.6: (0.8 + 0.9) / 2 * 0.2 + (0.9 + 0.95) / 2 * 0.2, over 0.4
    assert area([0.6, 0.2, 0.4], [0.95, 0.8, 0.9], 0.2, 0.6) == pytest.approx(0.8875)
    # from 0.3, where the line stands at 0.85, to 0.5 at 0.925
    assert area([0.6, 0.2, 0.4], [0.95, 0.8, 0.9], 0.3, 0.5) == pytest.approx((0.0875 + 0.09125) / 0.2)
    assert area([0.2, 0.9], [0.7, 0.7], 0.3, 0.8) == pytest.approx(0.7)
    assert math.isnan(area([0.2, 0.6], [0.8, 0.9], 0.1, 0.6))
    assert math.isnan(area([0.2, 0.6], [0.8, 0.9], 0.6, 0.6))
    assert math.isnan(area([0.2, math.nan], [0.8, 0.9], 0.2, 0.6))


def test_crossing_by_hand() -> None:
    shares = [1.0, 0.5, 0.3, 0.1]
    at = crossing(shares, [0.0, 0.005, 0.025, 0.001], 0.01)
    assert at == (
        pytest.approx(0.45),
        "=",
        0.3,
        0.5,
    )  # a quarter of the way from 0.5 down to 0.3; not the return at 0.1
    assert said_crossing(at) == "45.0 (30 to 50)"
    never = crossing(shares, [0.0, 0.005, 0.009, 0.01], 0.01)
    assert (never.x, never.sign, said_crossing(never)) == (0.1, "<", "<10.0")
    already = crossing(shares[1:], [0.02, 0.03, 0.04], 0.01)
    assert (already.x, already.sign, said_crossing(already)) == (0.5, ">", ">50.0")
    assert crossing([0.5, 1.0], [0.96 - 0.95, 0.0], 0.01).sign == "<"  # 0.010000000000000009 is one point
    assert said_crossing(crossing([0.5], [math.nan], 0.01)) == ""
    assert crossing([0.3, 0.5], [math.nan, 0.0], 0.01) == Crossing(0.5, "<", pytest.approx(math.nan, nan_ok=True), 0.5)


def test_front_by_hand() -> None:
    cost = [1, 2, 3, 3, 2, 4, math.nan]
    value = [0.5, 0.7, 0.6, 0.8, 0.7, 0.8, 0.9]
    assert front(cost, value).tolist() == [True, True, False, True, True, False, False]


def curve(criterion: str, lost: dict[float, float], seeds: int = 3, **words: Any) -> list[dict[str, Any]]:
    rows = []
    for keep, points in lost.items():
        accuracies = [0.95 + seed / 100 - points - seed * points / 10 for seed in range(seeds)]
        for row in arm(accuracies, criterion=criterion, keep=keep, macs=100 * keep, **words):
            rows.append(row | {"dense_accuracy": 0.95 + row["seed"] / 100})
    return rows


LOST = {0.8: 0.0, 0.4: 0.01, 0.2: 0.05}


def test_the_table_of_curves() -> None:
    runs = table([*curve("l1", LOST), *curve("cap", {0.8: 0.0, 0.4: 0.0, 0.2: 0.0}), *curve("lone", {0.8: 0.02})])
    found = curves(runs, {"criterion": "l1"}).set_index("criterion")
    assert set(found["from"]) == {0.2} and set(found["to"]) == {0.8}
    lost = (0.005 * 0.4 + 0.03 * 0.2) / 0.6  # of seed 0; a tenth more with every seed
    assert found.loc["l1", "area"] == pytest.approx(0.96 - 1.1 * lost)
    assert found.loc["cap", "difference"] == pytest.approx(1.1 * lost)
    assert (found.loc["cap", "pairs"], found.loc["cap", "verdict"]) == (3, "better")
    half = 4.302652729696142 * 0.1 * lost / math.sqrt(3)
    assert found.loc["cap", "high"] - found.loc["cap", "difference"] == pytest.approx(half)
    # the mean loses 1.1 points at 0.4 and nothing at 0.8
    at = found.loc["l1", "macs_at_loss"]
    assert (at, found.loc["l1", "macs_at_loss_sign"]) == (pytest.approx(0.4 + 0.4 * 0.1 / 1.1), "=")
    assert (found.loc["cap", "macs_at_loss"], found.loc["cap", "macs_at_loss_sign"]) == (pytest.approx(0.2), "<")
    assert math.isnan(found.loc["lone", "area"]) and found.loc["lone", "verdict"] == "not tested"


def test_losses_are_counted_from_the_baselines_dense_net() -> None:
    gated = [row | {"dense_accuracy": 0.93 + row["seed"] / 100} for row in curve("l1", LOST, attention="se")]
    runs = table([*curve("l1", LOST), *gated])
    plain = curves(runs, {"criterion": "l1", "attention": "none"}).set_index("attention")
    assert plain.loc["se", "macs_at_loss_sign"] == ">"  # its own dense net is two points below
    assert curves(runs, {"criterion": "l1"}).set_index("attention").loc["se", "macs_at_loss_sign"] == "="


def test_an_arm_of_one_budget_is_no_baseline_of_a_curve() -> None:
    longer = curve("l1", {0.8: 0.01}, epochs=90)
    runs = table([*curve("l1", LOST), *longer, *curve("cap", {0.8: 0.0, 0.4: 0.0, 0.2: 0.0}, scope="global")])
    found = curves(runs, {"criterion": "l1"}).set_index(["criterion", "epochs"])
    assert found.loc["cap", "pairs"].tolist() == [3] and found.loc[("l1", 90), "budgets"] == 1
    assert not found.loc[("l1", 90), "pairs"]


def test_a_stated_interval_and_mistakes(tmp_path: Path) -> None:
    runs = table([*curve("l1", LOST), *curve("cap", {0.8: 0.0, 0.4: 0.0})])
    found = curves(runs, {"criterion": "l1"}, interval=(0.2, 0.8)).set_index("criterion")
    assert math.isnan(found.loc["cap", "area"]) and found.loc["l1", "area"] > 0.9
    assert curves(runs, {"criterion": "l1"})["from"].unique() == pytest.approx(0.4)
    for interval in ((0.8, 0.2), (0.2,), (0.2, 1.5)):
        with pytest.raises(RsPruneError, match="two rising shares"):
            Curves(baseline="criterion=l1", interval=interval)(summarise(runs), runs, tmp_path)


def test_fronts_are_chosen_on_validation_data() -> None:
    rows = [
        *arm([0.99], macs=50.0, val_accuracy=0.80), *arm([0.50], macs=40.0, val_accuracy=0.90, schedule="soft"),
        *arm([0.60], macs=30.0, val_accuracy=0.95, criterion="cap"),
        *arm([0.60], macs=90.0, val_accuracy=0.97, criterion="cap", keep=0.9),
    ]  # fmt: skip
    found = fronts(summarise(table(rows)))
    kept = found[["criterion", "schedule", "macs", "overall"]].to_numpy().tolist()
    assert kept == [
        ["cap", "one_shot", 90.0, True], ["cap", "one_shot", 30.0, True], ["l1", "soft", 40.0, False],
    ]  # fmt: skip


def test_files(tmp_path: Path) -> None:
    runs = table([*curve("l1", LOST), *curve("cap", {0.8: 0.0, 0.4: 0.0, 0.2: 0.0})])
    for option in (Curves(baseline="criterion=l1"), Pareto()):
        assert len(option(summarise(runs), runs, tmp_path)) == 3
    text = (tmp_path / "curves.md").read_text()
    assert "43.6 (40 to 80)" in text
    assert " 20.0, 80.0 |" in text
    assert "| better" in text
    assert r"$<$20.0" in (tmp_path / "curves.tex").read_text()
    again = pd.read_csv(tmp_path / "curves.csv")
    assert np.isfinite(again["area"]).all()
    assert "yes" in (tmp_path / "pareto.md").read_text()
