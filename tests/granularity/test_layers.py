"""Whole blocks: which go, what is left to channels, and where that lands."""

from __future__ import annotations

import math
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from rs_prune.attention.se import SE
from rs_prune.contracts import Plan, RemoveBlock, RemoveChannels
from rs_prune.criterion.cap import Cap
from rs_prune.criterion.group_norm import GroupNorm
from rs_prune.errors import DoesNotApply, RsPruneError
from rs_prune.granularity.channels import Channels
from rs_prune.granularity.layers import Layers
from rs_prune.pruning.cost import CostModel, measure
from rs_prune.pruning.gate import attach, detach, observe
from rs_prune.pruning.graph import trace
from rs_prune.pruning.surgery import mask_error, remove

WIDTH = 40
BLOCK = 2 * (9 * 40 * 40 + 2 * 40)
REST = 9 * 3 * 40 + 2 * 40 + 40 * 5 + 5
ALL = 3 * BLOCK + REST


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=False), nn.BatchNorm2d(WIDTH)
        self.conv2, self.bn2 = nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=False), nn.BatchNorm2d(WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x))))))


class Stack(nn.Module):
    """Three blocks between a stem and a head: 3 * 28960 + 1365 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, WIDTH, 3, padding=1, bias=False), nn.BatchNorm2d(WIDTH), nn.ReLU())
        self.blocks = nn.Sequential(Block(), Block(), Block())
        self.head = nn.Linear(WIDTH, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(x)).mean((2, 3)))


@pytest.fixture
def stack() -> nn.Module:
    """Its second block has the smallest filters, its first the largest."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = Stack().eval()
    with torch.no_grad():
        for block, size in zip(net.blocks, (0.3, 0.1, 0.2), strict=True):
            block.conv1.weight.fill_(size)
            block.conv2.weight.fill_(2 * size)
    return net


def gone(plan: Plan) -> list[str]:
    return [edit.block for edit in plan.edits if isinstance(edit, RemoveBlock)]


def narrow() -> nn.Module:
    """The preset resnet_narrow2."""
    torch.manual_seed(0)
    kwargs = {"layers": [2, 2, 2, 2], "stem_width": 16, "channels": [32, 64, 128, 256]}
    return timm.create_model("resnet10t", num_classes=5, **kwargs).eval()


def test_the_lowest_blocks_go_as_long_as_the_target_is_not_passed(stack: nn.Module, sight: Any) -> None:
    # 0.6718 of the parameters are left without one block, 0.3436 without two, 0.0155 without all
    for keep, names in ((0.68, []), (0.67, ["blocks.1"]), (0.35, ["blocks.1"]), (0.34, ["blocks.1", "blocks.2"]),
                        (0.016, ["blocks.1", "blocks.2"]), (0.0154, ["blocks.0", "blocks.1", "blocks.2"])):  # fmt: skip
        plan = Layers(min_channels=1)(sight(stack, keep))
        assert gone(plan) == names, keep
        assert plan.edits[: len(names)] == tuple(map(RemoveBlock, names))  # blocks first
        assert (keep - 0.01) * ALL <= plan.predicted.params <= keep * ALL


def test_blocks_alone_land_on_the_target(stack: nn.Module, sight: Any) -> None:
    plan = Layers(channels=False)(sight(stack, 0.6719))
    assert plan.edits == (RemoveBlock("blocks.1"),)
    assert plan.predicted.params == ALL - BLOCK == 59285
    assert plan.predicted.channels == 40 + 40 + 40  # the stage, and those inside two blocks
    assert plan.predicted.macs == 64 * (9 * 3 * 40 + 4 * 9 * 40 * 40) + 40 * 5
    assert Layers(channels=False)(sight(stack, 1.0)).edits == ()
    by_channels = Layers(channels=False)(sight(stack, 120 / 160, budget="channels"))
    assert gone(by_channels) == ["blocks.1"]


def test_off_the_target_the_nearest_is_named_and_lands(stack: nn.Module, sight: Any) -> None:
    for keep, left in ((0.6, 59285), (0.5, 30325), (0.2, 30325), (0.008, 1365)):
        named = f"{math.ceil(left / ALL * 1e4) / 1e4:.4f}"
        with pytest.raises(RsPruneError, match=rf"budget\.keep={keep:g}: .*the nearest is budget\.keep={named}$"):
            Layers(channels=False)(sight(stack, keep))
        assert Layers(channels=False)(sight(stack, float(named))).predicted.params == left


def test_effect_takes_what_the_loss_misses_least(stack: nn.Module, sight: Any) -> None:
    cost = {"blocks.0": -0.5, "blocks.1": 3.0, "blocks.2": 1.0}
    asked = []

    def loss(net: nn.Module) -> float:
        without = [name for name in cost if isinstance(net.get_submodule(name), nn.Identity)]
        asked.append(without)
        return 2.0 + sum(cost[name] for name in without)

    plan = Layers(rank="effect", channels=False)(sight(stack, 0.3437, loss=loss))
    assert gone(plan) == ["blocks.0", "blocks.2"]
    assert asked == [[], ["blocks.0"], ["blocks.1"], ["blocks.2"]]
    assert gone(Layers(rank="effect")(sight(stack, 0.67, loss=loss))) == ["blocks.0"]


