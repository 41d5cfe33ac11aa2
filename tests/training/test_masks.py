"""When masks change, what an exchange takes and gives, and what gradients say of what is masked."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import timm
import torch
from test_fit import make_data
from torch import Tensor, nn
from torch.nn import functional as F

from rs_prune.contracts import Plan, RemoveChannels
from rs_prune.errors import DoesNotApply, RsPruneError
from rs_prune.pruning.graph import Graph, trace
from rs_prune.pruning.masking import hold, mask_in, masked_channels, masks, original, pack
from rs_prune.training.masks import GradualMasks, checked_updates, open_all, settled, update_steps, zero_masked
from rs_prune.training.regrowth import SLIT, effect, exchange_channels, exchange_weights, exchanged, slit_open


def net_and_graph() -> tuple[nn.Module, Graph]:
    """Two convolutions with norms and rectifiers, one without a norm; in float64."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(2, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(),
        nn.Conv2d(4, 6, 3, bias=False), nn.BatchNorm2d(6), nn.ReLU(),
        nn.Conv2d(6, 5, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 3),
    ).double()  # fmt: skip
    for norm in (net[1], net[4]):
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.uniform_(norm.bias, -0.5, 0.5)
    return net, trace(net, torch.zeros(1, 2, 16, 16).double())


def channel_plan(**gone: tuple[int, ...]) -> Plan:
    return Plan(tuple(RemoveChannels(name[1:], channels) for name, channels in gone.items()), predicted=None)  # type: ignore[arg-type]


def a_batch() -> dict[str, Tensor]:
    batch = next(make_data().batches("train", limit=24))
    return {**batch, "image": batch["image"].double()}


# ------------------------------------------------------------------------------------------ when


def test_updates_are_spread_over_the_steps() -> None:
    assert update_steps(100, 0.6, 3) == {0: 0, 20: 1 / 3, 40: 2 / 3, 60: 1}
    assert update_steps(10, 0.5, 4) == {0: 0, 2: 0.25, 3: 0.5, 4: 0.75, 5: 1}


def test_where_steps_are_few_updates_fall_together_and_the_last_still_comes() -> None:
    assert update_steps(4, 0.5, 10) == {0: 0, 1: 0.5, 2: 1}
    assert update_steps(2, 1.0, 10) == {0: 0, 1: 1}
    assert update_steps(1, 0.6, 10) == {0: 1}
    assert max(update_steps(50, 1.0, 7)) == 49  # before the last step


@pytest.mark.parametrize(("until", "epochs", "expected"), [(0.6, 10, 6), (0.6, 12, 8), (0.75, 3, 3), (1.0, 4, 4)])
def test_masks_settle_at_the_end_of_an_epoch(until: float, epochs: int, expected: int) -> None:
    assert settled(until, epochs) == expected
    steps = 7
    first_selected = min(expected, epochs - 1)
    assert max(update_steps(epochs * steps, until, 10)) < (first_selected + 1) * steps


def test_what_stays_falls_as_a_cubic() -> None:
    share = GradualMasks(None, keep=0.2, until=0.6, updates=10, epochs=3).share  # type: ignore[arg-type]
    assert [share(along) for along in (0, 0.25, 0.5, 1)] == pytest.approx([1, 0.5375, 0.3, 0.2])
    assert share(1.0) == 0.2


@pytest.mark.parametrize(("until", "updates"), [(0, 1), (1.1, 1), (-0.2, 1), (0.5, 0), (0.5, 1.5)])
def test_impossible_updates_are_refused(until: float, updates: Any) -> None:
    with pytest.raises(RsPruneError, match=r"schedule\.(until|updates)="):
        checked_updates(until, updates)


# ------------------------------------------------------------------------------------------ soft


def test_filters_of_masked_channels_are_zeroed_and_their_norms_are_not() -> None:
    net, graph = net_and_graph()
    before = copy.deepcopy(net)
    net = hold(net, channel_plan(_0=(1,), _6=(0, 4)), graph)
    zero_masked(net, graph)
    open_all(net)
    assert net[0].weight[1].abs().sum() == 0
    assert torch.equal(net[0].weight[[0, 2, 3]], before[0].weight[[0, 2, 3]])
    assert torch.equal(net[1].weight, before[1].weight)
    assert net[6].weight[[0, 4]].abs().sum() == 0  # no norm follows: the convolution itself is masked
    assert torch.equal(net[6].weight[1:4], before[6].weight[1:4])
    assert torch.equal(net[3].weight, before[3].weight)


def test_masked_weights_are_zeroed() -> None:
    net, graph = net_and_graph()
    keep = torch.rand(net[3].weight.shape, generator=torch.Generator().manual_seed(1)) > 0.5
    before = net[3].weight.detach().clone()
    net = hold(net, Plan((pack("3", keep),), predicted=None), graph)  # type: ignore[arg-type]
    zero_masked(net, graph)
    open_all(net)
    assert torch.equal(net[3].weight, before * keep)


# --------------------------------------------------------------------------------------- dynamic


def test_an_exchange_by_hand() -> None:
    keep = torch.tensor([[True, True, True], [True, False, False]])
    strength = torch.tensor([[3.0, 1.0, 2.0], [4.0, 9.0, 9.0]])
    growth = torch.tensor([[9.0, 0.5, 9.0], [9.0, 0.1, 0.7]])
    half = exchanged(keep, strength, growth, 0.5)  # 1.0 and 2.0 go; 9.0 (just gone) and 0.7 come
    assert half.tolist() == [[True, False, True], [True, False, True]]
    quarter = exchanged(keep, strength, growth, 0.49)
    assert quarter.tolist() == [[True, False, True], [True, False, True]]
    assert exchanged(keep, strength, growth, 0.24).equal(keep)


