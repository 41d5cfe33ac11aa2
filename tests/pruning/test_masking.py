"""Masks: held through training and copies, read back as plans, made permanent without a trace."""

from __future__ import annotations

import base64
import copy
import json
import zlib
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from rs_prune.contracts import Cost, MaskWeights, Plan, RemoveBlock, RemoveChannels
from rs_prune.errors import DoesNotApply, RsPruneError
from rs_prune.pruning.graph import trace
from rs_prune.pruning.masking import (
    bake,
    check_masked,
    hold,
    masked_channels,
    masked_weights,
    masks,
    pack,
    unpack,
)
from rs_prune.pruning.surgery import plan_from

NOTHING = Cost(macs=0, params=0, channels=0)
EXAMPLE = torch.zeros(1, 3, 8, 8)


def plan(*edits: Any) -> Plan:
    return Plan(edits, NOTHING)


def keep_some(shape: torch.Size, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) > 0.5


def step(net: nn.Module, images: Tensor) -> None:
    """One step with momentum and weight decay."""
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    for _ in range(2):
        optimiser.zero_grad()
        net.train()(images).square().mean().backward()
        optimiser.step()


# ------------------------------------------------------------------------------------------ packing


@pytest.mark.parametrize("shape", [(1,), (8,), (9,), (3, 5), (4, 2, 3, 3)])
def test_a_packed_mask_comes_back(shape: tuple[int, ...]) -> None:
    keep = keep_some(torch.Size(shape))
    edit = pack("layer", keep)
    assert edit.shape == shape
    assert torch.equal(unpack(edit), keep)
    stored = json.loads(json.dumps(plan(edit).as_json()))
    assert plan_from(stored).edits == (edit,)


def test_packing_by_hand() -> None:
    edit = pack("a", torch.tensor([[True, False, True], [True, False, False]]))
    assert zlib.decompress(base64.b64decode(edit.kept)) == bytes([0b10110000])


def test_a_mask_of_a_million_weights_is_small() -> None:
    keep = torch.rand(1_200_000, generator=torch.Generator().manual_seed(0)) < 0.1
    assert len(json.dumps(plan(pack("a", keep)).as_json())) < 1_200_000 / 8  # less than a bit a weight, even as text


@pytest.mark.parametrize("kept", ["", "no base64", base64.b64encode(b"no zlib").decode(), 3, None])
def test_what_is_no_mask_is_refused_naming_the_layer(kept: Any) -> None:
    with pytest.raises(RsPruneError, match=r"the mask of layer body\.0 cannot be read"):
        unpack(MaskWeights("body.0", kept, (2, 2)))
    with pytest.raises(RsPruneError, match=r"the mask of layer body\.0 is not one of shape \(3, 3\)"):
        unpack(replace(pack("body.0", torch.ones(2, 2)), shape=(3, 3)))


# ------------------------------------------------------------------------------------- single weights


def test_held_weights_stay_zero_while_the_others_learn(chain: Any, images: Any) -> None:
    net = chain(4, 6, bias=True)
    keep = keep_some(net.body[3].weight.shape)
    held = hold(net, plan(pack("body.3", keep)), trace(net, EXAMPLE))
    assert torch.equal(held.body[3].weight, net.body[3].weight * keep)
    before = held.body[3].weight.detach().clone()
    step(held, images(4, 8))
    assert (held.body[3].weight[~keep] == 0).all()
    assert (held.body[3].weight != before)[keep].all()
    assert not parametrize.is_parametrized(net.body[3])  # the net itself is left as it was


def test_new_masks_replace_the_old_where_they_overlap(chain: Any) -> None:
    net = chain(4, 6)
    graph = trace(net, EXAMPLE)
    one, two = (keep_some(net.body[3].weight.shape, seed) for seed in (1, 2))
    head = keep_some(net.head.weight.shape)
    held = hold(hold(net, plan(pack("body.3", one), pack("head", head)), graph), plan(pack("body.3", two)), graph)
    assert torch.equal(held.body[3].weight, net.body[3].weight * two)
    assert masked_weights(held) == (pack("body.3", two), pack("head", head))
    assert masked_channels(held, graph) == ()


def test_a_filter_without_weights_is_no_removed_channel(chain: Any) -> None:
    """Its bias is left, and the next layer sees it."""
    net = chain(4, 6, norm=False, bias=True)
    graph = trace(net, EXAMPLE)
    keep = torch.ones(net.body[0].weight.shape, dtype=torch.bool)
    keep[1] = False
    held = hold(net, plan(pack("body.0", keep)), graph)
    assert masked_channels(held, graph) == ()
    assert masked_weights(held) == (pack("body.0", keep),)


