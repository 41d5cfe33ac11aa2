"""Removal == masking, predicted cost == measured cost, and nothing stale is left behind."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import json
import re
from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
from exact import TOLERANCE, check_exact, stale
from torch import Tensor, nn
from torch.nn import functional as F

from rs_prune.attention.eca import ECA
from rs_prune.attention.se import SE
from rs_prune.contracts import Cost, Group, Plan, RemoveChannels
from rs_prune.criterion.attention import Attention
from rs_prune.errors import RsPruneError
from rs_prune.pruning.cost import CostModel, measure
from rs_prune.pruning.gate import bare, detach, gates
from rs_prune.pruning.graph import Graph, trace
from rs_prune.pruning.scores import evidence
from rs_prune.pruning.surgery import mask, mask_error, remove, replay

SMALL = ("resnet_narrow", "mobilenetv3_small_100")
KEEPS = (0.3, 0.5, 0.7)
SCOPES = ("local", "global", "global_macs")
CASES = [
    *itertools.product(SMALL, KEEPS, SCOPES),
    *itertools.product(("resnet18",), KEEPS, ("local", "global")),
    *(("resnet50", keep, scope) for keep, scope in zip(KEEPS, SCOPES, strict=True)),
    *(("vgg16_bn", keep, scope) for keep, scope in zip(KEEPS, reversed(SCOPES), strict=True)),
]


def shares(plan: Plan, graph: Graph) -> dict[str, float]:
    gone = {edit.group: len(edit.channels) for edit in plan.edits}
    return {group.name: gone.get(group.name, 0) / group.channels for group in graph.groups}


@pytest.mark.parametrize(("name", "keep", "scope"), CASES)
def test_removal_equals_masking_and_costs_what_was_predicted(
    name: str, keep: float, scope: str, traced: Any, plan: Any, images: Any
) -> None:
    net = traced(name)
    made = plan(net.graph, net.cost, keep, scope=scope)
    small = check_exact(net.net, made, net.graph, images(2))
    assert measure(small, net.example) == (made.predicted.macs, made.predicted.params)
    dense = net.cost.dense()
    assert (keep - 0.01) * dense.macs <= made.predicted.macs <= keep * dense.macs
    again = trace(small, net.example)
    assert CostModel(small, again.groups, net.example).dense() == made.predicted
    assert max(shares(made, net.graph).values()) > 0.1


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("budget", ["params", "channels"])
def test_other_budgets(name: str, budget: str, traced: Any, plan: Any, images: Any) -> None:
    net = traced(name)
    made = plan(net.graph, net.cost, 0.6, budget=budget)
    small = check_exact(net.net, made, net.graph, images(2))
    assert measure(small, net.example) == (made.predicted.macs, made.predicted.params)
    dense, reached = getattr(net.cost.dense(), budget), getattr(made.predicted, budget)
    assert 0.59 * dense <= reached <= 0.6 * dense
    kept = sum(group.channels for group in trace(small, net.example).groups)
    assert kept == made.predicted.channels


def test_measured_cost_by_hand(chain: Any) -> None:
    net = chain(4, 6)
    macs = 64 * 9 * (3 * 4 + 4 * 6) + 6 * 5
    params = 9 * (3 * 4 + 4 * 6) + 2 * 4 + 2 * 6 + 6 * 5 + 5
    assert measure(net, torch.zeros(1, 3, 8, 8)) == (macs, params)
    assert measure(net.train(), torch.zeros(7, 3, 8, 8)) == (macs, params)  # of one image
    assert net.training


# ------------------------------------------------------------------------------------ gates


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("attention", [SE(), ECA()], ids=["se", "eca"])
def test_a_gated_net_shrinks_as_its_folded_self(name: str, attention: Any, gated: Any, plan: Any, images: Any) -> None:
    net, example = gated(name, attention), torch.zeros(1, 3, 64, 64)
    plain = bare(net)
    graph = trace(plain, example)
    found = evidence(net, graph, seed=0, images=7)
    scores = Attention()(found, graph.groups)
    made = plan(graph, CostModel(plain, graph.groups, example), 0.5, scores=scores)
    small = remove(net, made, graph.groups)
    with torch.no_grad():
        masked = mask(detach(net), made, graph.groups)(images(3))
        cut = detach(small)(images(3))
        unfolded = bare(small)(images(3))
    room = TOLERANCE * max(1.0, float(masked.abs().max()))
    assert float((cut - masked).abs().max()) <= room
    assert float((unfolded - masked).abs().max()) > 100 * room  # folding is no empty gesture here
    assert measure(bare(small), example) == (made.predicted.macs, made.predicted.params)
    assert measure(detach(small), example) == (made.predicted.macs, made.predicted.params)
    for layer, gate in gates(small):
        width = gate.inner.weight.shape[0]
        assert gate.mean.shape == (width,), layer
        assert gate.branch(torch.randn(2, width, 4, 4)).shape in {(2, width, 1, 1)}
    assert small.train()(images(2)).shape == (2, 10)  # still trainable as it is


# ---------------------------------------------------------------------------------- in rounds


@torch.no_grad()
def test_a_second_plan_speaks_of_the_smaller_net(traced: Any, plan: Any, images: Any, random_scores: Any) -> None:
    net = traced("resnet_narrow")
    dense = net.cost.dense().macs
    first = plan(net.graph, net.cost, 0.7)
    middle = remove(net.net, first, net.graph.groups)
    graph = trace(middle, net.example)
    cost = CostModel(middle, graph.groups, net.example)
    second = plan(graph, cost, 0.4, dense=dense, scores=random_scores(graph, seed=5))
    assert 0.39 * dense <= second.predicted.macs <= 0.4 * dense
    small = check_exact(middle, second, graph, images(2))
    assert measure(small, net.example) == (second.predicted.macs, second.predicted.params)

    gone = {edit.group: set(edit.channels) for edit in first.edits}
    kept = {
        group.name: [channel for channel in range(group.channels) if channel not in gone.get(group.name, ())]
        for group in net.graph.groups
    }
    widths = {group.name: group.channels for group in graph.groups}
    assert widths == {name: len(channels) for name, channels in kept.items()}
    both = {name: set(gone.get(name, ())) for name in kept}
    for edit in second.edits:
        both[edit.group] |= {kept[edit.group][channel] for channel in edit.channels}
    edits = tuple(RemoveChannels(name, tuple(sorted(channels))) for name, channels in both.items())
    at_once = remove(net.net, Plan(edits, second.predicted), net.graph.groups)
    assert torch.equal(at_once(images(2)), small(images(2)))


@pytest.mark.parametrize("name", SMALL)
@torch.no_grad()
def test_replay_on_a_fresh_net(name: str, traced: Any, plan: Any, images: Any, make_net: Any) -> None:
    net = traced(name)
    first = plan(net.graph, net.cost, 0.7)
    middle = remove(net.net, first, net.graph.groups)
    graph = trace(middle, net.example)
    second = plan(graph, CostModel(middle, graph.groups, net.example), 0.6)
    small = remove(middle, second, graph.groups)
    stored = json.loads(json.dumps([first.as_json(), second.as_json()]))
    rebuilt = replay(make_net(name, seed=9), stored, net.example).eval()
    shapes = {key: value.shape for key, value in rebuilt.state_dict().items()}
    assert shapes == {key: value.shape for key, value in small.state_dict().items()}
    assert not torch.equal(rebuilt(images(2)), small(images(2)))
    rebuilt.load_state_dict(small.state_dict(), strict=True)
    assert torch.equal(rebuilt(images(2)), small(images(2)))


def test_a_plan_for_another_net_is_refused(traced: Any, plan: Any) -> None:
    net = traced("resnet_narrow")
    made = plan(net.graph, net.cost, 0.5)
    strange = Plan((RemoveChannels("no.such.layer", (0,)),), made.predicted)
    with pytest.raises(RsPruneError, match=r"no\.such\.layer"):
        remove(net.net, strange, net.graph.groups)
    group = net.graph.groups[0]
    for channel in (group.channels, -1):
        with pytest.raises(RsPruneError, match=group.name):
            remove(net.net, Plan((RemoveChannels(group.name, (channel,)),), made.predicted), net.graph.groups)
    whole = Plan((RemoveChannels(group.name, tuple(range(group.channels))),), made.predicted)
    with pytest.raises(RsPruneError, match="nothing would be left"):
        remove(net.net, whole, net.graph.groups)


# ------------------------------------------------------------------------------- no stale words


@pytest.mark.parametrize(
    "name", ["resnet_narrow", "mobilenetv3_small_100", "resnet18", "vgg16_bn", "test_efficientnet", "test_byobnet"]
)
@torch.no_grad()
def test_no_width_is_stale(name: str, traced: Any, plan: Any, images: Any) -> None:
    net = traced(name)
    assert not stale(net.net)
    small = remove(net.net, plan(net.graph, net.cost, 0.5), net.graph.groups)
    assert not stale(small)
    features = small.forward_features(images(2))
    assert features.shape[1] < net.net.forward_features(images(2)).shape[1]
    assert small.num_features == features.shape[1]
    assert small.head_hidden_size == small.forward_head(features, pre_logits=True).shape[1]


def test_classifier_and_squeeze_layers_are_no_groups(traced: Any, plan: Any) -> None:
    net = traced("mobilenetv3_small_100")
    members = {member.layer for group in net.graph.groups for member in group.members}
    shrinking = {t.layer for group in net.graph.groups for t in group.touched if t.side == "out"}
    assert len(members) == 34
    assert not [layer for layer in members if ".se." in layer or layer in ("conv_head", "classifier")]
    assert not [layer for layer in shrinking if "conv_reduce" in layer or layer in ("conv_head", "classifier")]
    small = remove(net.net, plan(net.graph, net.cost, 0.3), net.graph.groups)
    assert small.classifier.weight.shape == (10, 1024)
    assert small.blocks[0][0].se.conv_reduce.weight.shape[0] == net.net.blocks[0][0].se.conv_reduce.weight.shape[0]


def test_groups_of_resnet18(traced: Any) -> None:
    """Four coupled stages, the first with the stem, and an inner group for each of the eight blocks."""
    groups = traced("resnet18").graph.groups
    assert sorted(group.channels for group in groups) == sorted([64] * 3 + [128] * 3 + [256] * 3 + [512] * 3)
    stages = sorted(sorted(m.layer for m in group.members) for group in groups if len(group.members) > 1)
    assert stages == [
        ["conv1", "layer1.0.conv2", "layer1.1.conv2"],
        *([f"layer{k}.0.conv2", f"layer{k}.0.downsample.0", f"layer{k}.1.conv2"] for k in (2, 3, 4)),
    ]


# -------------------------------------------------------------------------------- other nets


class Toy(nn.Module):
    """conv - norm - ReLU, `middle`, conv - norm - ReLU, pooling, head. Subclasses fill the middle."""

    width = 8

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.last = nn.Sequential(nn.Conv2d(self.width, 6, 3, bias=False), nn.BatchNorm2d(6), nn.ReLU())
        self.head = nn.Linear(6, 4)

    def middle(self, x: Tensor) -> Tensor:
        return x

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.last(self.middle(self.first(x))).mean((2, 3)))


class Dense(Toy):
    """Concatenations as in DenseNet: a norm over what several convolutions put out."""

    width = 16

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.BatchNorm2d(8), nn.Conv2d(8, 4, 3, padding=1, bias=False)
        self.norm2, self.conv2 = nn.BatchNorm2d(12), nn.Conv2d(12, 4, 3, padding=1, bias=False)

    def middle(self, x: Tensor) -> Tensor:
        x = torch.cat([x, self.conv1(torch.relu(self.norm1(x)))], 1)
        return torch.cat([x, self.conv2(torch.relu(self.norm2(x)))], 1)


class Residual(Toy):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.outer = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8))

    def middle(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.outer(self.inner(x)))


class Depthwise(Toy):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.BatchNorm2d(8), nn.Hardswish())

    def middle(self, x: Tensor) -> Tensor:
        return self.conv(x)


class ConcatDepthwise(Toy):
    """A depthwise convolution whose channels come from two groups, as in ShuffleNet and GhostNet."""

    width = 12

    def __init__(self) -> None:
        super().__init__()
        self.side = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU())
        self.conv = nn.Sequential(nn.Conv2d(12, 12, 3, padding=1, groups=12, bias=False), nn.BatchNorm2d(12), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        both = torch.cat([self.first(x), self.side(x)], 1)
        return self.head(self.last(self.conv(both)).mean((2, 3)))


class Flat(Toy):
    """A feature map that is flattened: one channel is several inputs of the head."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(6 * 4 * 4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.adaptive_avg_pool2d(self.last(self.first(x)), 4).flatten(1))


