"""Single weights: the lowest go, biases and norms stay, and the budget is met to the weight."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from rs_prune.contracts import Cost, Evidence, MaskWeights, Plan
from rs_prune.criterion.cap import Cap
from rs_prune.criterion.lamp import LAMP
from rs_prune.criterion.random import Random
from rs_prune.errors import DoesNotApply, RsPruneError
from rs_prune.granularity.weights import Weights
from rs_prune.pruning.cost import measure, sparse
from rs_prune.pruning.graph import trace
from rs_prune.pruning.masking import bake, hold, unpack
from rs_prune.pruning.weights import lowest

LAYERS = ("one.0", "two.0", "head")
EXAMPLE = torch.zeros(1, 3, 8, 8)


class Given:
    """Scores as they are given; 1 for layers that are not."""

    def __init__(self, **scores: Tensor) -> None:
        self.scores = scores

    def weights(self, evidence: Evidence) -> dict[str, Tensor]:
        return {name: self.scores.get(name, torch.ones_like(row.weight)) for name, row in evidence.layers.items()}


def masks(plan: Plan) -> dict[str, Tensor]:
    assert all(isinstance(edit, MaskWeights) for edit in plan.edits)
    return {edit.layer: unpack(edit) for edit in plan.edits}  # type: ignore[arg-type,union-attr]


def weight(net: nn.Module, layer: str) -> Tensor:
    return net.get_submodule(layer).weight.detach()  # type: ignore[return-value,operator]


# ------------------------------------------------------------------------------------ the ranking


def kept(scores: list[list[float]], units: list[int], excess: int, dtype: torch.dtype = torch.float32) -> list[Any]:
    return [keep.int().tolist() for keep in lowest([torch.tensor(row, dtype=dtype) for row in scores], units, excess)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_lowest_of_all_tensors_go(dtype: torch.dtype) -> None:
    scores = [[0.5, -3.0, 2.0], [-1e-9, 7.0, -torch.inf, 1e-9]]
    # in order: -inf, -3, -1e-9, 1e-9, 0.5, 2, 7
    assert kept(scores, [1, 1], 0, dtype) == [[1, 1, 1], [1, 1, 1, 1]]
    assert kept(scores, [1, 1], 1, dtype) == [[1, 1, 1], [1, 1, 0, 1]]
    assert kept(scores, [1, 1], 3, dtype) == [[1, 0, 1], [0, 1, 0, 1]]
    assert kept(scores, [1, 1], 6, dtype) == [[0, 0, 0], [0, 1, 0, 0]]
    assert kept(scores, [1, 1], 7, dtype) == [[0, 0, 0], [0, 0, 0, 0]]


def test_what_a_weight_saves_counts() -> None:
    scores = [[1.0, 4.0], [2.0, 3.0]]
    assert kept(scores, [10, 1], 10) == [[0, 1], [1, 1]]
    assert kept(scores, [10, 1], 11) == [[0, 1], [0, 1]]
    assert kept(scores, [10, 1], 13) == [[0, 0], [0, 0]]


def test_of_equal_scores_as_many_go_as_must() -> None:
    assert kept([[1, 1, 1, 1, 1]], [1], 2) == [[0, 0, 1, 1, 1]]
    assert kept([[1, 1], [0, 1, 1]], [1, 1], 3) == [[1, 1], [0, 0, 0]]
    assert kept([[1, 1], [1]], [3, 5], 6) == [[0, 1], [0]]


def test_a_plan_keeps_the_largest_of_the_net(chain: nn.Module, sight: Any) -> None:
    plan = Weights()(sight(chain, 0.5, scope="global"))
    # 232 parameters may stay; 29 are biases and norms
    assert plan.predicted == Cost(macs=plan.predicted.macs, params=232, channels=12)
    everything = torch.cat([weight(chain, layer).abs().flatten() for layer in LAYERS])
    threshold = everything.sort(descending=True).values[232 - 29 - 1]
    for layer, mask in masks(plan).items():
        assert torch.equal(mask, weight(chain, layer).abs() >= threshold), layer
    assert plan.target == 0.5 * 465


def test_local_takes_the_same_share_of_every_layer(chain: nn.Module, sight: Any) -> None:
    plan = Weights()(sight(chain, 0.5))
    # 233 of 436 go: 57.7 of 108, 153.9 of 288, 21.4 of 40
    gone = {layer: int((~mask).sum()) for layer, mask in masks(plan).items()}
    assert gone == {"one.0": 58, "two.0": 154, "head": 21}
    for layer, mask in masks(plan).items():
        size = weight(chain, layer).abs()
        assert size[~mask].max() < size[mask].min()
    assert plan.predicted.params == 232


def test_multiply_adds_count_by_how_often_a_weight_is_used(chain: nn.Module, sight: Any) -> None:
    for keep in (0.1, 0.37, 0.5, 0.9):
        plan = Weights()(sight(chain, keep, scope="global", budget="macs"))
        stay = {layer: int(mask.sum()) for layer, mask in masks(plan).items()}
        assert plan.predicted.macs == 64 * (stay["one.0"] + stay["two.0"]) + stay["head"]
        assert plan.predicted.params == sum(stay.values()) + 29
        assert keep * 25384 - 64 < plan.predicted.macs <= keep * 25384
        size = {layer: weight(chain, layer).abs() for layer in LAYERS}
        highest_gone = max(float(size[layer][~mask].max()) for layer, mask in masks(plan).items())
        assert all(float(size[layer][mask].min()) >= highest_gone for layer, mask in masks(plan).items())


@pytest.mark.parametrize("budget", ["params", "macs"])
@pytest.mark.parametrize("scope", ["local", "global"])
@pytest.mark.parametrize("keep", [0.07, 0.2, 0.5, 1.0])
def test_held_weights_cost_what_was_predicted(keep: float, scope: str, budget: str, sight: Any) -> None:
    torch.manual_seed(0)
    net = timm.create_model("test_resnet", num_classes=5)
    seen = sight(net, keep, scope=scope, budget=budget, size=32, criterion=Random())
    plan = Weights()(seen)
    held = bake(hold(net, plan, seen.graph))
    assert sparse(held, seen.cost.example) == (plan.predicted.macs, plan.predicted.params)
    assert measure(held, seen.cost.example) == measure(net, seen.cost.example)
    reached = getattr(plan.predicted, budget)
    used = 1 if budget == "params" else max(seen.cost.positions.values())
    assert keep * seen.dense - used < reached <= keep * seen.dense
    for (name, before), (same, after) in zip(net.named_parameters(), held.named_parameters(), strict=True):
        assert name == same
        assert before.dim() > 1 or torch.equal(before, after), name


def test_depthwise_weights_take_part(sight: Any) -> None:
    net = timm.create_model("mobilenetv2_035", num_classes=5)
    seen = sight(net, 0.4, size=32, criterion=LAMP(), scope="global")
    plan = Weights()(seen)
    layers = [name for name, module in net.named_modules() if isinstance(module, (nn.Conv2d, nn.Linear))]
    assert sorted(masks(plan)) == sorted(layers)
    assert plan.predicted.params == math.floor(0.4 * seen.dense)
    assert sparse(hold(net, plan, seen.graph), seen.cost.example)[1] == plan.predicted.params
    assert min(int(mask.sum()) for mask in masks(plan).values()) > 0  # LAMP empties no layer


def test_scores_are_ranked_as_they_are(chain: nn.Module, sight: Any) -> None:
    """No layer's scale is taken out: LAMP's scores of all layers compare."""
    low = Given(**{"two.0": torch.full((8, 4, 3, 3), 0.5)})
    plan = Weights()(sight(chain, (465 - 288) / 465, scope="global", criterion=low))
    assert {layer: int(mask.sum()) for layer, mask in masks(plan).items()} == {"one.0": 108, "two.0": 0, "head": 40}


# ------------------------------------------------------------------------------- rounds and bounds


def test_weights_that_are_zero_go_first_whatever_they_score(chain: nn.Module, sight: Any) -> None:
    with torch.no_grad():
        chain.one[0].weight[0] = 0  # type: ignore[index,union-attr]
    high = torch.ones(4, 3, 3, 3)
    high[0] = 9
    plan = Weights()(sight(chain, (465 - 30) / 465, scope="global", criterion=Given(**{"one.0": high}), dense=465))
    mask = masks(plan)["one.0"]
    assert not mask[0].any()
    assert sum(int((~mask).sum()) for mask in masks(plan).values()) == 30
    assert plan.predicted.params == 435


def test_a_later_round_keeps_a_part_of_the_earlier(chain: nn.Module, sight: Any) -> None:
    first = Weights()(sight(chain, 0.6, scope="global"))
    middle = bake(hold(chain, first, trace(chain, EXAMPLE)))
    second = Weights()(sight(middle, 0.3, scope="global", dense=465, criterion=Random()))
    assert second.predicted.params == math.floor(0.3 * 465)
    for layer, mask in masks(second).items():
        assert not (mask & ~masks(first)[layer]).any()


def test_inner_leaves_the_ends_dense(chain: nn.Module, sight: Any) -> None:
    plan = Weights(layers="inner")(sight(chain, 0.5))
    assert list(masks(plan)) == ["two.0"]
    assert plan.predicted.params == 232
    assert list(masks(Weights()(sight(chain, 0.5)))) == list(LAYERS)


@pytest.mark.parametrize(("layers", "least"), [("all", 29), ("inner", 177)])
def test_the_least_that_can_stay_is_named(layers: str, least: int, chain: nn.Module, sight: Any) -> None:
    named = math.ceil(least / 465 * 1e4) / 1e4
    with pytest.raises(RsPruneError, match=f"cannot be reached; the least that can stay is {named:.4f}"):
        Weights(layers=layers)(sight(chain, named - 0.001))
    plan = Weights(layers=layers)(sight(chain, named))
    assert plan.predicted.params == least
    assert not any(mask.any() for mask in masks(plan).values())


def test_keep_of_one_holds_nothing(chain: nn.Module, sight: Any) -> None:
    plan = Weights()(sight(chain, 1.0))
    assert all(mask.all() for mask in masks(plan).values())
    assert plan.predicted == Cost(macs=25384, params=465, channels=12)


def test_a_budget_of_channels_makes_no_sense(chain: nn.Module, sight: Any) -> None:
    with pytest.raises(DoesNotApply, match="budget=channels counts channels, and granularity=weights removes none"):
        Weights()(sight(chain, 0.5, budget="channels"))


def test_a_scope_or_criterion_of_channels_makes_no_sense(chain: nn.Module, sight: Any) -> None:
    with pytest.raises(DoesNotApply, match="scope=global_macs ranks channels, not single weights"):
        Weights()(sight(chain, 0.5, scope="global_macs"))
    with pytest.raises(DoesNotApply, match="criterion=cap ranks channels, not single weights; choose criterion=l1"):
        Weights()(sight(chain, 0.5, criterion=Cap()))
    with pytest.raises(RsPruneError, match=r"granularity\.layers=outer"):
        Weights(layers="outer")


def test_a_criterion_sees_what_was_measured_of_every_layer(chain: nn.Module, sight: Any) -> None:
    seen = sight(chain, 0.5)
    rows = {name: replace(row, measured=torch.tensor(1.0)) for name, row in seen.evidence.layers.items()}
    found: dict[str, Any] = {}

    class Spy(Given):
        def weights(self, evidence: Evidence) -> dict[str, Tensor]:
            found.update(evidence.layers)
            assert (evidence.seed, evidence.images) == (3, 7)
            return super().weights(evidence)

    Weights()(replace(seen, criterion=Spy(), evidence=replace(seen.evidence, layers=rows)))
    assert {name: row.measured is not None for name, row in found.items()} == {
        "one.0": True, "two.0": True, "head": "head" in rows,
    }  # fmt: skip
    assert all(torch.equal(found[layer].weight, weight(chain, layer)) for layer in LAYERS)
    assert torch.equal(found["one.0"].gamma, weight(chain, "one.1"))
