"""The nets that are supported, each cut to about half: exact, costed to the unit, and trainable afterwards."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from exact import TOLERANCE, stale
from torch.nn import functional as F

from rs_prune.contracts import Plan, RemoveChannels
from rs_prune.pruning.cost import CostModel, measure
from rs_prune.pruning.graph import trace
from rs_prune.pruning.surgery import mask_error, remove

EXAMPLE = torch.zeros(1, 3, 64, 64)
NETS: dict[str, dict[str, Any]] = {  # shallower where depth repeats itself; experiments/support has the whole nets
    "resnet18": {},
    "resnet34": {},
    "resnet50": {"layers": (2, 2, 2, 2)},
    "vgg11_bn": {"mlp_ratio": 1 / 64},
    "vgg16_bn": {"mlp_ratio": 1 / 64},
    "mobilenetv2_100": {},
    "mobilenetv3_small_100": {},
    "efficientnet_b0": {},
    "densenet121": {"block_config": (3, 3, 3, 3)},
    "legacy_seresnet18": {},
    "seresnet18": {},
    "regnety_004": {},
    "resnext50_32x4d": {"layers": (2, 2, 2, 2)},
    "convnext_tiny": {"depths": (1, 1, 2, 1)},
}


@pytest.mark.parametrize("name", NETS)
def test_a_supported_net_is_cut_exactly_and_still_trains(name: str, make_net: Any, images: Any) -> None:
    net = make_net(name, **NETS[name])
    graph = trace(net, EXAMPLE)
    assert not graph.refused
    cost = CostModel(net, graph.groups, EXAMPLE, graph.hidden)
    assert (cost.dense().macs, cost.dense().params) == measure(net, EXAMPLE)
    edits = tuple(
        RemoveChannels(group.name, tuple(range(place % 2, group.channels - 1, 2)))
        for place, group in enumerate(graph.all)
    )
    gone = {edit.group: len(edit.channels) for edit in edits}
    predicted = cost.predict(cost.channels - [gone[name] for name in cost.names])
    assert predicted.macs < 0.5 * cost.dense().macs
    plan = Plan(edits, predicted)
    assert mask_error(net, plan, graph.all, images(2), TOLERANCE) <= TOLERANCE

    small = remove(net, plan, graph.all)
    assert measure(small, EXAMPLE) == (predicted.macs, predicted.params)
    assert not stale(small)
    assert small.num_features == small.forward_features(images(2)).shape[1]
    again = trace(small, EXAMPLE)
    assert CostModel(small, again.groups, EXAMPLE, again.hidden).dense() == predicted

    small.train()
    F.cross_entropy(small(images(4)), torch.arange(4)).backward()
    assert all(
        parameter.grad is not None and parameter.grad.shape == parameter.shape for parameter in small.parameters()
    )
    before = [parameter.detach().clone() for parameter in small.parameters()]
    torch.optim.SGD(small.parameters(), lr=0.1).step()
    moved = [not torch.equal(old, new) for old, new in zip(before, small.parameters(), strict=True)]
    assert sum(moved) > 0.9 * len(moved)
    with torch.no_grad():
        assert small.eval()(images(2)).isfinite().all()