class Plain(Toy):
    """No norms at all; biased convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU())
        self.last = nn.Sequential(nn.Conv2d(8, 6, 3), nn.GELU())


class Unscaled(Toy):
    """A norm without scale and shift cannot be masked; it has to be refused, or removed exactly."""

    def __init__(self) -> None:
        super().__init__()
        self.first[1] = nn.BatchNorm2d(8, affine=False)


class Shared(Toy):
    """One convolution used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 3, padding=1)

    def middle(self, x: Tensor) -> Tensor:
        return self.conv(torch.relu(self.conv(x)))


class Grouped(Toy):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, groups=2, bias=False), nn.BatchNorm2d(8), nn.ReLU())

    def middle(self, x: Tensor) -> Tensor:
        return self.conv(x)


class Normed(Toy):
    """A norm over the channels: its statistics change with every channel that goes."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(8)

    def middle(self, x: Tensor) -> Tensor:
        return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class GroupNormed(Toy):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(2, 8)

    def middle(self, x: Tensor) -> Tensor:
        return self.norm(x)


class Shuffled(Toy):
    """Channels change places and halves part, as in ShuffleNet."""

    def middle(self, x: Tensor) -> Tensor:
        x = x.view(len(x), 2, 4, *x.shape[2:]).transpose(1, 2).reshape(x.shape)
        left, right = x.chunk(2, 1)
        return torch.cat([torch.tanh(left), right], 1)


class Softmax(Toy):
    def middle(self, x: Tensor) -> Tensor:
        return x.softmax(1)


class Centred(Toy):
    def middle(self, x: Tensor) -> Tensor:
        return x - x.mean(1, keepdim=True)


class Counted(Toy):
    def middle(self, x: Tensor) -> Tensor:
        return x * x.shape[1]


class Shifted(Toy):
    """Zero in, not zero out: what masking leaves is not what removal leaves."""

    def middle(self, x: Tensor) -> Tensor:
        return x + 1


class Asserting(Toy):
    def middle(self, x: Tensor) -> Tensor:
        assert x.shape[1] == 8, "eight channels, please"
        return x


class Sliced(Toy):
    width = 5

    def middle(self, x: Tensor) -> Tensor:
        return x[:, 3:]


class Learned(Toy):
    """A bare parameter per channel."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.randn(8, 1, 1))

    def middle(self, x: Tensor) -> Tensor:
        return x * self.scale