@pytest.mark.parametrize("share", [0.1, 0.3, 0.9, 1.0])
@pytest.mark.parametrize("kept", [1, 7, 40, 59, 60])
def test_an_exchange_never_changes_how_many_are_kept(kept: int, share: float) -> None:
    draw = torch.Generator().manual_seed(kept)
    keep = (torch.randperm(60, generator=draw) < kept).view(3, 20)
    new = exchanged(keep, torch.rand(3, 20, generator=draw), torch.zeros(3, 20), share)  # no growth is better
    assert int(new.sum()) == kept


def test_the_effect_of_a_masked_channel_is_what_opening_it_a_little_does_to_the_loss() -> None:
    net, graph = net_and_graph()
    gone = {"0": (1, 3), "3": (0, 5), "6": (2,)}
    net = hold(net, channel_plan(_0=gone["0"], _3=gone["3"], _6=gone["6"]), graph)
    batch = a_batch()
    seen = slit_open(net, batch, F.cross_entropy)
    step = 1e-6
    with torch.no_grad():
        closed = F.cross_entropy(net(batch["image"]), batch["label"])
        for group in graph.groups:
            found = effect(seen, group, graph)
            for channel in gone[group.name]:
                ajar = copy.deepcopy(net)
                for layer, _, _, mask in masks(ajar):
                    if layer == {"0": "1", "3": "4", "6": "6"}[group.name]:
                        mask.mask[channel] = step
                change = (F.cross_entropy(ajar(batch["image"]), batch["label"]) - closed) / step
                assert float(change.abs()) > 1e-5
                assert float(found[channel]) == pytest.approx(float(change.abs()), rel=1e-2)


def test_gradients_behind_masks_leave_the_net_alone() -> None:
    net, graph = net_and_graph()
    net = hold(net, channel_plan(_0=(1,)), graph)
    before = copy.deepcopy(net.state_dict())
    seen = slit_open(net, a_batch(), F.cross_entropy)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(parameter.grad is None for parameter in net.parameters())
    assert mask_in(seen[1], "weight").mask.tolist() == [1, SLIT, 1, 1]
    assert not seen[0]._forward_hooks


def test_weights_are_exchanged_by_magnitude_and_gradient() -> None:
    net, graph = net_and_graph()
    weight = net[3].weight
    keep = torch.rand(weight.shape, generator=torch.Generator().manual_seed(1)) > 0.6
    net = hold(net, Plan((pack("3", keep),), predicted=None), graph)  # type: ignore[arg-type]
    batch = a_batch()
    open_ = copy.deepcopy(net)  # by hand: the gradient of the weight that the net computes with
    product = original(open_[3], "weight").detach() * keep
    open_[3].parametrizations["weight"][0].mask.fill_(1)
    original(open_[3], "weight").data = product
    F.cross_entropy(open_(batch["image"]), batch["label"]).backward()
    gradient = original(open_[3], "weight").grad.abs()

    exchange_weights(net, slit_open(net, batch, F.cross_entropy), 0.3)
    new = mask_in(net[3], "weight").mask != 0
    count = int(0.3 * int(keep.sum()))
    gone = weight.abs()[keep].sort().values[:count].max()
    assert int(new.sum()) == int(keep.sum())
    assert new[keep & (weight.abs() > gone)].all()  # the large ones stay
    left = ~(keep & (weight.abs() > gone))
    assert gradient[left & new].min() >= gradient[left & ~new].max() * 0.99
    assert (new & ~keep).any()
    assert (net[3].weight[new & ~keep] == 0).all()
    assert torch.equal(net[3].weight[keep & new], weight[keep & new])


def test_channels_are_exchanged_by_filter_norm_and_effect() -> None:
    net, graph = net_and_graph()
    net = hold(net, channel_plan(_3=(0, 5)), graph)
    with torch.no_grad():
        for channel, length in enumerate((9.0, 4.0, 1.0, 3.0, 2.0, 9.0)):
            net[3].weight[channel] *= length / net[3].weight[channel].norm()
    latent = original(net[4], "weight").clone()
    seen = slit_open(net, a_batch(), F.cross_entropy)
    worth = effect(seen, next(group for group in graph.groups if group.name == "3"), graph)
    exchange_channels(net, seen, graph, masked_channels(net, graph), 0.5)
    out = [0, 5, 2, 4]  # what was masked, and the two shortest filters
    back = {out[place] for place in worth[out].argsort(descending=True)[:2].tolist()}
    assert masked_channels(net, graph) == (RemoveChannels("3", tuple(sorted(set(out) - back))),)
    assert torch.equal(original(net[4], "weight"), latent)


# --------------------------------------------------------------------------------------- refused


def test_channels_under_a_norm_over_them_are_not_masked() -> None:
    net = timm.create_model("test_convnext", num_classes=3).eval()
    graph = trace(net, torch.zeros(1, 3, 32, 32))
    with pytest.raises(DoesNotApply, match=r"is a norm over its channels.*one_shot or iterative"):
        hold(net, Plan((RemoveChannels(graph.groups[0].name, (0,)),), predicted=None), graph)  # type: ignore[arg-type]
