"""Means, intervals, and which runs are averaged with which."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
import pytest

from rs_prune.errors import RsPruneError
from rs_prune.results.records import runs
from rs_prune.results.show import caption, cells
from rs_prune.results.stats import dense, mean_interval, summarise, varying


def record(seed: int = 0, test: float = 0.9, val: float = 0.9, **other: Any) -> dict[str, Any]:
    config = other.pop("config", {})
    choices = {
        "dataset": "d", "net": "n", "attention": "none", "criterion": "l1", "granularity": "channels",
        "schedule": "one_shot", "scope": "local", "budget": "macs", "keep": 0.5, "seed": seed, "epochs": 10,
        "finetune_epochs": 3, "selection": "val", **other,
    }  # fmt: skip
    accuracy = {"dense": {"test": 0.95 + seed / 100, "val": 0.9}, "final": {"test": test, "val": val}}
    digest = f"{sorted(choices.items())}{sorted(config.items())}"
    return {
        "digest": digest, "status": "finished", "choices": choices, "config": config, "accuracy": accuracy,
    }  # fmt: skip


def test_interval_by_hand() -> None:
    mean, low, high = mean_interval([0.90, 0.92, 0.97])
    assert mean == pytest.approx(0.93)
    half = 4.302652729696142 * math.sqrt(0.0013) / math.sqrt(3)  # t(0.975, 2); variance (9 + 1 + 16) / 2 e-4
    assert mean - low == pytest.approx(half)
    assert high - mean == pytest.approx(half)
    narrow = mean_interval([0.90, 0.92, 0.97], confidence=0.5)
    assert high - low > narrow[2] - narrow[1]


def test_interval_of_one_and_of_none() -> None:
    mean, low, high = mean_interval([0.9, math.nan])
    assert mean == 0.9
    assert math.isnan(low)
    assert math.isnan(high)
    assert all(math.isnan(value) for value in mean_interval([math.nan]))


def test_equal_values_have_no_interval_but_differences_that_are_nothing_do() -> None:
    mean, low, high = mean_interval([0.1 + 0.2, 0.3, 0.3])
    assert mean == pytest.approx(0.3)
    assert math.isnan(low)
    assert math.isnan(high)
    assert mean_interval([0.0, 0.0]) == (0.0, 0.0, 0.0)  # drop of a net that was not cut


def test_equal_seeds_are_printed_without_an_interval() -> None:
    table = runs([record(s, test=0.9) for s in (0, 1)]).assign(dense_accuracy=0.95, macs=1.0, dense_macs=2.0)
    text, _ = cells(summarise(table), table)
    assert list(text["accuracy"]) == ["95.00", "90.00"]
    assert list(text["drop"]) == ["", "5.00"]


def test_latencies_are_medians_over_runs() -> None:
    table = runs([record(s, keep=keep) for keep in (0.25, 0.5) for s in (0, 1, 2)])  # in this order
    table = table.assign(latency_ms=[0.5, 0.7, 60.0] * 2, dense_latency_ms=[1.3, 1.4, 136.0, 1.0, 1.2, 1.1])
    summary = summarise(table)
    assert list(summary["latency_ms"]) == [0.7, 0.7]
    assert list(summary["dense_latency_ms"]) == [1.1, 1.4]
    assert dense(table)["latency_ms"].tolist() == [pytest.approx(1.25)]
    assert "Latency: median over the runs." in caption(summary)
    assert not [line for line in caption(summary.assign(latency_ms=math.nan)) if "Latency" in line]


def test_only_seeds_are_averaged() -> None:
    table = summarise(runs([record(0, 0.90), record(1, 0.92), record(0, 0.80, criterion="cap")]))
    l1 = table[table["criterion"] == "l1"].iloc[0]
    assert (l1["seeds"], l1["accuracy"]) == (2, pytest.approx(0.91))
    assert l1["drop"] == pytest.approx(0.045)  # 0.95 - 0.90 and 0.96 - 0.92
    assert l1["drop_high"] - l1["drop"] == pytest.approx(12.706204736 * 0.005, rel=1e-6)
    cap = table[table["criterion"] == "cap"].iloc[0]
    assert cap["seeds"] == 1
    assert math.isnan(cap["accuracy_low"])


@pytest.mark.parametrize(
    ("word", "value"),
    [("attention", "se"), ("schedule", "iterative"), ("scope", "global"), ("epochs", 20), ("keep", 0.25)],
)
def test_a_different_choice_is_another_row(word: str, value: Any) -> None:
    assert len(summarise(runs([record(0), record(1, **{word: value})]))) == 2


def test_options_outside_of_the_choices_are_not_averaged() -> None:
    table = summarise(runs([record(s, config={"optimizer": {"lr": lr}}) for s in (0, 1) for lr in (0.1, 0.2)]))
    assert list(table["variant"]) == ["optimizer.lr=0.1", "optimizer.lr=0.2"]
    assert list(table["seeds"]) == [2, 2]
    assert varying(table) == ["variant"]
    lone = summarise(runs([record(0, config={"lr": 0.1}), record(1, config={"lr": 0.2})]))
    assert list(lone["seeds"]) == [1, 1]


@pytest.mark.parametrize("words", [({"criterion": "l1"}, {"criterion": "cap"}), ({"keep": 0.5}, {"keep": 0.25})])
def test_options_tell_arms_of_other_choices_apart(words: tuple[dict[str, Any], ...]) -> None:
    rates = (0.1, 0.001)
    table = runs(
        [record(s, **w, config={"optimizer": {"lr": lr}}) for s in (0, 1) for w, lr in zip(words, rates, strict=True)]
    )
    assert set(table["variant"]) == {"optimizer.lr=0.1", "optimizer.lr=0.001"}
    assert varying(summarise(table)) == ["variant"]


@pytest.mark.parametrize(
    ("words", "configs"),
    [
        (("criterion", "taylor", "hrank"), ({"criterion": {"images": 512}}, {"criterion": {"images": 64}})),
        (("attention", "none", "se"), ({"attach": {"shortcuts": False}}, {"attach": {"shortcuts": True}})),
        (("selection", "val", "last"), ({"split": {"val": 0.1}}, {"split": {"val": 0}})),
        (("keep", 0.5, 0.25), ({"budget": {"keep": 0.5, "count": 2}}, {"budget": {"keep": 0.25, "count": 1}})),
        (
            ("keep", 0.5, 0.25),
            tuple({"budget": {"keep": keep}, "attention": {"keep": keep}, "cache_gb": keep} for keep in (0.5, 0.25)),
        ),
        (("net", "n", "m"), ({"model": {"kwargs": {}}}, {"model": {"kwargs": {"layers": [2, 2]}}})),
    ],
)
def test_options_that_follow_a_choice_are_not_named(words: tuple[str, Any, Any], configs: tuple[Any, Any]) -> None:
    name, *values = words
    table = runs([record(0, **{name: value}, config=c) for value, c in zip(values, configs, strict=True)])
    assert set(table["variant"]) == {""}


def test_only_the_choice_whose_options_differ_names_them() -> None:
    images = (("taylor", 512), ("taylor", 64), ("hrank", 64))
    table = runs([record(0, criterion=c, config={"criterion": {"images": n}}) for c, n in images])
    assert sorted(table["variant"]) == ["", "criterion.images=512", "criterion.images=64"]


def test_options_are_words_of_the_command_line() -> None:
    def config(steps: list[float] | None, kind: str, **kwargs: Any) -> dict[str, Any]:
        optimizer = {"_target_": f"torch.optim.{kind}", "lr": 0.1 if kind == "SGD" else 0.001}
        return {"lr_steps": steps, "optimizer": optimizer, "model": {"kwargs": kwargs}, "trainer": {"precision": kind}}

    table = runs([record(0, config=config(None, "SGD")), record(1, config=config([0.5, 0.75], "AdamW", layers=[2, 2]))])
    assert set(table["variant"]) == {
        "lr_steps=null model.kwargs={} optimizer=sgd trainer.precision=SGD",
        "lr_steps=[0.5,0.75] model.kwargs={layers:[2,2]} optimizer=adamw trainer.precision=AdamW",
    }


def test_another_loss_is_another_row() -> None:
    losses = [f"rs_prune.loss.{name}" for name in ("focal.Focal", "cross_entropy.CrossEntropy")]
    table = summarise(runs([record(s, config={"loss": {"_target_": name}}) for s in (0, 1) for name in losses]))
    assert list(table["seeds"]) == [2, 2]
    assert varying(table) == ["variant"]


def test_a_seed_of_something_else_and_the_machine_do_not_tell_runs_apart() -> None:
    configs = [{"split": {"seed": seed}, "workers": seed + 1, "new_option": 1} for seed in (0, 1)]
    del configs[0]["new_option"]
    table = summarise(runs([record(seed, config=config) for seed, config in enumerate(configs)]))
    assert list(table["seeds"]) == [2]
    assert varying(table) == []


def test_the_same_run_twice_is_refused() -> None:
    twice = runs([record(0)])
    with pytest.raises(RsPruneError, match="2 runs agree in every option"):
        summarise(pd.concat([twice, twice.assign(digest="other")], ignore_index=True))


def test_best_is_chosen_on_validation() -> None:
    arms = [
        record(0, test=0.99, val=0.80), record(0, test=0.70, val=0.81, criterion="cap"),
        record(0, test=0.98, val=0.99, keep=0.25),
    ]  # fmt: skip
    table = summarise(runs(arms)).set_index(["keep", "criterion"])["best"]
    assert table.to_dict() == {(0.5, "cap"): True, (0.5, "l1"): False, (0.25, "l1"): False}


def test_dense_nets_count_once_per_seed() -> None:
    table = dense(runs([record(s, criterion=c) for s in (0, 1) for c in ("l1", "cap", "random")]))
    assert len(table) == 1
    assert (table["seeds"].iloc[0], table["accuracy"].iloc[0]) == (2, pytest.approx(0.955))


def test_some_of_an_arms_seeds_are_no_dense_net_of_their_own() -> None:
    many = runs([record(s, criterion="l1") for s in (0, 1, 2)]).assign(variant="mask=a")
    few = runs([record(1, criterion="l1")]).assign(variant="mask=b")
    other = few.assign(variant="mask=c", dense_accuracy=0.5)
    table = dense(pd.concat([few, many, other], ignore_index=True)).set_index("seeds")
    assert table["variant"].to_dict() == {3: "", 1: "mask=c"}


def test_dense_nets_that_are_not_the_same_are_never_averaged() -> None:
    good = runs([record(s) for s in (0, 1)])
    bad = runs([record(s, criterion="cap") for s in (0, 1, 2)]).assign(dense_accuracy=0.5)
    more = runs([record(2, keep=0.25)])
    table = dense(pd.concat([bad, good, more], ignore_index=True))
    assert sorted(table["accuracy"]) == [0.5, pytest.approx(0.96)]
    assert list(table["seeds"]) == [3, 3]


def test_selection_on_test_data_is_always_named() -> None:
    assert varying(summarise(runs([record(0)]))) == []
    assert varying(summarise(runs([record(0, selection="test_as_published")]))) == ["selection"]
