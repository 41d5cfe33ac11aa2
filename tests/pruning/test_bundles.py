"""What grouped convolutions tie together, norms over the channels, and bare parameters: by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from exact import check_exact, stale
from torch import Tensor, nn

from rs_prune.attention.se import SE
from rs_prune.budget.channels import Channels as ChannelsBudget
from rs_prune.contracts import Cost, Member, Plan, RemoveChannels, Touched
from rs_prune.criterion.l1 import L1
from rs_prune.errors import DoesNotApply
from rs_prune.pruning.cost import CostModel, filters, measure
from rs_prune.pruning.gate import attach, gates, observe
from rs_prune.pruning.graph import Graph, trace
from rs_prune.pruning.masking import bake, hold, masked_channels
from rs_prune.pruning.planner import plan_channels
from rs_prune.pruning.scores import evidence
from rs_prune.pruning.surgery import KeptNorm, mask, remove
from rs_prune.scope.local import Local

EXAMPLE = torch.zeros(1, 3, 8, 8)
NO_COST = Cost(0, 0, 0)


class Grouped(nn.Module):
    """conv, then grouped convolutions given as (out, groups), each with norm and ReLU; then pooling and a head."""

    def __init__(self, width: int, *layers: tuple[int, int]) -> None:
        super().__init__()
        body: list[nn.Module] = []
        before = 3
        for out, groups in ((width, 1), *layers):
            conv = nn.Conv2d(before, out, 3, padding=1, groups=groups, bias=False)
            body += [conv, nn.BatchNorm2d(out), nn.ReLU()]
            before = out
        self.body = nn.Sequential(*body)
        self.head = nn.Linear(before, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x).mean((2, 3)))


class Scaled(nn.Module):
    """Norms over the channels in both layouts, and a bare scale of each shape, inside a residual block."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.LayerNorm(8, eps=1e-3)
        self.wide, self.back = nn.Linear(8, 12), nn.Linear(12, 8)
        self.scale = nn.Parameter(torch.rand(8) + 0.5)
        self.shift = nn.Parameter(torch.randn(8, 1, 1))
        self.last = nn.LayerNorm(8, elementwise_affine=False)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.back(torch.relu(self.wide(self.norm(x.permute(0, 2, 3, 1)))))
        x = x + (y * self.scale).permute(0, 3, 1, 2) + self.shift
        return self.head(self.last(x.mean((2, 3))))


