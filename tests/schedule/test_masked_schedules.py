"""Soft, gradual and dynamic pruning: the net that was validated is the net that comes out, at the budget."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from test_fit import Interrupted, loss_that_stops
from torch import nn

from rs_prune.contracts import MaskWeights, RemoveChannels
from rs_prune.errors import DoesNotApply, RsPruneError
from rs_prune.granularity.n_m import NM
from rs_prune.pruning.cost import measure, sparse
from rs_prune.pruning.gate import gates
from rs_prune.pruning.graph import trace
from rs_prune.pruning.masking import bake, masks
from rs_prune.schedule.dynamic import Dynamic
from rs_prune.schedule.gradual import Gradual
from rs_prune.schedule.one_shot import OneShot
from rs_prune.schedule.soft import Soft
from rs_prune.training.fit import evaluate
from rs_prune.training.masks import SoftMasks

SCHEDULES = {
    "soft": Soft, "soft, masked": lambda: Soft(gradients="masked"), "gradual": Gradual,
    "dynamic": lambda: Dynamic(updates=6),
}  # fmt: skip


class Watch(pl.Callback):
    """Notes every mask at the start of every step, after the schedule's own callback, and at the end of every epoch."""

    def __init__(self) -> None:
        self.steps: list[dict[tuple[str, str], torch.Tensor]] = []
        self.epochs: list[dict[tuple[str, str], torch.Tensor]] = []
        self.nets: list[nn.Module] = []

    def on_train_batch_start(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        self.steps.append({(layer, name): mask.mask.clone() for layer, name, _, mask in masks(pl_module.net)})

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self.epochs.append({(layer, name): mask.mask.clone() for layer, name, _, mask in masks(pl_module.net)})
        self.nets.append(copy.deepcopy(pl_module.net))


def watched(place: Any) -> Watch:
    """Adds a watch to the schedule's fits."""
    watch, fit = Watch(), place.do.fit

    def with_watch(net: nn.Module, epochs: int, callbacks: Any = (), lr_factor: float | None = None) -> nn.Module:
        return fit(net, epochs, [*callbacks, watch], lr_factor)

    object.__setattr__(place.do, "fit", with_watch)
    return watch


@pytest.mark.parametrize("single", [False, True], ids=["channels", "weights"])
@pytest.mark.parametrize("name", SCHEDULES)
def test_the_validated_net_is_the_removed_net_and_costs_what_the_budget_says(
    bench: Callable[..., Any], name: str, single: bool
) -> None:
    schedule = SCHEDULES[name]()
    place = bench(schedule, single=single, epochs=4)
    watch = watched(place)
    small = bake(schedule(place.net, place.do))
    (history,) = place.notes.history
    assert len(history) == 4
    accuracies = [row["val_accuracy"] for row in history]
    first = 0 if name.startswith("soft") else 3
    selected = max(range(first, 4), key=lambda epoch: (accuracies[epoch], -epoch))
    assert evaluate(small, place.data, "val")[0] == pytest.approx(accuracies[selected])
    assert place.notes.accuracy["raw"]["val"] == pytest.approx(accuracies[selected])
    images = next(place.data.batches("val"))["image"]
    with torch.no_grad():
        validated, removed = watch.nets[selected].eval()(images), small.eval()(images)
    torch.testing.assert_close(validated, removed, atol=1e-5, rtol=1e-5)
    (plan,) = place.notes.plans
    if single:
        reached = sparse(small, place.data.example())[1]
        assert {edit["edit"] for edit in plan["edits"]} == {"MaskWeights"}
    else:
        reached = measure(small, place.data.example())[0]
        assert not list(masks(small))
        assert place.notes.mask_error < 1e-4
    assert plan["predicted"]["params" if single else "macs"] == reached
    assert 0.49 * place.dense <= reached <= 0.5 * place.dense


@pytest.mark.parametrize("name", ["soft", "gradual", "dynamic"])
def test_gates_are_constant_before_the_fit_ends_so_that_folding_them_changes_nothing(
    bench: Callable[..., Any], name: str
) -> None:
    schedule = SCHEDULES[name]()
    place = bench(schedule, gated=True, epochs=6, selection="last")
    watch = watched(place)
    small = schedule(place.net, place.do)
    assert not list(gates(small))
    constant = [{gate.constant for _, gate in gates(net)} for net in watch.nets]
    first = math.ceil({"soft": 0.8, "gradual": 0.6, "dynamic": 0.75}[name] * 24) // 4  # of four steps an epoch
    assert constant == [{False}] * first + [{True}] * (6 - first)
    dense = dict(gates(place.net))
    assert any(not torch.allclose(gate.mean, dense[layer].mean, atol=1e-3) for layer, gate in gates(watch.nets[-1]))
    images = next(place.data.batches("val"))["image"]
    with torch.no_grad():
        validated, found = watch.nets[-1].eval()(images), small.eval()(images)
    torch.testing.assert_close(found, validated, atol=1e-5, rtol=1e-5)
    assert evaluate(small, place.data, "val")[0] == pytest.approx(place.notes.history[0][-1]["val_accuracy"])


def test_gates_that_do_not_depend_on_the_image_learn_to_the_end(bench: Callable[..., Any]) -> None:
    place = bench(Gradual(), gated=True)
    assert len(place.do.settle(place.net, 0.5)) == 1
    for _, gate in gates(place.net):
        gate.branch.varies = False
    assert place.do.settle(place.net, 0.5) == []


@pytest.mark.parametrize("losses", [9, 18, 21], ids=["before", "after", "and the fit is over"])
def test_a_killed_fit_keeps_its_constant_gates(bench: Callable[..., Any], tmp_path: Any, losses: int) -> None:
    """Gates are constant from the tenth of 16 steps on; the loss is called five times an epoch."""
    schedule = Gradual()
    calm = bench(schedule, gated=True, epochs=4, folder=tmp_path / "calm", selection="last")
    expected = schedule(calm.net, calm.do).state_dict()
    rough = bench(schedule, gated=True, epochs=4, folder=tmp_path / "rough", loss=loss_that_stops(losses))
    if losses > 20:
        schedule(rough.net, rough.do)
    else:
        with pytest.raises(Interrupted):
            schedule(rough.net, rough.do)
    again = bench(schedule, gated=True, epochs=4, folder=tmp_path / "rough", selection="last")
    found = schedule(again.net, again.do).state_dict()
    assert all(torch.equal(found[key], expected[key]) for key in expected)


@pytest.mark.parametrize("name", ["soft", "gradual", "dynamic"])
def test_a_killed_fit_goes_on_to_the_same_bits(bench: Callable[..., Any], tmp_path: Any, name: str) -> None:
    schedule = SCHEDULES[name]()
    calm = bench(schedule, folder=tmp_path / "calm", selection="last")
    expected = schedule(calm.net, calm.do).state_dict()
    # The loss is called five times an epoch, and once more for every exchange: this is in the second epoch.
    rough = bench(schedule, folder=tmp_path / "rough", selection="last", loss=loss_that_stops(9))
    with pytest.raises(Interrupted):
        schedule(rough.net, rough.do)
    assert (tmp_path / "rough" / "fit0" / "last.ckpt").exists()
    again = bench(schedule, folder=tmp_path / "rough", selection="last")
    found = schedule(again.net, again.do).state_dict()
    assert again.notes.history == calm.notes.history
    assert list(found) == list(expected)
    assert all(torch.equal(found[key], expected[key]) for key in expected)


# ------------------------------------------------------------------------------------------ soft


@pytest.mark.parametrize(("gradients", "regrown"), [("free", True), ("masked", False)])
def test_filters_regrow_if_gradients_are_free(bench: Callable[..., Any], gradients: str, regrown: bool) -> None:
    schedule = Soft(gradients=gradients)
    place = bench(schedule, epochs=5, optimizer=partial(torch.optim.AdamW, lr=0.1))
    watch = watched(place)
    schedule(place.net, place.do)
    steps = len(watch.steps) // 5
    assert all(bool(mask.all()) for mask in watch.steps[0].values())  # nothing is cut before it was trained
    for epoch in range(4):
        closed = {key: mask == 0 for key, mask in watch.epochs[epoch].items()}
        assert any(bool(mask.any()) for mask in closed.values())
        start, end = watch.steps[(epoch + 1) * steps], watch.nets[epoch + 1]
        if gradients == "free":
            assert all(bool(mask.all()) for mask in start.values())
        else:
            assert all(torch.equal(start[key], watch.epochs[epoch][key]) for key in start)
        filters = end.conv2.weight[closed["norm2", "weight"]]
        assert bool(filters.flatten(1).any(1).all()) == bool(filters.any()) == regrown
    same = all(torch.equal(watch.epochs[0][key], watch.epochs[4][key]) for key in watch.epochs[0])
    assert same != regrown


def test_soft_masks_count_no_epoch_out() -> None:
    assert not hasattr(SoftMasks(None, keep=0.5), "settled")  # type: ignore[arg-type]


# --------------------------------------------------------------------------------------- gradual


def test_masks_grow_along_the_cubic_and_then_stay(bench: Callable[..., Any]) -> None:
    schedule = Gradual(until=0.5, updates=4)
    place = bench(schedule, epochs=4)  # 16 steps; updates before 0, 2, 4, 6, 8
    asked, plan = [], place.do.plan
    object.__setattr__(place.do, "plan", lambda net, keep: (asked.append(keep), plan(net, keep))[1])
    watch = watched(place)
    schedule(place.net, place.do)
    cubic = [0.5 + 0.5 * (1 - number / 4) ** 3 for number in (1, 2, 3)]
    assert asked == pytest.approx([cubic[0], 0.5, *cubic, 0.5])
    open_ = [sum(int(mask.sum()) for (_, name), mask in step.items() if name == "weight") for step in watch.steps]
    assert open_[0] == open_[1] == 12 + 12 + 16 + 0
    for first, second in ((0, 2), (2, 4), (4, 6)):
        assert open_[first] == open_[first + 1] > open_[second]
    assert len(set(open_[8:])) == 1
    assert all(torch.equal(watch.steps[8][key], watch.epochs[-1][key]) for key in watch.steps[8])


def test_no_epoch_with_moving_masks_is_selected(bench: Callable[..., Any]) -> None:
    schedule = Gradual(until=0.7, updates=3)
    place = bench(schedule, epochs=4)
    seen: list[Any] = []
    fit = place.do.fit
    object.__setattr__(
        place.do, "fit", lambda net, epochs, callbacks: (seen.extend(callbacks), fit(net, epochs, callbacks))[1]
    )
    schedule(place.net, place.do)
    assert seen[0].settled == 3


@pytest.mark.parametrize(("schedule", "there"), [(Gradual(), False), (OneShot(), True)])
def test_statistics_are_estimated_anew_only_if_something_was_removed_before_the_fit(
    bench: Callable[..., Any], schedule: Any, there: bool
) -> None:
    place = bench(schedule, epochs=1, recalibrate=24)
    schedule(place.net, place.do)
    assert ("recalibrated" in place.notes.accuracy) == there


def test_gradual_pruning_needs_epochs(bench: Callable[..., Any]) -> None:
    place = bench(Gradual(), epochs=0, rehearsal=True)
    with pytest.raises(RsPruneError, match=r"finetune_epochs=0.*set finetune_epochs to 1 or more"):
        Gradual()(place.net, place.do)


# --------------------------------------------------------------------------------------- dynamic


@pytest.mark.parametrize("single", [False, True], ids=["channels", "weights"])
def test_exchanges_leave_the_budget_of_every_layer_as_it_was(bench: Callable[..., Any], single: bool) -> None:
    schedule = Dynamic(alpha=0.6, until=0.75, updates=6)
    place = bench(schedule, single=single, epochs=4)  # 16 steps; exchanges before 2, 4, 6, 8, 10
    plans, plan = [], place.do.plan
    object.__setattr__(place.do, "plan", lambda net, keep: (plans.append(plan(net, keep)), plans[-1])[1])
    watch = watched(place)
    schedule(place.net, place.do)
    kept = [{key: int(mask.sum()) for key, mask in step.items()} for step in watch.steps]
    assert all(step == kept[0] for step in kept)
    changed = [
        number for number in range(1, 16)
        if any(not torch.equal(watch.steps[number][key], watch.steps[number - 1][key]) for key in kept[0])
    ]  # fmt: skip
    assert set(changed) <= {2, 4, 6, 8, 10}
    assert len(changed) >= 3
    final, start = place.notes.plans[-1], plans[-1]
    assert final["predicted"] == start.as_json()["predicted"]
    kind = MaskWeights if single else RemoveChannels
    assert all(isinstance(edit, kind) for edit in start.edits)
    assert final["edits"] != start.as_json()["edits"]


def test_coupled_layers_hold_the_same_channels(bench: Callable[..., Any]) -> None:
    schedule = Dynamic(alpha=0.6, updates=6)
    place = bench(schedule, epochs=2)
    watch = watched(place)
    schedule(place.net, place.do)
    assert len(trace(bench(schedule).net, place.data.example()).groups) == 2
    for step in watch.steps:
        assert torch.equal(step["norm0", "weight"], step["norm1", "weight"])
        assert torch.equal(step["norm1", "weight"], step["norm1", "bias"])


def test_patterns_are_not_exchanged(bench: Callable[..., Any]) -> None:
    place = bench(Dynamic(), single=True, rehearsal=True)
    closure = dict(zip(place.do.plan.__code__.co_freevars, place.do.plan.__closure__, strict=True))
    closure["job"].cell_contents.granularity = NM(n=2, m=4)
    with pytest.raises(DoesNotApply, match="n_m has one pattern"):
        Dynamic()(place.net, place.do)


@pytest.mark.parametrize("alpha", [0, -0.1, 1.5])
def test_an_impossible_share_is_refused(alpha: float) -> None:
    with pytest.raises(RsPruneError, match=r"schedule\.alpha="):
        Dynamic(alpha=alpha)
