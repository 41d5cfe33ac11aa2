"""Paired differences: partners, Holm over the table, and how often nothing is called something."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from rs_prune.errors import RsPruneError
from rs_prune.results.paired import differences, parse
from rs_prune.results.records import COLUMNS, _typed
from rs_prune.results.stats import summarise
from rs_prune.table.paired import Paired

BASE = {
    "dataset": "d", "net": "n", "attention": "none", "criterion": "l1", "granularity": "channels",
    "schedule": "one_shot", "scope": "local", "budget": "macs", "keep": 0.5, "seed": 0, "epochs": 10,
    "finetune_epochs": 3, "selection": "val", "dense_accuracy": 0.95, "dense_val_accuracy": 0.94, "accuracy": 0.9,
    "val_accuracy": 0.9, "macs": 50.0, "dense_macs": 100.0,
}  # fmt: skip


def table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    found = [BASE | row for row in rows]
    named = [row | {"digest": str(number)} for number, row in enumerate(found)]
    return _typed(pd.DataFrame(named).reindex(columns=list(COLUMNS)))


def arm(accuracies: list[float], **words: Any) -> list[dict[str, Any]]:
    return [words | {"seed": seed, "accuracy": accuracy} for seed, accuracy in enumerate(accuracies)]


def test_differences_are_those_of_the_same_seed() -> None:
    cap, l1 = [0.93, 0.95, 0.94, 0.97], [0.90, 0.93, 0.93, 0.94]
    runs = table([*arm(cap, criterion="cap"), *arm(l1), *arm([0.5], criterion="random")])
    found = differences(runs, {"criterion": "l1"}).set_index("criterion")
    known = stats.ttest_rel(cap, l1)
    row = found.loc["cap"]
    assert (row["pairs"], row["difference"], row["p"]) == (4, pytest.approx(0.0225), pytest.approx(known.pvalue))
    interval = known.confidence_interval()
    assert (row["low"], row["high"]) == (pytest.approx(interval.low), pytest.approx(interval.high))
    assert row["p_holm"] == row["p"]  # random cannot be tested with one pair
    assert (row["verdict"], row["same_start"], row["against"]) == ("better", True, "criterion=l1")
    assert found.loc["random", "verdict"] == "not tested"
    assert found.loc["random", "baseline_accuracy"] == pytest.approx(0.90)  # of the pair alone
    shuffled = differences(runs.sample(frac=1, random_state=1), {"criterion": "l1"}).set_index("criterion")
    pd.testing.assert_frame_equal(found, shuffled.loc[found.index])


def test_a_schedule_from_scratch_does_not_start_from_the_dense_net() -> None:
    rows = [
        *arm([0.90, 0.91], dense_training_macs=7.0),
        *arm([0.90, 0.92], schedule="soft", dense_training_macs=0.0),
        *arm([0.90, 0.93], schedule="iterative", dense_training_macs=7.0),
        *arm([0.90, 0.94], schedule="dynamic", dense_training_macs=0.0),
    ]
    found = differences(table(rows), {"schedule": "one_shot"}).set_index("schedule")["same_start"]
    assert found.to_dict() == {"soft": False, "iterative": True, "dynamic": False}
    found = differences(table(rows), {"schedule": "soft"}).set_index("schedule")["same_start"]
    assert found.to_dict() == {"one_shot": False, "iterative": False, "dynamic": True}


def test_untrained_nets_of_other_attention_are_no_same_start() -> None:
    rows = [*arm([0.9], dense_training_macs=0.0), *arm([0.9], attention="se", dense_training_macs=0.0)]
    assert not differences(table(rows), {"attention": "none"})["same_start"].any()


def test_holm_is_over_the_whole_table() -> None:
    draw = np.random.default_rng(0)
    rows = []
    for keep, criterion in itertools.product((0.5, 0.25), ("l1", "cap", "random")):
        rows += arm(list(draw.normal(0.9, 0.01, 3)), keep=keep, criterion=criterion)
    found = differences(table(rows), {"criterion": "l1"})
    order = found["p"].argsort()
    p = found["p"].to_numpy()[order]
    assert found["p_holm"].to_numpy()[order][0] == pytest.approx(min(1, 4 * p[0]))
    assert list(found["keep"]) == [0.5, 0.5, 0.25, 0.25]


def test_worse_and_not_significant_are_told_apart() -> None:
    rows = [*arm([0.90, 0.91, 0.92]), *arm([0.80, 0.811, 0.82], criterion="random"),
            *arm([0.91, 0.90, 0.92], criterion="cap")]  # fmt: skip
    found = differences(table(rows), {"criterion": "l1"}).set_index("criterion")["verdict"]
    assert found.to_dict() == {"cap": "not significant", "random": "worse"}


def test_words_that_are_left_out_are_those_of_the_arm() -> None:
    rows = [arm([0.9, 0.8], attention=a, criterion=c) for a in ("none", "se") for c in ("l1", "cap")]
    runs = table(list(itertools.chain(*rows)))
    own = differences(runs, {"criterion": "l1"})
    assert list(zip(own["attention"], own["criterion"], own["against"], strict=True)) == [
        ("none", "cap", "criterion=l1"), ("se", "cap", "criterion=l1"),
    ]  # fmt: skip
    plain = differences(runs, {"criterion": "l1", "attention": "none"})
    assert list(plain["against"]) == ["criterion=l1", "attention=none criterion=l1", "attention=none"]


def test_options_of_a_word_that_is_named_need_not_agree() -> None:
    mining, plain = "loss.r=0.4 loss=adaptive_mining", "loss=cross_entropy"
    rows = [
        *arm([0.90, 0.91], criterion="l1", variant=plain),
        *arm([0.92, 0.93], criterion="l1", variant=mining),
        *arm([0.80, 0.81], criterion="cap", variant=plain),
        *arm([0.83, 0.84], criterion="cap", variant=mining),
    ]
    found = differences(table(rows), {"loss": "cross_entropy"}).set_index("criterion")
    assert found["difference"].to_dict() == {"l1": pytest.approx(0.02), "cap": pytest.approx(0.03)}
    assert found.loc["cap", "against"] == plain
    other = arm([0.7, 0.71], criterion="cap", variant="loss.r=0.5 loss=adaptive_mining")
    found = differences(table([*rows[2:4], *rows[6:], *other]), {"loss.r": "0.4"})
    assert list(found["difference"]) == [pytest.approx(-0.13)]


def test_options_of_a_word_that_is_named_agree_where_they_can() -> None:
    rows: list[dict[str, Any]] = []
    for criterion, gain in (("l1", 0.0), ("cap", 0.1)):
        for gradients, more in (("free", 0.01), ("masked", 0.03)):
            variant = f"schedule.gradients={gradients}"
            rows += arm([0.5 + gain + more], schedule="soft", criterion=criterion, variant=variant)
    found = differences(table(rows), {"schedule": "soft", "criterion": "l1"})
    assert list(found["against"]) == ["criterion=l1", "criterion=l1"]


def test_an_ambiguous_baseline_is_refused_with_what_to_add() -> None:
    rows = [*arm([0.9]), *arm([0.9], scope="global"), *arm([0.9], attention="se", criterion="cap", scope="isomorphic")]
    with pytest.raises(RsPruneError, match=r"b: 'criterion=l1' fits 2 arms.*add one of scope=global\|local") as error:
        differences(table(rows), {"criterion": "l1"}, "b")
    assert "\n" not in str(error.value)
    assert len(differences(table(rows), {"criterion": "l1", "scope": "local"})) == 2


def test_options_can_be_named_too() -> None:
    rows = [*arm([0.9, 0.8], variant="lr=0.1"), *arm([0.8, 0.8], variant="lr=0.2")]
    found = differences(table(rows), {"lr": "0.1"})
    assert (list(found["variant"]), list(found["difference"])) == (["lr=0.2"], [pytest.approx(-0.05)])


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("criterion", "name the arm to compare with"),
        ("", "name the arm to compare with"),
        (None, "name the arm to compare with"),
        ("keep=0.5", "keep is the same for all"),
    ],
)
def test_malformed_words(words: Any, says: str) -> None:
    with pytest.raises(RsPruneError, match=says):
        parse(words, "table.paired.baseline")


def test_words_that_fit_nothing_name_what_there_is() -> None:
    assert parse({"criterion": "l1", "epochs": 10}, "b") == parse("criterion=l1 epochs=10", "b")
    with pytest.raises(RsPruneError, match=r"'criterion=lone' fits no arm; there are .*criterion=cap\|l1"):
        differences(table([*arm([0.9]), *arm([0.9], criterion="cap")]), {"criterion": "lone"})


def test_runs_of_different_splits_are_not_paired() -> None:
    rows = [*arm([0.9], split="seed0-0.6"), *arm([0.9], criterion="cap", split="seed1-0.6")]
    with pytest.raises(RsPruneError, match=r"different splits \(seed.-0\.6, seed.-0\.6\)"):
        differences(table(rows), {"criterion": "l1"})
    rows[1]["split"] = ""  # of an earlier version
    assert len(differences(table(rows), {"criterion": "l1"})) == 1


def test_other_dense_nets_are_told() -> None:
    rows = [*arm([0.9, 0.91]), *arm([0.9, 0.92], criterion="cap", attention="se", dense_accuracy=0.96)]
    assert list(differences(table(rows), {"criterion": "l1", "attention": "none"})["same_start"]) == [False]


def test_the_same_net_is_known_without_validation_data() -> None:
    none = {"selection": "test_as_published", "dense_val_accuracy": float("nan")}
    rows = [*arm([0.9, 0.91], **none), *arm([0.9, 0.92], criterion="fpgm", **none)]
    assert list(differences(table(rows), {"criterion": "l1"})["same_start"]) == [True]
    rows = [*rows, *arm([0.9, 0.92], criterion="budgeted", **none | {"dense_accuracy": float("nan")})]
    assert list(differences(table(rows), {"criterion": "l1"})["same_start"]) == [False, True]
    rows = [row | {"dense_accuracy": float("nan")} for row in rows]
    assert not any(differences(table(rows), {"criterion": "l1"})["same_start"])


def test_a_best_mark_must_beat_every_rival() -> None:
    good, fair, poor = [0.95, 0.96, 0.971], [0.90, 0.912, 0.92], [0.80, 0.81, 0.822]
    rows = [*arm(good, val_accuracy=0.95), *arm(fair, criterion="cap"), *arm(poor, criterion="random")]
    best = summarise(table(rows)).query("best").iloc[0]
    p = [stats.ttest_rel(good, other).pvalue for other in (fair, poor)]
    assert best["best_p"] == pytest.approx(max(p))
    assert max(p) < 0.05
    tied = summarise(table([*rows, *arm([0.951, 0.959, 0.970], criterion="taylor")])).query("best").iloc[0]
    assert tied["best_p"] > 0.05
    worse_on_test = summarise(table([*rows, *arm([0.98, 0.985, 0.99], criterion="taylor")])).query("best").iloc[0]
    assert worse_on_test["best_p"] == 1.0
    lone = summarise(table([*rows, *arm([0.5], criterion="taylor")])).query("best").iloc[0]
    assert math.isnan(lone["best_p"])


def test_files(tmp_path: Path) -> None:
    rows = [*arm([0.90, 0.91, 0.92]), *arm([0.80, 0.811, 0.82], criterion="random")]
    runs = table(rows)
    paths = Paired(baseline="criterion=l1")(summarise(runs), runs, tmp_path)
    assert [path.name for path in paths] == ["paired.md", "paired.tex", "paired.csv"]
    text = (tmp_path / "paired.md").read_text()
    assert " -9.97 [-10.11, -9.82] |" in text
    assert "worse" in text
    assert "Baseline: criterion=l1." in text
    tex = (tmp_path / "paired.tex").read_text()
    assert r"$<$0.001" in tex
    assert tex.count("{") == tex.count("}")
    again = pd.read_csv(tmp_path / "paired.csv")
    assert again["difference"].iloc[0] == pytest.approx(np.mean([-0.10, -0.099, -0.10]))


KEEPS = (0.7, 0.5, 0.3, 0.2, 0.1)


def null_tables(count: int, criteria: tuple[str, ...], seeds: int = 5) -> Iterator[pd.DataFrame]:
    """One method under several names: the runs of a seed share a dense net, and differ by the noise of training."""
    draw = np.random.default_rng(2024)
    cells = itertools.product(range(seeds), KEEPS, criteria)
    runs = table([{"seed": seed, "keep": keep, "criterion": name} for seed, keep, name in cells])
    seed, keep = runs["seed"].to_numpy(int), runs["keep"].to_numpy(float)
    for _ in range(count):
        mean = 0.96 - 0.002 / keep + draw.normal(0, 0.002, seeds)[seed]
        test, val = (mean + draw.normal(0, 0.003, (2, len(runs)))).round(4)
        yield runs.assign(accuracy=np.round(8100 * test) / 8100, val_accuracy=np.round(2700 * val) / 2700)


def test_a_planted_null_is_rarely_called_significant(tmp_path: Path) -> None:
    """At most 6.5 % of 1,000 tables have a significant row: 5 %, and two standard errors of so many tables."""
    option = Paired(baseline="criterion=l1")
    called = 0
    for number, runs in enumerate(null_tables(1000, ("l1", "the same"))):
        found = option.table(runs)
        assert len(found) == len(KEEPS)
        significant = int(found["verdict"].isin(["better", "worse"]).sum())
        called += significant > 0
        if significant or number < 3:  # to the end: what is written says the same
            option(summarise(runs), runs, tmp_path)
            lines = (tmp_path / "paired.md").read_text().partition("Baseline:")[0]
            assert lines.count("| better") + lines.count("| worse") == significant
    assert 30 <= called <= 65


def test_a_planted_null_seldom_gets_a_best_mark_that_is_significant() -> None:
    called = 0
    for runs in null_tables(100, ("l1", "the same", "the same again")):
        best = summarise(runs).query("best")
        assert len(best) >= len(KEEPS)
        called += bool((best["best_p"] < 0.05).any())
    assert called <= 6