class Bare(nn.Module):
    """A convolution with a bare scale and a bare shift of its channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 8, 3), nn.Linear(8, 5)
        self.scale, self.shift = nn.Parameter(torch.rand(1, 8, 1, 1) + 0.5), nn.Parameter(torch.randn(8, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.conv(x) * self.scale + self.shift).mean((2, 3)))


@pytest.fixture
def make(randomise: Callable[[nn.Module], nn.Module]) -> Callable[..., nn.Module]:
    def build(kind: type[nn.Module], *args: Any) -> nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(5)
            net = randomise(kind(*args))
        net.head.weight.data *= 20  # logits of some size: what is wrong shows
        return net

    return build


def edits(**gone: tuple[int, ...]) -> Plan:
    return Plan(tuple(RemoveChannels(name.replace("_", "."), channels) for name, channels in gone.items()), NO_COST)


def predicted(net: nn.Module, graph: Graph, plan: Plan) -> Cost:
    cost = CostModel(net, graph.groups, EXAMPLE, graph.hidden)
    gone = {edit.group: len(edit.channels) for edit in plan.edits}
    return cost.predict(cost.channels - [gone.get(name, 0) for name in cost.names])


def agrees(net: nn.Module, graph: Graph, plan: Plan, images: Tensor) -> nn.Module:
    """Removal == both kinds of masking, predicted == measured, and nothing stale."""
    small = check_exact(net, plan, graph, images)
    cost = predicted(net, graph, plan)
    assert measure(small, EXAMPLE) == (cost.macs, cost.params)
    assert not stale(small)
    return small


# ---------------------------------------------------------------------------- grouped convolutions


def test_a_bundle_is_a_conv_group_with_what_feeds_it(make: Any, images: Any) -> None:
    net = make(Grouped, 8, (12, 4))
    graph = trace(net, EXAMPLE)
    assert not graph.refused
    (group,) = graph.groups
    assert group.channels == 4
    assert filters(group) == 8
    assert group.members == (Member("body.0", tuple(range(8))), Member("body.3", tuple(range(12))))
    pairs, triples = ((0, 1), (2, 3), (4, 5), (6, 7)), ((0, 1, 2), (3, 4, 5), (6, 7, 8), (9, 10, 11))
    assert set(group.touched) == {
        Touched("body.0", "out", pairs),
        Touched("body.1", "out", pairs),
        Touched("body.3", "out", triples),
        Touched("body.4", "out", triples),
        Touched("head", "in", triples),
    }
    small = agrees(net, graph, Plan((RemoveChannels(group.name, (0, 2)),), NO_COST), images(3, 8))
    conv = small.body[3]
    assert (conv.groups, conv.in_channels, conv.out_channels) == (2, 4, 6)
    assert torch.equal(conv.weight, net.body[3].weight[[3, 4, 5, 9, 10, 11]])
    assert torch.equal(small.body[0].weight, net.body[0].weight[[2, 3, 6, 7]])
    assert torch.equal(small.head.weight, net.head.weight[:, [3, 4, 5, 9, 10, 11]])


@pytest.mark.parametrize(
    ("layers", "units"),
    [
        (((8, 2),), 2),
        (((16, 8),), 8),  # two outputs of each channel
        (((8, 4), (8, 2)), 2),  # the coarser one decides
        (((12, 4), (8, 4)), 4),
        (((8, 8), (8, 4)), 4),  # depthwise, then grouped
    ],
    ids=str,
)
def test_bundles_go_exactly(layers: Any, units: int, make: Any, images: Any) -> None:
    net = make(Grouped, 8, *layers)
    graph = trace(net, EXAMPLE)
    assert [group.channels for group in graph.groups] == [units]
    name = graph.groups[0].name
    for first in (0, 1):
        agrees(net, graph, Plan((RemoveChannels(name, tuple(range(first, units, 2))),), NO_COST), images(3, 8))


def test_a_second_round_goes_down_to_one_bundle(make: Any, images: Any) -> None:
    net = make(Grouped, 8, (12, 4))
    graph = trace(net, EXAMPLE)
    half = agrees(net, graph, Plan((RemoveChannels(graph.groups[0].name, (1, 3)),), NO_COST), images(3, 8))
    graph = trace(half, EXAMPLE)
    assert [group.channels for group in graph.groups] == [2]
    one = agrees(half, graph, Plan((RemoveChannels(graph.groups[0].name, (0,)),), NO_COST), images(3, 8))
    assert one.body[3].groups == 1
    graph = trace(one, EXAMPLE)  # what was one unit is two ordinary groups now
    assert [(group.name, group.channels) for group in graph.groups] == [("body.0", 2), ("body.3", 3)]
    agrees(one, graph, edits(body_0=(0,), body_3=(2,)), images(3, 8))
    graph = trace(net, EXAMPLE)
    at_once = remove(net, Plan((RemoveChannels(graph.groups[0].name, (0, 1, 3)),), NO_COST), graph.all)
    assert torch.equal(at_once(images(3, 8)), one(images(3, 8)))


def test_a_bundle_scores_the_mean_of_its_channels(make: Any) -> None:
    net = make(Grouped, 4, (6, 2))
    with torch.no_grad():
        for layer, values in (("body.0", [1, 3, 5, 7]), ("body.3", [1, 1, 4, 10, 10, 10])):
            weight = net.get_submodule(layer).weight
            each = torch.tensor(values, dtype=torch.float32) / weight[0].numel()
            weight.copy_(each.view(-1, 1, 1, 1).expand_as(weight))
    graph = trace(net, EXAMPLE)
    scores = L1()(evidence(net, graph, seed=0, images=0), graph.groups)
    expected = torch.tensor([(2 + 2) / 2, (6 + 10) / 2], dtype=torch.float64)
    torch.testing.assert_close(scores[graph.groups[0].name], expected, atol=0, rtol=1e-5)


def test_channels_are_counted_as_filters(make: Any) -> None:
    net = make(Grouped, 8, (12, 4), (6, 1))
    graph = trace(net, EXAMPLE)
    cost = CostModel(net, graph.groups, EXAMPLE)
    assert sorted(cost.channels.tolist()) == [4, 6]
    assert cost.dense().channels == 14
    bundles, plain = sorted(graph.groups, key=lambda group: group.channels)
    keep = {bundles.name: 3, plain.name: 6}
    assert cost.predict(np.array([keep[name] for name in cost.names])).channels == 12


@pytest.mark.parametrize(("round_to", "kept"), [(1, {4, 6, 8}), (4, {4, 8}), (8, {8})])
def test_round_to_speaks_of_filters(round_to: int, kept: set[int], make: Any) -> None:
    net = make(Grouped, 8, (12, 4), (16, 1))
    graph = trace(net, EXAMPLE)
    cost = CostModel(net, graph.groups, EXAMPLE)
    made = plan_channels(
        scores={group.name: torch.arange(group.channels, dtype=torch.float64) for group in graph.groups},
        groups=graph.groups,
        cost=cost,
        scope=Local(),
        budget=ChannelsBudget(keep=16 / 24),
        target=16,
        tolerance=0.24,
        min_channels=2,
        round_to=round_to,
    )
    small = remove(net, made, graph.groups)
    assert small.body[0].out_channels in kept
    assert small.body[6].out_channels % round_to == 0
    assert small.body[0].out_channels + small.body[6].out_channels == 16 == made.predicted.channels


def test_a_bundle_of_two_sources_of_unlike_size_is_left_whole(images: Any, randomise: Any) -> None:
    class Joined(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(3, 4, 3, padding=1)
            self.conv, self.last, self.head = nn.Conv2d(12, 6, 3, groups=3), nn.Conv2d(6, 7, 3), nn.Linear(7, 5)

        def forward(self, x: Tensor) -> Tensor:
            x = torch.relu(self.conv(torch.cat([self.one(x), self.two(x)], 1)))
            return self.head(torch.relu(self.last(x)).mean((2, 3)))

    net = randomise(Joined())
    graph = trace(net, EXAMPLE)
    assert [group.name for group in graph.groups] == ["last"]
    assert list(graph.refused.values()) == ["its channels are spread unevenly"]


def test_gates_sit_on_real_channels_and_shrink_by_bundles(make: Any, images: Any) -> None:
    net = make(Grouped, 8, (12, 4))
    graph = trace(net, EXAMPLE)
    assert [(place.layer, place.channels) for place in graph.places()[0]] == [("body.1", 8), ("body.4", 12)]
    assert graph.places()[0][1].units == (0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3)
    attach(net, graph.places(), SE(min_hidden=2))
    observe(net, [{"image": images(4, 8)}])
    means = {name: gate.mean.clone() for name, gate in gates(net)}
    small = remove(net, Plan((RemoveChannels(graph.groups[0].name, (0, 2)),), NO_COST), graph.groups)
    left = dict(gates(small))
    assert torch.equal(left["body.1"].mean, means["body.1"][[2, 3, 6, 7]])
    assert torch.equal(left["body.4"].mean, means["body.4"][[3, 4, 5, 9, 10, 11]])
    assert left["body.4"].branch.mlp.squeeze.in_features == 6
    assert small(images(2, 8)).shape == (2, 5)


# --------------------------------------------------------------- norms over channels, bare parameters


def test_a_kept_norm_by_hand() -> None:
    norm = nn.LayerNorm(3, eps=0.0)
    norm.weight.data, norm.bias.data = torch.tensor([2.0, 7.0, 3.0]), torch.tensor([10.0, 7.0, 20.0])
    x = torch.tensor([[1.0, 100.0, 3.0]])  # mean 2, deviation 1 over the first and the last
    assert KeptNorm(norm, {1})(x).tolist() == [[8.0, 0.0, 23.0]]
    assert KeptNorm(norm, set())(torch.zeros(1, 2, 3) + torch.tensor([1.0, 2.0, 3.0])).shape == (1, 2, 3)


def test_norms_and_bare_parameters_go_exactly(make: Any, images: Any) -> None:
    net = make(Scaled)
    graph = trace(net, EXAMPLE)
    assert not graph.refused
    (group,) = graph.groups
    assert {touched.layer for touched in group.touched} == {
        "stem", "norm", "wide", "back", "scale", "shift", "last", "head",
    }  # fmt: skip
    assert [member.layer for member in group.members] == ["stem", "back"]
    assert [place.layer for place in graph.places()[0]] == ["stem"]  # a gate wants a map of channels first
    assert [(unit.name, unit.channels) for unit in graph.hidden] == [("wide", 12)]
    plan = Plan((RemoveChannels(group.name, (0, 3, 4)), RemoveChannels("wide", (1, 2, 11))), NO_COST)
    small = remove(net, plan, graph.all)
    x = images(3, 8)
    torch.testing.assert_close(small(x), mask(net, plan, graph.all)(x), atol=1e-4, rtol=1e-4)
    assert float((small(x) - net(x)).abs().max()) > 0.1
    cost = predicted(net, graph, plan)
    assert measure(small, EXAMPLE) == (cost.macs, cost.params)
    stays = [1, 2, 5, 6, 7]
    assert torch.equal(small.scale, net.scale[stays])
    assert torch.equal(small.shift, net.shift[stays])
    assert torch.equal(small.norm.weight, net.norm.weight[stays])
    assert small.norm.normalized_shape == small.last.normalized_shape == (5,)
    assert isinstance(small.scale, nn.Parameter)
    assert cost.channels == 5


def test_masking_alone_is_not_removal_where_norms_mix_channels(make: Any, images: Any) -> None:
    """The statement needs the norms over the rest: with ordinary norms the masked net is another one."""
    net = make(Scaled)
    graph = trace(net, EXAMPLE)
    plan = Plan((RemoveChannels(graph.groups[0].name, (0, 3, 4)),), NO_COST)
    masked = mask(net, plan, graph.all)
    assert isinstance(masked.norm, KeptNorm)
    assert isinstance(net.norm, nn.LayerNorm)
    x = images(3, 8)
    exact = masked(x)
    masked.norm, masked.last = masked.norm.norm, masked.last.norm
    with torch.no_grad():
        masked.norm.weight[[0, 3, 4]] = 0
        masked.norm.bias[[0, 3, 4]] = 0
    assert float((masked(x) - exact).abs().max()) > 0.01


@pytest.mark.parametrize(("kind", "shape"), [(Grouped, (8, (12, 4))), (Bare, ())], ids=["grouped", "bare"])
def test_masks_that_are_held_stand_for_their_plan(kind: Any, shape: Any, make: Any, images: Any) -> None:
    net = make(kind, *shape)
    graph = trace(net, EXAMPLE)
    plan = Plan((RemoveChannels(graph.groups[0].name, (1, 2)),), NO_COST)
    held = hold(net, plan, graph)
    assert masked_channels(held, graph) == plan.edits
    assert torch.equal(bake(held)(images(2, 8)), mask(net, plan, graph.all)(images(2, 8)))
    reopened = hold(held, Plan((), NO_COST), graph)
    assert masked_channels(reopened, graph) == ()
    assert torch.equal(bake(reopened)(images(2, 8)), net(images(2, 8)))


def test_channels_under_a_norm_over_them_are_not_held(make: Any) -> None:
    net = make(Scaled)
    graph = trace(net, EXAMPLE)
    with pytest.raises(DoesNotApply, match=r"(norm|last) is a norm over its channels"):
        hold(net, Plan((RemoveChannels(graph.groups[0].name, (0,)),), NO_COST), graph)
    units = Plan((RemoveChannels("wide", (3, 5)),), NO_COST)
    assert masked_channels(hold(net, units, graph), graph) == units.edits