def test_the_last_mask_of_a_layer_is_checked(chain: Any) -> None:
    net = chain(4, 6)
    one, two = (keep_some(net.body[3].weight.shape, seed) for seed in (1, 2))
    held = bake(hold(net, plan(pack("body.3", two)), trace(net, EXAMPLE)))
    check_masked(held, [plan(pack("body.3", one)), plan(pack("body.3", two))])
    with pytest.raises(RsPruneError, match=r"layer body\.3 holds weights that the plan has taken out"):
        check_masked(held, [plan(pack("body.3", two)), plan(pack("body.3", one))])
    with pytest.raises(RsPruneError, match=r"no layer body\.9 with a weight of shape \(6, 4, 3, 3\)"):
        check_masked(held, [plan(pack("body.9", two))])
    with pytest.raises(RsPruneError, match=r"no layer body\.0 with a weight of shape \(6, 4, 3, 3\)"):
        check_masked(held, [plan(pack("body.0", two))])


# ------------------------------------------------------------------------------------------ channels


@pytest.mark.parametrize("norm", [True, False])
def test_held_channels_are_silent_and_read_back(norm: bool, chain: Any, images: Any) -> None:
    net = chain(4, 6, norm=norm, bias=not norm)
    graph = trace(net, EXAMPLE)
    edits = (RemoveChannels(graph.groups[0].name, (1, 3)),)
    held = hold(net, plan(*edits), graph)
    assert masked_channels(held, graph) == edits
    step(held, images(4, 8))
    quiet = held.body[1 if norm else 0]
    channels = torch.tensor([1, 3])
    assert not quiet.weight[channels].any()
    assert not quiet.bias[channels].any()
    assert quiet.weight[[0, 2]].flatten(1).any(1).all() if not norm else quiet.weight[[0, 2]].all()
    assert masked_channels(held, graph) == edits
    assert masked_weights(held) == () or not norm


def test_blocks_are_not_masked(chain: Any) -> None:
    net = chain(4)
    with pytest.raises(DoesNotApply, match="blocks are removed, not masked"):
        hold(net, plan(RemoveBlock("body")), trace(net, EXAMPLE))


# ------------------------------------------------------------------------------------------- baking


@torch.no_grad()
def test_a_baked_net_is_the_held_one_and_plain(chain: Any, images: Any) -> None:
    net = chain(4, 6, bias=True)
    graph = trace(net, EXAMPLE)
    edits = (RemoveChannels(graph.groups[0].name, (0,)),)
    held = hold(hold(net, plan(*edits), graph), plan(pack("head", keep_some(net.head.weight.shape))), graph)
    held.eval()
    baked = bake(held)
    assert torch.equal(baked(images(3, 8)), held(images(3, 8)))
    assert list(baked.state_dict()) == list(net.state_dict())
    assert [name for name, _ in baked.named_parameters()] == [name for name, _ in net.named_parameters()]
    assert [type(module) for module in baked.modules()] == [type(module) for module in net.modules()]
    assert all(parameter.is_leaf and parameter.requires_grad for parameter in baked.parameters())
    assert not baked.training


def test_copies_of_a_baked_net_live_on(chain: Any, images: Any) -> None:
    """PyTorch's own `remove_parametrizations` would take the weight's property from the class that copies share."""
    net = chain(4, 6)
    graph = trace(net, EXAMPLE)
    held = hold(net, plan(pack("body.3", keep_some(net.body[3].weight.shape))), graph)
    twin = copy.deepcopy(held)
    before = twin(images(2, 8))
    bake(held)
    bake(bake(twin))
    assert torch.equal(twin(images(2, 8)), before)
    assert torch.equal(held(images(2, 8)), before)
    step(twin, images(2, 8))
    assert not torch.equal(twin.body[3].weight, held.body[3].weight)  # and they are two
    assert len(list(masks(held))) == len(list(masks(twin))) == 1

    theirs = copy.deepcopy(held)
    parametrize.remove_parametrizations(theirs.body[3], "weight")
    with pytest.raises(AttributeError):
        held(images(2, 8))


def test_a_held_net_goes_through_a_state_dict(chain: Any) -> None:
    net = chain(4, 6)
    graph = trace(net, EXAMPLE)
    shape = net.body[3].weight.shape
    held = hold(net, plan(pack("body.3", keep_some(shape, 1))), graph)
    other = hold(chain(4, 6), plan(pack("body.3", keep_some(shape, 2))), graph)
    other.load_state_dict(held.state_dict(), strict=True)
    assert torch.equal(other.body[3].weight, held.body[3].weight)
