"""Hidden units: which they are, and plans over them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from exact import TOLERANCE, check_exact, stale
from torch import Tensor, nn

from rs_prune.budget.channels import Channels as ChannelsBudget
from rs_prune.budget.macs import MACs
from rs_prune.budget.params import Params
from rs_prune.contracts import Sight
from rs_prune.criterion.attention import Attention
from rs_prune.criterion.l1 import L1
from rs_prune.errors import DoesNotApply, RsPruneError
from rs_prune.granularity.channels import Channels
from rs_prune.granularity.neurons import Neurons
from rs_prune.pruning.cost import CostModel, measure
from rs_prune.pruning.graph import trace
from rs_prune.pruning.scores import evidence
from rs_prune.pruning.surgery import mask_error, remove, replay
from rs_prune.scope.local import Local

ROOT = "excite"  # it scales what the convolution makes, and comes last
EXAMPLE = torch.zeros(1, 3, 16, 16)


class Headed(nn.Module):
    """A convolution, a squeeze-and-excitation and a dense head with two hidden layers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)
        self.squeeze, self.excite = nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 1)
        self.one, self.two, self.head = nn.Linear(8, 10), nn.Linear(10, 6), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.conv(x)))
        x = x * torch.sigmoid(self.excite(torch.relu(self.squeeze(x.mean((2, 3), keepdim=True)))))
        return self.head(torch.relu(self.two(torch.relu(self.one(x.mean((2, 3)))))))


@pytest.fixture
def headed(randomise: Any) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net: nn.Module = randomise(Headed())
    net.head.weight.data *= 20
    return net


def sight(net: nn.Module, budget: Any, criterion: Any = None, example: Tensor = EXAMPLE) -> Sight:
    graph = trace(net, example)
    cost = CostModel(net, graph.groups, example, graph.hidden)
    return Sight(
        net=net,
        graph=graph,
        cost=cost,
        evidence=evidence(net, graph, seed=0, images=0),
        criterion=criterion or L1(),
        scope=Local(),
        budget=budget,
        dense=budget(cost.dense()),
        keep=budget.keep,
        loss=lambda _: 0.0,
    )


def test_hidden_units_by_hand(headed: nn.Module) -> None:
    graph = trace(headed, EXAMPLE)
    assert [(group.name, group.channels) for group in graph.groups] == [(ROOT, 8)]
    assert [member.layer for member in graph.groups[0].members] == ["conv"]  # the excitation makes no filters
    assert [(group.name, group.channels) for group in graph.hidden] == [("squeeze", 4), ("one", 10), ("two", 6)]
    assert [[member.layer for member in group.members] for group in graph.hidden] == [["squeeze"], ["one"], ["two"]]
    assert {(t.layer, t.side) for t in graph.hidden[1].touched} == {("one", "out"), ("two", "in")}
    assert not any(t.layer == "head" and t.side == "out" for group in graph.all for t in group.touched)
    found = evidence(headed, graph, seed=0, images=0)
    assert torch.equal(found.layers["one"].weight, headed.one.weight)
    assert set(found.layers) == {"conv", "squeeze", "one", "two"} == set(graph.sites())


def test_costs_of_hidden_units_by_hand(headed: nn.Module) -> None:
    graph = trace(headed, EXAMPLE)
    cost = CostModel(headed, graph.groups, EXAMPLE, graph.hidden)
    assert cost.names == (ROOT, "squeeze", "one", "two")
    dense, less = cost.dense(), cost.predict(np.array([8, 3, 10, 4]))
    assert dense.channels == less.channels == 8
    squeeze, two = 1 * (8 + 8), 2 * (10 + 5)
    assert dense.macs - less.macs == squeeze + two
    assert dense.params - less.params == squeeze + 1 + two + 2