@torch.no_grad()
def test_effect_is_measured_with_the_gates_folded_in(sight: Any) -> None:
    net, images = narrow(), torch.randn(2, 3, 32, 32)
    attach(net, trace(net, torch.zeros(1, 3, 32, 32)).places(), SE())
    observe(net, [{"image": images}])
    expected = detach(net).eval()(images)
    seen = []

    def loss(now: nn.Module) -> float:
        seen.append(now.eval()(images))
        return float(len(seen))

    plan = Layers(rank="effect")(sight(net, 0.8, size=32, loss=loss))
    assert torch.equal(seen[0], expected)
    assert len(seen) == 6
    assert gone(plan) == ["layer1.0", "layer1.1", "layer2.1", "layer3.1"]  # the loss grew from call to call


def test_a_criterion_scores_the_mean_of_its_layers(stack: nn.Module, sight: Any) -> None:
    with torch.no_grad():  # 0.35 on average; the last block has 0.3
        stack.blocks[1].conv2.weight.fill_(0.5)  # type: ignore[index,operator,union-attr]
        stack.blocks[1].conv1.weight.fill_(0.2)  # type: ignore[index,operator,union-attr]
    assert gone(Layers()(sight(stack, 0.67))) == ["blocks.2"]


def test_group_norm_of_a_block_is_of_its_filters_too(stack: nn.Module, sight: Any) -> None:
    with torch.no_grad():
        for block, scale in zip(stack.blocks, (0.1, 0.3, 0.2), strict=True):  # type: ignore[arg-type]
            for norm in (block.bn1, block.bn2):
                norm.weight.fill_(scale)  # by its scales alone the first block would go
    assert gone(Layers()(sight(stack, 0.67, criterion=GroupNorm()))) == ["blocks.1"]


@pytest.mark.parametrize("keep", [0.3, 0.5, 0.8])
def test_blocks_and_channels_under_one_budget(keep: float, sight: Any) -> None:
    net, images = narrow(), torch.randn(2, 3, 32, 32)
    seen = sight(net, keep, budget="macs", size=32)
    plan = Layers()(seen)
    names = gone(plan)
    assert names
    assert (keep - 0.01) * seen.dense <= plan.predicted.macs <= keep * seen.dense
    assert mask_error(net, plan, seen.graph.groups, images) <= 1e-4
    small = remove(net, plan, seen.graph.groups)
    example = seen.cost.example
    assert measure(small, example) == (plan.predicted.macs, plan.predicted.params)
    assert CostModel(small, trace(small, example).groups, example).dense() == plan.predicted
    inside = tuple(f"{name}." for name in names)
    assert not any(edit.group.startswith(inside) and edit.group.endswith("conv1") for edit in plan.edits
                   if isinstance(edit, RemoveChannels))  # fmt: skip


def test_a_later_round_goes_on_with_what_is_left(stack: nn.Module, sight: Any) -> None:
    first = Layers(min_channels=1)(sight(stack, 0.0154))
    assert len(gone(first)) == 3
    middle = remove(stack, first, trace(stack, torch.zeros(1, 3, 8, 8)).groups)
    second = Layers(min_channels=1)(sight(middle, 0.01, dense=ALL))
    assert gone(second) == []
    assert second.predicted.params <= 0.01 * ALL
    with pytest.raises(RsPruneError, match="no plan lands within 1% below it; the nearest is"):
        Layers(channels=False)(sight(middle, 0.001, dense=ALL))


def test_nets_without_blocks(chain: nn.Module, sight: Any) -> None:
    for channels in (True, False):
        with pytest.raises(DoesNotApply, match="Chain has no residual block whose shortcut is the identity"):
            Layers(channels=channels)(sight(chain, 0.5))


def test_what_the_criterion_or_the_channels_refuse_is_refused(stack: nn.Module, sight: Any) -> None:
    with pytest.raises(DoesNotApply, match="criterion=cap reads gates"):
        Layers()(sight(stack, 0.67, criterion=Cap()))
    with pytest.raises(RsPruneError, match="cannot be reached"):
        Layers()(sight(stack, 0.0005))
    with pytest.raises(RsPruneError, match=r"granularity\.rank=size"):
        Layers(rank="size")
    with pytest.raises(RsPruneError, match="at least 1"):
        Layers(min_channels=0)


def test_without_room_for_a_block_it_is_a_plan_of_channels(sight: Any) -> None:
    seen = sight(narrow(), 0.97, budget="macs", size=32)
    assert Layers()(seen) == Channels()(seen)
