"""Legends of figures with many kinds of arms."""

import re
from collections import defaultdict
from pathlib import Path

import pandas as pd
import pytest

from rs_prune.results.looks import CHARACTER, HANDLE, MARKERS, Looks
from rs_prune.results.page import curves
from rs_prune.results.records import read
from rs_prune.results.stats import dense, summarise

RUNS = Path(__file__).parents[2] / "experiments" / "methods_eurosat" / "runs.csv"


def test_with_many_choices_an_entry_names_what_is_not_as_usual():
    runs = read(RUNS)
    looks = Looks(summarise(runs), dense(runs))
    mine = [arm for arm in looks.arms if arm["net"] == "resnet_narrow"]
    plain = [looks.arm(arm)["label"] for arm in mine if arm["attention"] == "none"]
    assert len(set(plain)) == len(plain)
    assert {"l1", "l1, gradual", "l1, weights, global, params", "bn_scale, penalty=slimming"} <= set(plain)
    assert "one_shot" in looks.title
    width = looks.least_width()
    entries, columns = looks.legend(width)
    assert columns * (CHARACTER * max(len(str(entry.get_label())) for entry in entries) + HANDLE) <= width


def test_with_few_choices_every_entry_names_them():
    runs = read(RUNS)
    runs = runs[(runs["attention"] == "none") & (runs["criterion"] == "l1") & (runs["granularity"] == "channels")]
    looks = Looks(summarise(runs), dense(runs))
    assert {looks.arm(arm)["label"] for arm in looks.arms} == {f"l1, {name}" for name in set(runs["schedule"])}
    assert looks.title == "criterion, schedule"


def test_epochs_are_named_where_no_heading_says_what_a_number_is():
    runs = read(RUNS.parents[1] / "budgeted_eurosat" / "runs.csv")
    looks = Looks(summarise(runs), dense(runs))
    assert looks.title == "criterion, and what is not epochs=10, finetune_epochs=5"
    labels = {looks.arm(arm)["label"] for arm in looks.arms}
    assert {"attention, one_shot, global, epochs=15, finetune_epochs=0", "l1, gradual, local"} <= labels


TABLES = sorted(RUNS.parents[1].glob("*/runs.csv"))


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.parent.name)
def test_no_two_arms_of_a_panel_look_alike(path):
    runs = read(path)
    looks = Looks(summarise(runs), dense(runs))
    arms, nets, labels = defaultdict(list), defaultdict(list), defaultdict(list)
    for rows, look, panels, telling in (
        (looks.arms, looks.arm, arms, ("color", "marker")),
        (looks.nets, looks.dense, nets, ("linestyle", "markerfacecolor")),
    ):
        for row in rows:
            panels[row["dataset"], row["net"]].append(tuple(look(row)[name] for name in telling))
            labels[row["dataset"], row["net"], row["attention"]].append(look(row)["label"])
    assert max(map(len, arms.values())) > 2
    for drawn in (*arms.values(), *nets.values(), *labels.values()):
        assert len(set(drawn)) == len(drawn)
    assert len(set(looks.markers.values())) == min(len(looks.markers), len(MARKERS))  # none twice before all are used


def test_an_arm_without_what_is_usual_says_so():
    runs = read(RUNS.parents[1] / "attention_vs_magnitude" / "runs.csv")
    mine = runs[(runs["criterion"] == "l1") & (runs["attention"] == "none") & (runs["schedule"] == "one_shot")]
    dense_accuracy = mine["dense_accuracy"] - 0.01
    older = mine.assign(variant="", schedule="", dense_accuracy=dense_accuracy, digest="o" + mine["digest"])
    both = pd.concat([runs.assign(variant="bands=[1, 2] rate=0.1"), older], ignore_index=True)
    looks = Looks(summarise(both), dense(both))
    plain = [looks.arm(arm)["label"] for arm in looks.arms if arm["attention"] == "none"]
    assert len(set(plain)) == len(plain)
    assert {"l1", "l1, no schedule, no bands no rate"} <= set(plain)
    assert [looks.dense(net)["label"] for net in looks.nets if net["attention"] == "none" and net["epochs"] == 6] == [
        "dense",
        "dense, epochs=6, bands=[1, 2] rate=0.1",
    ]


def test_dense_nets_that_nothing_names_are_numbered():
    runs = read(RUNS.parents[1] / "attention_vs_magnitude" / "runs.csv")
    nets = dense(runs)
    more = pd.concat([nets.assign(accuracy=nets["accuracy"] - number / 100) for number in range(3)], ignore_index=True)
    looks = Looks(summarise(runs), more)
    drawn = [looks.dense(net) for net in looks.nets]
    assert {"dense", "dense, epochs=6", "dense, epochs=6 (2)"} <= {look["label"] for look in drawn}
    assert len({(look["linestyle"], look["markerfacecolor"]) for look in drawn}) == len(drawn) == 9


def test_plotly_knows_every_marker_by_its_name_on_the_page():
    """An unknown name would be drawn as a circle."""
    plotly = (Path(curves.__file__).parent / "plotly" / "plotly-basic.min.js").read_text(encoding="utf-8")
    assert set(curves.SYMBOLS) == {*MARKERS, "*"}
    for name in curves.SYMBOLS.values():
        assert re.search(rf'[{{,]"?{name}"?:{{n:\d+,', plotly), name


def test_the_page_draws_the_table_with_the_most_arms():
    runs = read(RUNS)
    for panel in curves.Curves(summarise(runs), runs, pd.DataFrame()).panels:
        drawn = {(line["color"], line["symbol"]) for line in panel["arms"]}
        assert len(drawn) == len(panel["arms"])
        assert panel["net"] != "resnet_narrow" or len({symbol for _, symbol in drawn}) == len(MARKERS)