def test_neurons_go_exactly_and_filters_stay(headed: nn.Module, images: Any) -> None:
    look = sight(headed, Params(keep=0.7))
    plan = Neurons(min_channels=1)(look)
    assert {edit.group for edit in plan.edits} <= {"squeeze", "one", "two"}
    small = check_exact(headed, plan, look.graph, images(3, 16))
    assert measure(small, EXAMPLE) == (plan.predicted.macs, plan.predicted.params)
    assert 0.69 * look.dense <= plan.predicted.params <= 0.7 * look.dense
    assert small.conv.out_channels == 8
    lowest = headed.one.weight.abs().sum(1).argsort()
    gone = {edit.group: edit.channels for edit in plan.edits}["one"]
    assert set(gone) == set(lowest[: len(gone)].tolist())
    again = replay(Headed(), [plan.as_json()], EXAMPLE)
    again.load_state_dict(small.state_dict(), strict=True)
    assert torch.equal(again.eval()(images(3, 16)), small(images(3, 16)))


def test_filters_join_under_one_budget(headed: nn.Module, images: Any) -> None:
    look = sight(headed, MACs(keep=0.5))
    with pytest.raises(RsPruneError, match="cannot be reached"):
        Neurons()(look)
    plan = Neurons(filters=True)(look)
    assert {edit.group for edit in plan.edits} == {ROOT, "squeeze", "one", "two"}
    small = check_exact(headed, plan, look.graph, images(3, 16))
    assert measure(small, EXAMPLE) == (plan.predicted.macs, plan.predicted.params)
    assert plan.predicted.channels == small.conv.out_channels


def test_what_does_not_apply_says_so(headed: nn.Module, make_net: Any, chain: Any) -> None:
    with pytest.raises(DoesNotApply, match="granularity=neurons: _Chain has no hidden units"):
        Neurons()(sight(chain(6, 4), Params(keep=0.5)))
    with pytest.raises(DoesNotApply, match="granularity=neurons: the budget counts filters"):
        Neurons()(sight(headed, ChannelsBudget(keep=0.5)))
    assert Neurons(filters=True)(sight(headed, ChannelsBudget(keep=0.5))).predicted.channels == 4
    with pytest.raises(DoesNotApply, match="reads gates"):
        Neurons()(sight(headed, Params(keep=0.7), Attention()))
    for wrong in ({"min_channels": 0}, {"round_to": 0}):
        with pytest.raises(RsPruneError, match="granularity"):
            Neurons(**wrong)


def test_the_dense_head_of_vgg(make_net: Any, images: Any) -> None:
    net = make_net("vgg11_bn", mlp_ratio=1 / 64)
    look = sight(net, Params(keep=0.9), example=torch.zeros(1, 3, 64, 64))
    assert [(group.name, group.channels) for group in look.graph.hidden] == [
        ("pre_logits.fc1", 64),
        ("pre_logits.fc2", 4096),
    ]
    plan = Neurons(min_channels=1)(look)
    assert mask_error(net, plan, look.graph.all, images(2), TOLERANCE) <= TOLERANCE
    small = remove(net, plan, look.graph.all)
    assert measure(small, torch.zeros(1, 3, 64, 64)) == (plan.predicted.macs, plan.predicted.params)
    assert not stale(small)
    assert (small.num_features, small.head_hidden_size) == (512, small.pre_logits.fc2.out_channels)
    assert small.head_hidden_size < 4096


def test_the_dense_head_of_vgg_is_one_for_images_whose_map_it_does_not_pool_to_a_pixel(make_net: Any) -> None:
    net = make_net("vgg11_bn", mlp_ratio=1 / 64)
    graph = trace(net, torch.zeros(1, 3, 256, 256))
    assert [group.name for group in graph.hidden] == ["pre_logits.fc1", "pre_logits.fc2"]
    assert not [group.name for group in graph.groups if group.name.startswith("pre_logits")]


def test_a_channel_plan_leaves_hidden_units_alone(headed: nn.Module) -> None:
    graph = trace(headed, EXAMPLE)
    alone = CostModel(headed, graph.groups, EXAMPLE)
    both = CostModel(headed, graph.groups, EXAMPLE, graph.hidden)
    assert alone.dense() == both.dense()
    assert alone.predict(np.array([5])) == both.predict(np.array([5, 4, 10, 6]))
    keep = both.predict(np.array([5, 4, 10, 6])).macs / both.dense().macs
    (edit,) = Channels()(sight(headed, MACs(keep=keep))).edits
    assert (edit.group, len(edit.channels)) == (ROOT, 3)