class Unbundled(Toy):
    """Each of the four conv-groups reads two channels and makes one: the library takes it for a depthwise one."""

    width = 4

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 4, 3, padding=1, groups=4)

    def middle(self, x: Tensor) -> Tensor:
        return self.conv(x)


class OfTheImage(Toy):
    """A grouped convolution whose inputs are the image's bands."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1, groups=3), nn.ReLU(), nn.Conv2d(6, 8, 1), nn.ReLU())


class Patterned(Toy):
    """A bare parameter with a value per channel and row."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.randn(8, 12, 1))

    def middle(self, x: Tensor) -> Tensor:
        return x * self.scale


def toy(kind: type[Toy], randomise: Callable[[nn.Module], nn.Module]) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        net = randomise(kind())
    net.head.weight.data *= 20  # logits of some size: what is wrong shows
    return net


def half_of(group: Group) -> RemoveChannels:
    """Every other channel."""
    return RemoveChannels(group.name, tuple(range(0, group.channels, 2)))


NO_COST = Cost(0, 0, 0)


@pytest.mark.parametrize("kind", [Dense, Residual, Depthwise, Flat, Plain, Grouped, Normed, Learned])
def test_toy_nets_lose_half_of_every_group(kind: type[Toy], images: Any, randomise: Any) -> None:
    net, example = toy(kind, randomise), torch.zeros(1, 3, 12, 12)
    graph = trace(net, example)
    assert not graph.refused
    made = Plan(tuple(half_of(group) for group in graph.groups), NO_COST)
    small = check_exact(net, made, graph, images(3, 12))
    cost = CostModel(net, graph.groups, example)
    kept = cost.channels - [len(edit.channels) for edit in made.edits]
    assert measure(small, example) == (cost.predict(kept).macs, cost.predict(kept).params)
    assert not stale(small)
    for group in graph.groups:  # and each group alone
        check_exact(net, Plan((half_of(group),), NO_COST), graph, images(3, 12))


@pytest.mark.parametrize("kind", [Dense, Residual, Depthwise, Flat, Plain, ConcatDepthwise, Grouped, Learned])
def test_gates_fit_their_places_in_toy_nets(kind: type[Toy], images: Any, randomise: Any) -> None:
    from rs_prune.pruning.gate import attach, observe

    net = toy(kind, randomise)
    graph = trace(net, torch.zeros(1, 3, 12, 12))
    for place in (place for group in graph.places(shortcuts=True) for place in group):
        assert place.channels == net.get_submodule(place.layer).weight.shape[0], place
    attach(net, graph.places(), SE(min_hidden=2))
    observe(net, [{"image": images(4, 12)}])
    made = Plan(tuple(half_of(group) for group in graph.groups), NO_COST)
    with torch.no_grad():
        cut = detach(remove(net, made, graph.groups))(images(3, 12))
        masked = mask(detach(net), made, graph.groups)(images(3, 12))
    torch.testing.assert_close(cut, masked, atol=TOLERANCE, rtol=TOLERANCE)


@pytest.mark.parametrize(
    "kind",
    [
        Unscaled, Shared, ConcatDepthwise, GroupNormed, Shuffled, Softmax, Centred, Counted, Shifted, Asserting, Sliced,
        Unbundled, OfTheImage, Patterned,
    ],
)  # fmt: skip
def test_hard_nets_are_pruned_exactly_or_refused_by_name(kind: type[Toy], images: Any, randomise: Any) -> None:
    """Never a wrong net, never a foreign error: either removal equals masking, or one line names the layer."""
    net = toy(kind, randomise)
    try:
        graph = trace(net, torch.zeros(1, 3, 12, 12))
    except RsPruneError as refusal:
        assert kind.__name__ in str(refusal)
        return
    for group in graph.groups:
        made = Plan((half_of(group),), NO_COST)
        try:
            mask_error(net, made, graph.groups, images(3, 12), TOLERANCE)
        except RsPruneError as refusal:
            assert group.name in str(refusal)
        else:
            check_exact(net, made, graph, images(3, 12))


@pytest.mark.parametrize("kind", [Softmax, Centred, Counted, Shifted])
def test_a_net_that_notices_the_removal_is_refused_naming_the_layer(
    kind: type[Toy], images: Any, randomise: Any
) -> None:
    net = toy(kind, randomise)
    graph = trace(net, torch.zeros(1, 3, 12, 12))
    made = Plan(tuple(half_of(group) for group in graph.groups), NO_COST)
    assert {edit.group for edit in made.edits} == {"first.0", "last.0"}
    with pytest.raises(RsPruneError, match=rf"{kind.__name__} cannot be pruned exactly at layer first\.0"):
        mask_error(net, made, graph.groups, images(3, 12), TOLERANCE)


@pytest.mark.parametrize(
    ("kind", "whole"),
    [
        (GroupNormed, r"norm \(GroupNorm\) mixes its channels"),
        (Unbundled, "grouped convolution with fewer outputs than inputs"),
        (Patterned, "more than one value per channel"),
    ],
)
def test_what_mixes_channels_is_left_whole(kind: type[Toy], whole: str, images: Any, randomise: Any) -> None:
    net = toy(kind, randomise)
    graph = trace(net, torch.zeros(1, 3, 12, 12))
    assert [group.name for group in graph.groups] == ["last.0"]
    assert any(re.search(whole, reason) for reason in graph.refused.values())
    check_exact(net, Plan((half_of(graph.groups[0]),), NO_COST), graph, images(3, 12))


@pytest.mark.parametrize(
    "name", ["regnetx_002", "test_nfnet", "test_byobnet", "test_mambaout", "test_efficientnet_evos"]
)
def test_grouped_and_layer_norm_nets_of_timm(name: str, make_net: Any, images: Any, random_scores: Any) -> None:
    """What cannot be cut exactly stays as wide as it was; the rest is cut exactly, or refused by name."""
    net, example = make_net(name), torch.zeros(1, 3, 64, 64)
    graph = trace(net, example)
    made = Plan(tuple(half_of(group) for group in graph.groups), NO_COST)
    try:
        small = check_exact(net, made, graph, images(2))
    except RsPruneError as refusal:
        assert any(group.name in str(refusal) for group in graph.groups)
        return
    assert not stale(small)
    for layer in graph.refused:
        assert small.get_submodule(layer).weight.shape[0] == net.get_submodule(layer).weight.shape[0]


@pytest.mark.parametrize("name", ["test_efficientnet_gn", "test_efficientnet_ln"])
def test_nets_with_nothing_to_remove_are_refused(name: str, make_net: Any) -> None:
    with pytest.raises(RsPruneError, match=r"no channels that can be pruned|cannot be traced"):
        trace(make_net(name, random=False), torch.zeros(1, 3, 64, 64))


def test_an_untraceable_net_is_refused() -> None:
    class Broken(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise ValueError("no forward")

    with pytest.raises(RsPruneError, match="Broken cannot be traced"):
        trace(Broken(), torch.zeros(1, 3, 8, 8))


def test_tracing_leaves_the_net_as_it_was(make_net: Any) -> None:
    net = make_net("resnet_narrow").train()
    next(net.parameters()).requires_grad_(False)
    flags = [parameter.requires_grad for parameter in net.parameters()]
    before = copy.deepcopy(net.state_dict())
    trace(net, torch.zeros(1, 3, 64, 64))
    assert net.training
    assert [parameter.requires_grad for parameter in net.parameters()] == flags
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


# ------------------------------------------------------------------------------- planted faults


def with_touched(group: Group, layer: str, change: Callable[[Any], Any]) -> Group:
    touched = tuple(change(t) if (t.layer, t.side) == (layer, "in") else t for t in group.touched)
    return dataclasses.replace(group, touched=tuple(t for t in touched if t is not None))


def rolled(touched: Any) -> Any:
    return dataclasses.replace(touched, index=touched.index[1:] + touched.index[:1])


@pytest.mark.parametrize("fault", [rolled, lambda touched: None], ids=["wrong channels", "a layer forgotten"])
def test_a_wrong_graph_is_refused_naming_the_group(fault: Any, traced: Any, plan: Any, images: Any) -> None:
    net = traced("resnet_narrow")
    made = plan(net.graph, net.cost, 0.5)
    victim = "layer2.0.conv1"
    groups = [
        with_touched(group, "layer2.0.conv2", fault) if group.name == victim else group for group in net.graph.groups
    ]
    assert groups != list(net.graph.groups)
    assert any(edit.group == victim for edit in made.edits)
    with pytest.raises(RsPruneError, match=r"cannot be pruned exactly at layer layer2\.0\.conv1") as refusal:
        mask_error(net.net, made, groups, images(2), TOLERANCE)
    assert "\n" not in str(refusal.value)


def test_the_tolerance_is_kept(traced: Any, plan: Any, images: Any) -> None:
    """A tolerance below rounding refuses even a right cut: the comparison is made."""
    net = traced("resnet_narrow")
    made = plan(net.graph, net.cost, 0.5)
    error = mask_error(net.net, made, net.graph.groups, images(2), 1e-4)
    if error:
        with pytest.raises(RsPruneError):
            mask_error(net.net, made, net.graph.groups, images(2), 0.0)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("resnet18", {}),
        ("resnet50", {}),
        ("mobilenetv3_small_100", {}),
        ("efficientnet_b0", {}),
        ("test_convnext", {}),
        ("regnety_002", {}),
        ("densenet121", {"block_config": (2, 2, 2, 2)}),
    ],
)
def test_noted_feature_widths_are_those_of_the_pruned_net(name: str, shape: dict[str, Any]) -> None:
    net = timm.create_model(name, num_classes=4, **shape).eval()
    before = [note["num_chs"] for note in net.feature_info]
    example = torch.zeros(1, 3, 64, 64)
    graph = trace(net, example)
    edits = tuple(RemoveChannels(group.name, tuple(range(group.channels // 3))) for group in graph.groups)
    small = remove(net, Plan(edits, CostModel(net, graph.groups, example).dense()), graph.groups)
    widths: dict[str, int] = {}
    for note in small.feature_info:
        small.get_submodule(note["module"]).register_forward_hook(
            lambda _, __, out, module=note["module"]: widths.__setitem__(module, out.shape[1])
        )
    small(example)
    assert [note["num_chs"] for note in small.feature_info] == [widths[note["module"]] for note in small.feature_info]
    assert [note["num_chs"] for note in small.feature_info] != before
    assert [note["num_chs"] for note in net.feature_info] == before
